"""The project's ``kedro run``: Kedro's own with all its options, whose refusals are one readable text."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import CONTEXT_SETTINGS

if TYPE_CHECKING:
    from sentio_kedro.market.formats import Reading

_YAHOO = re.compile(r"[A-Z]{3,6}=X|[A-Z0-9]{1,3}=F")  # symbols of currencies and futures, no FILE=SYMBOL
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


@cli.group()
def bars() -> None:
    """Files of bars: what they are, an environment for them, a check before the run."""


_OF_READING = (
    click.option("--format", help="Format of the files, by name; found out by default."),
    click.option(
        "--symbol", "symbols", multiple=True, help="Symbol of a file that names none; or FILE=SYMBOL, for several."
    ),
    click.option("--symbol-pattern", help="Regular expression of the file name, whose first group is the symbol."),
    click.option("--timezone", help="Zone of stamps that name none, such as America/New_York."),
    click.option("--date-order", type=click.Choice(["dmy", "mdy"]), help="Order of dates such as 03/04/2024."),
    click.option("--prices", type=click.Choice(["as_traded", "adjusted"]), default="as_traded", help="Prices to take."),
    click.option("--column", "columns", multiple=True, help="Another name of a column: THEIRS=OURS."),
    click.option("--table", help="Table of a DuckDB database."),
    click.option("--query", help="SQL query of a DuckDB database."),
    click.option("--calendar", help="Sessions: a name of exchange_calendars such as XNYS, or 24/7."),
    click.option(
        "--asset-class", type=click.Choice(["stock", "etf", "crypto", "fx", "future"]), help="What is traded."
    ),
    click.option(
        "--bar-label", type=click.Choice(["start", "end"]), help="Whether a stamp is the start or end of its bar."
    ),
)


def _of_reading(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OF_READING):
        command = option(command)
    return click.argument("files", nargs=-1, required=True)(command)


def _reading(options: dict[str, Any]) -> Reading:
    """Take the options of reading out of all."""
    from sentio_kedro.market.formats import Reading  # noqa: PLC0415 - pandas, which a run's start does without

    names = options.pop("symbols")
    pairs = [one for one in names if "=" in one and not _YAHOO.fullmatch(one)]
    by_file = dict(_pair("--symbol", one) for one in names) if pairs else None
    columns = dict(_pair("--column", one) for one in options.pop("columns"))
    keys = ("format", "symbol_pattern", "timezone", "date_order", "prices", "table", "query")
    single = names[0] if names and by_file is None else None
    return Reading(symbol=single, symbols=by_file, columns=columns or None, **{key: options.pop(key) for key in keys})


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise click.BadParameter(f"must be NAME=VALUE, was {text!r}.", param_hint=option)
    return name, value


@bars.command(cls=Run)
@_of_reading
@click.option("--json", "as_json", is_flag=True, help="Print plain data, as one line.")
def inspect(files: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Say what files of bars are; nothing is written."""
    from sentio_kedro.adoption.description import Answers, describe  # noqa: PLC0415 - pandas
    from sentio_kedro.adoption.rendering import description_data, description_text  # noqa: PLC0415

    reading = _reading(options)
    described = describe(files, reading, Answers(**options))
    data = json.dumps(description_data(described), ensure_ascii=False) if as_json else ""
    click.echo(data or description_text(described))


@bars.command(cls=Run)
@_of_reading
@click.option("--env", "name", required=True, help="Name of the environment, a folder of conf.")
@click.option("--small", is_flag=True, help="Networks and tests of seconds, for a first try.")
@click.option("--force", is_flag=True, help="Replace an environment of that name.")
def adopt(files: tuple[str, ...], name: str, small: bool, force: bool, **options: Any) -> None:
    """Write an environment for files of bars, or say what must be chosen first."""
    from kedro.utils import find_kedro_project  # noqa: PLC0415

    from sentio_kedro.adoption.adopt import Request  # noqa: PLC0415 - pandas
    from sentio_kedro.adoption.adopt import adopt as write  # noqa: PLC0415
    from sentio_kedro.adoption.description import Answers  # noqa: PLC0415

    reading = _reading(options)
    project = (find_kedro_project(Path.cwd()) or Path.cwd()).absolute()
    click.echo(write(Request(files, name, reading, Answers(**options), small, force), project))


@bars.command(cls=Run)
@click.option("--env", required=True, help="Environment to check.")
def check(env: str) -> None:
    """Check everything that a whole run needs, as the pipeline preflight does."""
    run.main(["--env", env, "--pipeline", "preflight"], standalone_mode=False)
