"""``kedro trader``: commands of the trader. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from sentio_kedro.cli import Run

if TYPE_CHECKING:
    from sentio_kedro.trader.control.steering import Wish


@click.group()
def commands() -> None:
    """Commands beside Kedro's own."""


@commands.group()
def trader() -> None:
    """Let agents trade: replayed bars, paper, or money."""


def _of_environment(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every command has."""
    command = click.option("--json", "as_json", is_flag=True, help="Print plain data, as one line.")(command)
    return click.option("--env", help="Environment whose trader is meant; KEDRO_ENV or local by default.")(command)


def _say(text: str, data: Any, *, as_json: bool) -> None:
    click.echo(json.dumps(data, default=str) if as_json else text)


@trader.command(cls=Run)
@_of_environment
@click.option("--again", is_flag=True, help="Set the journal of an earlier replay aside and replay from the start.")
def run(env: str | None, as_json: bool, again: bool) -> None:
    """Trade until the feed ends or the process is stopped; the same command goes on where it stopped."""
    from sentio_kedro.commands.project import TraderProject  # noqa: PLC0415 - Kedro's session
    from sentio_kedro.commands.runs import run_text, run_trader  # noqa: PLC0415 - torch

    data = run_trader(TraderProject(env), again=again)
    _say(run_text(data), data, as_json=as_json)


@trader.command(cls=Run)
@_of_environment
def doctor(env: str | None, as_json: bool) -> None:
    """Say what would trade: model, feed, clock, limits, account, and the orders of now; nothing is sent."""
    from sentio_kedro.commands.project import TraderProject  # noqa: PLC0415 - Kedro's session
    from sentio_kedro.commands.runs import doctor_text, examine_trader  # noqa: PLC0415 - torch

    data = examine_trader(TraderProject(env))
    _say(doctor_text(data), data, as_json=as_json)


@trader.command(cls=Run)
@_of_environment
@click.option("--seconds", default=60.0, help="When to give up.")
@click.option("--symbol", "symbols", multiple=True, help="Close this alone; everything in the account by default.")
def flatten(env: str | None, as_json: bool, seconds: float, symbols: tuple[str, ...]) -> None:
    """Cancel all orders and close all positions by the venue's credentials alone, then halt the trader."""
    from sentio_kedro.commands.project import TraderProject  # noqa: PLC0415 - Kedro's session
    from sentio_kedro.commands.runs import flatten_text, flatten_trader  # noqa: PLC0415

    data = flatten_trader(TraderProject(env), seconds, symbols)
    _say(flatten_text(data), data, as_json=as_json)
    if not data["flat"]:
        raise SystemExit(1)


@trader.command(cls=Run)
@_of_environment
def status(env: str | None, as_json: bool) -> None:
    """Say what the trader does now: mode, newest bar, equity, positions, open orders, and whether it runs."""
    from sentio_kedro.commands.project import TraderProject  # noqa: PLC0415 - Kedro's session
    from sentio_kedro.trader.clock import SystemClock  # noqa: PLC0415
    from sentio_kedro.trader.control.status import status_text, trader_status  # noqa: PLC0415

    project = TraderProject(env)
    data = trader_status(project.journal, project.parameters, SystemClock())
    _say(status_text(data), data, as_json=as_json)


def _tell(env: str | None, wish: Wish, reason: str, as_json: bool) -> None:
    from sentio_kedro.commands.project import TraderProject  # noqa: PLC0415 - Kedro's session
    from sentio_kedro.trader.clock import SystemClock  # noqa: PLC0415
    from sentio_kedro.trader.control.steering import tell  # noqa: PLC0415

    command = click.get_current_context().command_path
    told = asyncio.run(tell(TraderProject(env).journal, wish, reason, command, SystemClock()))
    _say(told.text(), told.data(), as_json=as_json)
    if told.how == "unanswered":
        raise SystemExit(1)


@trader.command(cls=Run)
@_of_environment
@click.option("--reason", default="by hand", show_default=True, help="Why, for the journal.")
def halt(env: str | None, as_json: bool, reason: str) -> None:
    """Send no order any more, neither to buy nor to sell; positions stay as they are."""
    _tell(env, "halted", reason, as_json)


@trader.command(cls=Run)
@_of_environment
@click.option("--reason", default="by hand", show_default=True, help="Why, for the journal.")
def reduce(env: str | None, as_json: bool, reason: str) -> None:
    """Send only orders that shrink a position; positions stay until the agents reduce them."""
    _tell(env, "reducing", reason, as_json)


@trader.command(cls=Run)
@_of_environment
@click.option("--reason", required=True, help="Why it is safe again, for the journal.")
def resume(env: str | None, as_json: bool, reason: str) -> None:
    """Send orders again, after a halt or a reduction; losses and denials are counted anew."""
    _tell(env, "active", reason, as_json)


@trader.command(cls=Run)
@_of_environment
@click.option("--adopt", metavar="REASON", help="Take the venue's cash and positions over into the journal.")
def reconcile(env: str | None, as_json: bool, adopt: str | None) -> None:
    """Show where venue and journal differed when they were last compared, or adopt what the venue says."""
    if adopt is not None:
        _tell(env, "adopt", adopt, as_json)
        return
    from sentio_kedro.commands.project import TraderProject  # noqa: PLC0415 - Kedro's session
    from sentio_kedro.trader.control.status import comparison, comparison_text  # noqa: PLC0415

    data = comparison(TraderProject(env).journal)
    _say(comparison_text(data), data, as_json=as_json)


@trader.command(cls=Run)
@_of_environment
@click.option(
    "--kind", "kinds", multiple=True, help="Show this kind of events alone, such as filled; several are fine."
)
@click.option("--last", default=20, show_default=True, type=click.IntRange(min=1), help="How many events.")
@click.option("--verify", is_flag=True, help="Check the whole chain of hashes instead.")
def journal(env: str | None, as_json: bool, kinds: tuple[str, ...], last: int, verify: bool) -> None:
    """Show the newest events of the journal, or check that all of them are what was written."""
    from sentio_kedro.commands.project import TraderProject  # noqa: PLC0415 - Kedro's session
    from sentio_kedro.trader.control.status import events_text, newest_events, verified  # noqa: PLC0415

    path = TraderProject(env).journal
    if verify:
        count = verified(path)
        _say(f"All {count} events are what was written.", {"events": count}, as_json=as_json)
        return
    data = newest_events(path, kinds, last)
    _say(events_text(data), data, as_json=as_json)


@trader.command(cls=Run)
@click.option("--env", help="Environment whose trader is watched; KEDRO_ENV or local by default.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port of the page; trader.watch.port by default.")
def watch(env: str | None, port: int | None) -> None:
    """Watch a trader, read only: status page, metrics, alarms, and what is to be done when it dies."""
    from sentio_kedro.commands.project import TraderProject  # noqa: PLC0415 - Kedro's session
    from sentio_kedro.commands.watching import watch_trader  # noqa: PLC0415 - pandas

    watch_trader(TraderProject(env), port, click.echo)
