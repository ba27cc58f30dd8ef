"""Content of ``live_metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from sentio_kedro.config import ReportingParameters, TradingParameters
from sentio_kedro.evaluation.live.account import JournalFrames, LiveAccount
from sentio_kedro.evaluation.live.band import Band, band_metrics, length_note
from sentio_kedro.evaluation.live.bars import LiveBars
from sentio_kedro.evaluation.live.behaviour import (
    action_shares,
    differing_decisions,
    path_trips,
    position_metrics,
    slippage,
)
from sentio_kedro.evaluation.live.split import PARTS, Modelled, Replay
from sentio_kedro.evaluation.measures.targets import measure_targets
from sentio_kedro.evaluation.statistics.bootstrap import (
    Floats,
    automatic_block,
    headline_samples,
    percentile_interval,
    round_trip_samples,
)
from sentio_kedro.trading.performance import maximum_drawdown, sharpe_ratio

JUDGED = ("sharpe", "max_drawdown", "win_rate")
"""Targets that live figures have; the others are of the machine."""


class Comparison(NamedTuple):
    """Live trading beside its backtest.

    Attributes:
        symbols: A assets.
        trading: Costs and levels of the agents.
        frames: Frames of the journal.
        bars: Its bars beside the dataset's.
        account: The live account.
        model: Its trades by the execution step.
        replay: Backtest on the journaled bars.
        delivered: Backtest on the dataset's bars.
        steps: Difference from decision to decision, see ``split_difference``.
        periods_per_year: Bars a year.
        about: ``trader``, ``model`` and ``version``.
    """

    symbols: tuple[str, ...]
    trading: TradingParameters
    frames: JournalFrames
    bars: LiveBars
    account: LiveAccount
    model: Modelled
    replay: Replay
    delivered: Replay
    steps: pd.DataFrame
    periods_per_year: float
    about: Mapping[str, str]


def live_returns(account: LiveAccount) -> Floats:
    """Simple returns of the account from decision to decision ``[T]``, without cash that was moved in."""
    return np.asarray((account.equity[1:] - account.transfers) / account.equity[:-1] - 1.0)


def live_metrics(
    comparison: Comparison, band: Band, tested: Mapping[str, Any], parameters: ReportingParameters
) -> dict[str, Any]:
    """Measure live trading beside its backtest and the out-of-sample record.

    Args:
        comparison: Live and backtest.
        band: Resampled record of the live path's length.
        tested: Content of ``metrics.json``.
        parameters: Bootstrap.
    """
    account, replay, model = comparison.account, comparison.replay, comparison.model
    facts, rows = replay.facts, account.rows
    equity = np.interp(np.arange(len(replay.equity)), rows, account.equity)
    prices = np.concatenate([facts.close[:1], facts.next_close])
    made = account.ordered.value + account.exits.value
    paid = account.ordered.fee + account.ordered.spread + account.exits.fee + account.exits.spread
    sides = {
        "live": (model.shares, equity, made, paid, live_returns(account)),
        "backtest": (replay.shares, replay.equity, replay.value, replay.costs, _returns(replay.equity)),
    }
    metrics: dict[str, Any] = {**comparison.about, **_span(comparison)}
    for name, (shares, worth, value, costs, returns) in sides.items():
        trips = path_trips(shares, value, costs, worth, facts)
        measured = _measured(returns, comparison.periods_per_year)
        measured |= position_metrics(shares, worth, value, trips, prices)
        measured["intervals"] = _intervals(returns, trips, comparison.periods_per_year, parameters)
        metrics[name] = measured
    differing = differing_decisions(comparison.frames.decisions, account, model, replay, comparison.symbols)
    kinds = differing["kind"].value_counts()
    return metrics | {
        "difference": difference_metrics(comparison.steps, account.equity[0]),
        "decisions": {
            "compared": (len(account.stamps) - 1) * len(comparison.symbols),
            "differing": len(differing),
            "kinds": {str(kind): int(count) for kind, count in kinds.sort_index().items()},
        },
        "bars_seen": {"revised": int(comparison.bars.revised.sum()), "missed": int(comparison.bars.missed.sum())},
        "slippage": slippage(comparison.frames.trades, account, model, replay),
        "actions": action_shares(comparison.frames.decisions, replay, account, comparison.trading.levels),
        "positions": _positions(comparison.symbols, model.shares, equity, replay, prices),
        "band": band_metrics(band, metrics["live"]["total_return"], parameters.confidence),
        "targets": _targets(metrics["live"], tested),
        "note": length_note(len(account.stamps) - 1, comparison.periods_per_year, tested["agent"]),
    }


def difference_metrics(steps: pd.DataFrame, equity: float) -> dict[str, Any]:
    """Totals of ``split_difference``: ``money`` in quote currency, and ``fraction`` of the first equity."""
    totals = {name: float(steps[name].sum()) for name in ("live", "backtest", "difference", *PARTS)}
    return {"money": totals, "fraction": {name: value / equity for name, value in totals.items()}}


def _span(comparison: Comparison) -> dict[str, Any]:
    stamps = comparison.account.stamps
    first, last = (f"{np.datetime_as_string(stamps[place], unit='s')}Z" for place in (0, -1))
    bars = len(stamps) - 1
    return {
        **{"first": first, "last": last, "bars": bars, "periods_per_year": comparison.periods_per_year},
        "days": float((stamps[-1] - stamps[0]) / np.timedelta64(1, "D")),
    }


def _returns(equity: Floats) -> Floats:
    return equity[1:] / np.maximum(equity[:-1], 1e-12) - 1.0


def _measured(returns: Floats, periods_per_year: float) -> dict[str, Any]:
    values = torch.from_numpy(np.array(returns))
    enough = len(returns) > 1
    return {
        "total_return": float(np.prod(1.0 + returns) - 1.0),
        "sharpe": float(sharpe_ratio(values, periods_per_year)) if enough else None,
        "max_drawdown": float(maximum_drawdown(values)),
    }


def _intervals(
    returns: Floats, trips: pd.DataFrame, periods_per_year: float, parameters: ReportingParameters
) -> dict[str, list[float]]:
    """Bootstrap intervals of what is judged; none where there are too few bars."""
    if len(returns) < 2:  # noqa: PLR2004 - a deviation needs two
        return {}
    block, count = parameters.bootstrap_block or automatic_block(returns), parameters.bootstrap_samples
    rng = np.random.default_rng(parameters.seed)
    samples = headline_samples(returns[:, None], periods_per_year, count, block, rng)
    found = {name: samples[name][:, 0] for name in ("sharpe", "max_drawdown", "total_return")}
    if len(trips):
        sums = np.zeros((3, len(returns), 1))
        place = np.minimum(trips["entry"].to_numpy(), len(returns) - 1)
        won = trips["pnl"].to_numpy() > 0.0
        for table, each in zip(sums, (np.ones(len(trips)), won, trips["return"].to_numpy()), strict=True):
            np.add.at(table[:, 0], place, each)
        rng = np.random.default_rng(parameters.seed)
        found["win_rate"] = round_trip_samples(sums, count, block, rng)["win_rate"][:, 0]
    return {name: list(percentile_interval(values, parameters.confidence)) for name, values in found.items()}


def _targets(live: Mapping[str, Any], tested: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The five targets: measured live and out of sample, each with its interval."""
    record = {entry["name"]: entry for entry in tested["targets"]}
    entries = []
    for entry in measure_targets({name: live[name] for name in (*JUDGED, "trades")}):
        name = entry["name"]
        judged = name in JUDGED
        entries.append(
            entry
            | {
                "note": entry["note"].replace("out of sample", "live"),
                "interval": live["intervals"].get(name) if judged and entry["measured"] is not None else None,
                "tested": record[name]["measured"],
                "tested_met": record[name]["met"],
                "tested_interval": tested["agent"].get("intervals", {}).get(name) if judged else None,
            }
        )
    return entries


def _positions(
    symbols: Sequence[str], shares: Floats, equity: Floats, replay: Replay, prices: Floats
) -> list[dict[str, Any]]:
    """Mean and last position by symbol, live and in the backtest."""
    entries = []
    for place, symbol in enumerate(symbols):
        live = shares[:, place] * prices[:, place] / np.maximum(equity, 1e-12)
        tested = replay.shares[:, place] * prices[:, place] / np.maximum(replay.equity, 1e-12)
        entries.append(
            {
                "symbol": symbol,
                "live": float(live.mean()),
                "backtest": float(tested.mean()),
                "live_gross": float(np.abs(live).mean()),
                "backtest_gross": float(np.abs(tested).mean()),
                "live_shares": float(shares[-1, place]),
                "backtest_shares": float(replay.shares[-1, place]),
            }
        )
    return entries
