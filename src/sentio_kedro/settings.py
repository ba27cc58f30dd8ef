"""Kedro's settings of this project."""

import warnings

# Kedro 1.7 and kedro-mlflow 2.0 cause these themselves at every start; nobody who runs the project can act on them.
warnings.filterwarnings("ignore", message=r".*type hints to the `predict` method", category=UserWarning)
warnings.filterwarnings("ignore", message=r"register_new_resolver\(\) is deprecated", category=UserWarning)

from kedro.config import OmegaConfigLoader  # noqa: E402 - the filters come first

from sentio_kedro.hooks import StageManifests  # noqa: E402
from sentio_kedro.pipelines.tracking_hook import MlflowTracking  # noqa: E402

_MANIFESTS = StageManifests()
HOOKS = (_MANIFESTS, MlflowTracking(_MANIFESTS))
# MlflowTracking does the plugin's work.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow", "kedro_mlflow")

CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
    # An environment changes single keys of a section; the rest stays as in base.
    "merge_strategy": {"parameters": "soft", "mlflow": "soft"},
}
