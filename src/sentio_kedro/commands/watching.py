"""``kedro trader watch``: the watching process with what the environment gives it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Any

from pydantic import SecretStr, TypeAdapter

from sentio_kedro.commands.project import TraderProject
from sentio_kedro.config import FeatureParameters, TradingParameters
from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.evaluation.live.band import record_returns
from sentio_kedro.trader.clock import SystemClock
from sentio_kedro.trader.contract import Broker
from sentio_kedro.trader.flatten import flatten
from sentio_kedro.trader.launch.build import broker_of
from sentio_kedro.trader.watch.alarms.notify import Notifier, targets_of
from sentio_kedro.trader.watch.band import Band, band_of
from sentio_kedro.trader.watch.drift import DriftMeter, calibrate, watchable
from sentio_kedro.trader.watch.metrics import Surroundings
from sentio_kedro.trader.watch.served.server import Shown, WatchServer
from sentio_kedro.trader.watch.view import DAY
from sentio_kedro.trader.watch.watching import Watch

logger = logging.getLogger(__name__)


def watch_trader(project: TraderProject, port: int | None, say: Callable[[str], None]) -> None:
    """Watch until the process is stopped.

    Args:
        project: The environment.
        port: To listen on; null is that of the parameters.
        say: Told the address.

    Raises:
        ValueError: If a parameter is refused, or the port is taken.
    """
    parameters, clock = project.parameters, SystemClock()
    trading = TypeAdapter(TradingParameters).validate_python(project.configuration["parameters"]["trading"])
    secrets = project.credentials(parameters.broker.credentials)
    addresses = _addresses(project, parameters)
    notifier = Notifier(
        parameters.name, targets_of(parameters.watch.notify, addresses), [*secrets.values(), *addresses.values()]
    )
    meter = _meter(project, parameters, trading)
    around = Surroundings(
        parameters=parameters,
        band=_band(project),
        cost_bps=float(trading.costs.half_spread_bps) if trading.costs.half_spread == "constant" else None,
        reference=meter.reference if meter else None,
        tested_share=_tested_share(project, parameters.fold),
    )

    def broker() -> Broker:
        view = watch.seen.view
        return broker_of(parameters, secrets, sorted(view.closes), view.bar_seconds or DAY, clock)

    async def without_positions(venue: Broker) -> bool:
        done = await flatten(venue, clock, parameters.name, sorted(watch.seen.view.closes) or None)
        return done.flat

    acts = parameters.broker.type != "simulated"
    watch = Watch(
        project.journal, around, clock, notifier, broker if acts else None, without_positions, meter, trading.calendar,
    )  # fmt: skip
    chosen = parameters.watch.port if port is None else port
    shown = Shown(lambda: watch.seen, clock.now, project.env or "")
    try:
        server = WatchServer(parameters.watch.host, chosen, shown)
    except OSError as error:
        raise ValueError(
            f"`trader.watch.port` must be free on {parameters.watch.host}, was {chosen} ({error.strerror}); another "
            "watch may run already. Name another one: kedro trader watch --port=9109."
        ) from error
    say(f"Watching {project.journal.name} at http://{parameters.watch.host}:{server.port}/ (stop with Ctrl-C).")
    try:
        asyncio.run(_until_stopped(watch))
    finally:
        server.close()
        watch.close()


async def _until_stopped(watch: Watch) -> None:
    """Look until SIGINT or SIGTERM; a death that is being treated is treated to its end."""
    task, loop = asyncio.ensure_future(watch.run()), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        await watch.settled()


def _addresses(project: TraderProject, parameters: TraderParameters) -> dict[str, SecretStr]:
    """Return the addresses of ``trader.watch.notify`` that are entries of the credentials, by name."""
    names = [entry for entry in parameters.watch.notify if "://" not in entry]
    return {name: project.credentials(name).get("url", SecretStr("")) for name in names}


def _band(project: TraderProject) -> Band | None:
    """Return the backtest's band; None, and a line in the log, where there was no backtest."""
    returns = _loaded(project, "test_returns")
    return None if returns is None else band_of(record_returns(returns))


def _tested_share(project: TraderProject, fold: int | None) -> float | None:
    """Return the largest share of one action in the backtest of a fold, null being the last; None without actions."""
    actions = _loaded(project, "actions")
    if actions is None:
        return None
    counts = (
        actions[actions["fold"] == (actions["fold"].max() if fold is None else fold)].groupby("action")["count"].sum()
    )
    return float(counts.max() / counts.sum()) if counts.sum() else None


def _meter(project: TraderProject, parameters: TraderParameters, trading: TradingParameters) -> DriftMeter | None:
    """Calibrate drift on the train rows of the environment's agents; None where they are too few, or not here."""
    features, folds = _loaded(project, "features"), _loaded(project, "folds")
    if features is None or folds is None or parameters.model != "agents":
        return None
    section = TypeAdapter(FeatureParameters).validate_python(project.configuration["parameters"]["features"])
    columns = watchable(section.columns)
    fold = folds.folds[-1 if parameters.fold is None else parameters.fold]
    numbers = [list(features.names).index(column.name) for column in columns]
    rows = [row for span in fold.train for row in range(span.start, span.stop)]
    reference = calibrate([column.name for column in columns], features.values[rows][..., numbers])
    if reference is None:
        logger.info("Drift of features is not watched: the agents' train bars are too few to calibrate its limits.")
        return None
    return DriftMeter(reference, columns, features.symbols, trading.calendar)


def _loaded(project: TraderProject, name: str) -> Any:
    """Return a dataset; None, and a line in the log, if it was not made."""
    try:
        return project.load(name)
    except ValueError:
        logger.info("The dataset `%s` is not there: what is compared with it is not watched.", name)
        return None
