"""Fail the command after a refused promotion; the pipeline itself has finished and recorded it."""

from __future__ import annotations

from typing import Any

import click
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

DECISION = "registry_decision"
"""Dataset of the decision; importing it from the pipeline would import torch for every kedro command."""


class RefusedPromotions:
    """Ends a command with exit code 1 and the reasons if the challenger was refused."""

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Fail the command, not the run, if the challenger was refused.

        Raises:
            click.ClickException: On the command line, if a challenger was refused.
        """
        if DECISION not in pipeline.all_outputs() or click.get_current_context(silent=True) is None:
            return
        record = catalog[DECISION].load()
        if record["decision"] == "refused":
            reasons = "\n".join(f"- {reason}" for reason in record["reasons"])
            raise click.ClickException(f"Version {record['version']} of `{record['model']}` was refused:\n{reasons}")
