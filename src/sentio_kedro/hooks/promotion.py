"""The command line learns of a refused promotion: the pipeline has finished and recorded it, the command fails."""

from __future__ import annotations

from typing import Any

import click
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from sentio_kedro.pipelines.promotion.pipeline import DECISION


class RefusedPromotions:
    """Ends a command with exit code 1 and the reasons where the challenger was refused, so that scripts can stop."""

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Fail the command, not the run, if the decision was no.

        Args:
            run_params: Kedro's record of the command line.
            pipeline: What ran.
            catalog: The run's catalog.

        Raises:
            click.ClickException: On the command line, if a challenger was refused.
        """
        if DECISION not in pipeline.all_outputs() or click.get_current_context(silent=True) is None:
            return
        record = catalog[DECISION].load()
        if record["decision"] == "refused":
            reasons = "\n".join(f"- {reason}" for reason in record["reasons"])
            raise click.ClickException(f"Version {record['version']} of `{record['model']}` was refused:\n{reasons}")
