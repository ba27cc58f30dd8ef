"""Kedro's settings of this project."""

import logging

from kedro.config import OmegaConfigLoader

from sentio_kedro.durations import bars
from sentio_kedro.hooks.manifests import StageManifests
from sentio_kedro.hooks.preflight import Preflight
from sentio_kedro.hooks.promotion import RefusedPromotions
from sentio_kedro.hooks.tracking import MlflowTracking
from sentio_kedro.resolvers import symbols_table

# kedro-mlflow sets its own level when it is imported, over what conf/logging.yml says.
logging.getLogger("kedro_mlflow").setLevel(logging.WARNING)

_MANIFESTS = StageManifests()
# Of hooks that come first, the last one comes before the others.
HOOKS = (_MANIFESTS, MlflowTracking(_MANIFESTS), RefusedPromotions(), Preflight())
# MlflowTracking does the plugin's work.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow", "kedro_mlflow")

CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
    "custom_resolvers": {"bars": bars, "symbols_table": symbols_table},
    # An environment changes single keys of a section; the rest stays as in base.
    "merge_strategy": {"parameters": "soft", "mlflow": "soft"},
}
