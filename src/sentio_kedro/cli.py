"""The project's ``kedro run``: Kedro's own with all its options, whose refusals are one readable text."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import CONTEXT_SETTINGS

_RUNNERS = ("kedro.runner.sequential_runner", "kedro.runner.thread_runner")


class Refusal(click.ClickException):
    """The text that the command line shows; the error that was raised is its cause."""


class Run(click.Command):
    """A command that shows refusals without a traceback and exits with 1; faults of the code keep theirs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options, and those of ``--config``."""
        with readable_refusals():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the pipelines."""
        with readable_refusals(), _without_resume_suggestions():
            return super().invoke(ctx)


@contextmanager
def readable_refusals() -> Iterator[None]:
    """Turn a refusal into its text.

    Raises:
        Refusal: If the body raised one. Other errors pass.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        from sentio_kedro.refusals import refusal_text  # noqa: PLC0415 - a run that succeeds needs none

        text = refusal_text(error)
        if text is None:
            raise
        raise Refusal(text) from error


@contextmanager
def _without_resume_suggestions() -> Iterator[None]:
    """Leave out Kedro's ``--from-nodes``: a stage that is resumed in the middle gets no manifest."""

    def wanted(record: logging.LogRecord) -> bool:
        return record.funcName != "_suggest_resume_scenario"

    loggers = [logging.getLogger(name) for name in _RUNNERS]
    for logger in loggers:
        logger.addFilter(wanted)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(wanted)


run = Run("run", params=kedro_run.params, callback=kedro_run.callback, help=kedro_run.help)


@click.group(context_settings=CONTEXT_SETTINGS, name="sentio_kedro")
def cli() -> None:
    """Commands of this project."""


cli.add_command(run)
