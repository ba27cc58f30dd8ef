"""All metrics of a view at a time: what alarms are evaluated on and what Prometheus reads are these same numbers."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from sentio_kedro.config.live.alarms import BAND_PROBABILITY, COLLAPSED, FILLS
from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.trader.sessions import AlwaysOpen, Sessions
from sentio_kedro.trader.watch.band import Band
from sentio_kedro.trader.watch.drift import Reference
from sentio_kedro.trader.watch.view import DAY, View

LATE = 10.0  # seconds that are added to the bars after which a trader counts as dead
STATES = MappingProxyType({"active": 0, "reducing": 1, "halted": 2})
MEDIAN_ERROR = math.sqrt(math.pi / 2.0)  # standard error of a median by that of a mean, normal values
LARGEST = 1e6  # standard errors that are told, where values do not vary
DEVIATION = 1.4826  # standard deviation by the median absolute deviation, normal values


@dataclass(frozen=True)
class Surroundings:
    """What a view is judged by.

    Attributes:
        parameters: Of the trader.
        sessions: Open times of the market.
        band: Of the backtest, if it is known.
        cost_bps: Cost against the close by the model, basis points, for fills that do not say theirs; None if unknown.
        reference: Of the features, if it is known.
        drift: Stability index by feature, if there are enough bars.
        tested_share: Largest share of one action in the backtest, if it is known.
    """

    parameters: TraderParameters = field(default_factory=TraderParameters)
    sessions: Sessions = field(default_factory=AlwaysOpen)
    band: Band | None = None
    cost_bps: float | None = None
    reference: Reference | None = None
    drift: Mapping[str, float] = field(default_factory=dict)
    tested_share: float | None = None


@dataclass(frozen=True)
class Sample:
    """One number.

    Attributes:
        name: Of the metric, without prefix.
        value: In the unit of its name.
        labels: Such as ``symbol``; the trader's name is added when it is shown.
    """

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


HELP = MappingProxyType({
    "watch_up": ("gauge", "1 while the watching process works."),
    "state": ("gauge", "0 active, 1 reducing, 2 halted."),
    "started_total": ("counter", "Starts of the trading process."),
    "session_open": ("gauge", "Whether the market is open."),
    "bar_seconds": ("gauge", "Length of a bar, seconds."),
    "bar_end_timestamp_seconds": ("gauge", "End of the newest bar."),
    "bar_age_bars": ("gauge", "Open time since the newest bar's end, in bars."),
    "heartbeat_timestamp_seconds": ("gauge", "End of the newest bar whose orders are all answered."),
    "heartbeat_age_bars": ("gauge", "Open time since the newest closed bar's end, in bars."),
    "trader_dead": ("gauge", "1 if no bar was closed for dead_after_bars and 10 s of an open session."),
    "equity": ("gauge", "Equity at the newest decision, quote currency."),
    "cash": ("gauge", "Cash, quote currency."),
    "drawdown": ("gauge", "Loss from the highest equity, fraction."),
    "session_loss": ("gauge", "Loss since the session before, fraction."),
    "exposure": ("gauge", "Position, fraction of equity, by symbol; signed."),
    "gross_exposure": ("gauge", "Sum of positions without sign, fraction of equity."),
    "net_exposure": ("gauge", "Sum of positions, fraction of equity."),
    "position_shares": ("gauge", "Position in shares, by symbol; signed."),
    "limit_used": ("gauge", "Share of each limit of trader.limits that is used."),
    "open_orders": ("gauge", "Orders that have not ended."),
    "unknown_orders": ("gauge", "Orders without a definite answer."),
    "orders_total": ("counter", "Answers to orders, by outcome."),
    "denials_total": ("counter", "Orders that a limit forbade, by limit."),
    "fills_total": ("counter", "Executions."),
    "slippage_bps": ("gauge", "Median cost of the last 50 fills against the decision's close, paid and by the model."),
    "slippage_excess_errors": ("gauge", "Slippage beyond the model in standard errors, the least of 25 looks."),
    "band_percentile": ("gauge", "Place of the return since the start in the backtest's resampled returns."),
    "band_ratio": ("gauge", "Distance below the median by what 99.5 % of resampled paths never exceed."),
    "reconcile_mismatch": ("gauge", "Differences of the newest comparison with the venue."),
    "reconcile_timestamp_seconds": ("gauge", "When venue and journal were last compared."),
    "clock_offset_seconds": ("gauge", "Venue's clock less ours at that time."),
    "bar_revisions_total": ("counter", "Bars that came again with other values."),
    "late_bars_total": ("counter", "Bars that came after their decision."),
    "missing_bars_total": ("counter", "Stamps that the feed missed."),
    "feature_psi": ("gauge", "Population stability index of a feature against training."),
    "feature_psi_limit": ("gauge", "What 99 % of train blocks stay below."),
    "feature_drift_ratio": ("gauge", "Worst index by its limit, relative to blocks of training; above 1 is drift."),
    "regime_probability": ("gauge", "Probability of a regime at the newest decision."),
    "action_share": ("gauge", "Share of a level among the actions of the last 500 bars."),
    "action_share_largest": ("gauge", "Largest of them over 500 bars, unless the backtest's was as large."),
    "abstaining": ("gauge", "Whether the agents abstained at the newest decision."),
    "model_info": ("gauge", "Which agents decide."),
    "journal_events_total": ("counter", "Events in the journal."),
})  # fmt: skip
"""Type and meaning of each metric."""


def dead_at(view: View, around: Surroundings) -> float | None:
    """Return the seconds of open time that are left until a trader counts as dead; None where that is not judged.

    A replay's bars are old, and a journal without a start has no trader. A process that has started and closed no bar
    since counts from its first start, so that one that starts again and again is found as well.
    """
    if view.trading in ("", "replay") or view.bar_seconds <= 0.0:
        return None
    bars = around.parameters.watch.dead_after_bars
    return bars * around.sessions.bar_seconds(view.bar_seconds) + LATE


def is_dead(view: View, now: float, around: Surroundings) -> bool:
    """Whether no bar was closed for ``dead_after_bars`` and 10 s of open time; who has died stays dead over night."""
    patience = dead_at(view, around)
    if patience is None:
        return False
    return around.sessions.open_seconds(max(view.closed_at, view.started), now) > patience


def samples(view: View, now: float, around: Surroundings) -> list[Sample]:
    """Return all metrics of a view.

    Args:
        view: What is known.
        now: Seconds since 1970.
        around: What it is judged by.
    """
    parts = (_process, _account, _limits, _orders, _slippage, _feed, _agents)
    found = [sample for part in parts for sample in part(view, now, around)]
    return [sample for sample in found if math.isfinite(sample.value)]


def _process(view: View, now: float, around: Surroundings) -> Iterator[Sample]:
    yield Sample("watch_up", 1.0)
    yield Sample("journal_events_total", view.seq)
    yield Sample("session_open", around.sessions.is_open(now))
    if not view.starts:
        return
    yield Sample("state", STATES[view.mode])
    yield Sample("started_total", view.starts)
    yield Sample("model_info", 1.0, {"model": view.model, "broker": view.broker, "mode": view.trading})
    yield Sample("trader_dead", is_dead(view, now, around))
    if view.bar_seconds > 0.0:
        yield Sample("bar_seconds", view.bar_seconds)
    for name, age, end in (("bar", "bar_age_bars", view.bar_at), ("heartbeat", "heartbeat_age_bars", view.closed_at)):
        if end:
            yield Sample("bar_end_timestamp_seconds" if name == "bar" else "heartbeat_timestamp_seconds", end)
        if end and dead_at(view, around) is not None:
            yield Sample(age, age_bars(view, max(end, view.started), now, around))


def age_bars(view: View, since: float, now: float, around: Surroundings) -> float:
    """Return open time in bars, which stands still while the market is closed."""
    return around.sessions.open_seconds(since, now) / around.sessions.bar_seconds(view.bar_seconds)


def _account(view: View, now: float, around: Surroundings) -> Iterator[Sample]:
    if not view.decisions:
        return
    exposures = view.exposures
    yield Sample("equity", view.equity)
    yield Sample("cash", view.cash)
    yield Sample("drawdown", view.drawdown)
    yield Sample("session_loss", view.session_loss)
    yield Sample("gross_exposure", sum(map(abs, exposures.values())))
    yield Sample("net_exposure", sum(exposures.values()))
    for symbol in sorted({*view.closes, *view.shares}):
        yield Sample("exposure", exposures.get(symbol, 0.0), {"symbol": symbol})
        yield Sample("position_shares", view.shares.get(symbol, 0.0), {"symbol": symbol})
    place, ratio = band_percentile(view, around.band), band_ratio(view, around.band)
    if place is not None and ratio is not None:
        yield Sample("band_percentile", place)
        yield Sample("band_ratio", ratio)


def band_percentile(view: View, band: Band | None) -> float | None:
    """Return where the return since the first decision stands in the band; None if that cannot be said."""
    if band is None or view.equity <= 0.0 or view.first_equity <= 0.0:
        return None
    return band.percentile(view.decisions - 1, math.log(view.equity / view.first_equity))


def band_ratio(view: View, band: Band | None) -> float | None:
    """Return how far the return is below the backtest's median, 1 being what 99.5 % of paths never exceed."""
    if band is None or view.equity <= 0.0 or view.first_equity <= 0.0:
        return None
    distance = band.distance(view.decisions - 1, math.log(view.equity / view.first_equity))
    return None if distance is None else distance / band.furthest


def band_ends(view: View, band: Band | None, number: int) -> tuple[float, float] | None:
    """Return the equity at both ends of the 95 % band after a number of bars."""
    ends = [band.at(number, probability) for probability in (BAND_PROBABILITY, 1 - BAND_PROBABILITY)] if band else []
    if len(ends) < 2 or ends[0] is None or ends[1] is None:  # noqa: PLR2004 - two ends
        return None
    return view.first_equity * math.exp(ends[0]), view.first_equity * math.exp(ends[1])


def limits_used(view: View, now: float, around: Surroundings) -> dict[str, float]:
    """Return the share of each limit that is used."""
    limits, exposures = around.parameters.limits, [abs(part) for part in view.exposures.values()]
    equity = view.equity if view.equity > 0.0 else math.inf
    newest = now if dead_at(view, around) is not None else view.at
    used = {
        "drawdown": view.drawdown / limits.drawdown,
        "daily_loss": view.session_loss / limits.daily_loss,
        "gross": sum(exposures) / limits.gross,
        "symbol_exposure": max(exposures, default=0.0) / limits.symbol_exposure,
        "turnover_per_day": sum(notional for at, notional in view.turnover if at > newest - DAY)
        / equity
        / limits.turnover_per_day,
        "orders_per_minute": sum(at > newest - 60.0 for at in view.sent_at) / limits.orders_per_minute,
        "max_denials": view.denials_in_a_row / limits.max_denials,
    }
    if view.clock_offset is not None:
        used["clock_skew_seconds"] = abs(view.clock_offset) / limits.clock_skew_seconds
    return used


def _limits(view: View, now: float, around: Surroundings) -> Iterator[Sample]:
    if view.decisions or view.clock_offset is not None:
        for limit, share in limits_used(view, now, around).items():
            yield Sample("limit_used", share, {"limit": limit})


def _orders(view: View, now: float, around: Surroundings) -> Iterator[Sample]:
    yield Sample("open_orders", len(view.orders))
    yield Sample("unknown_orders", len(view.unknown))
    yield Sample("fills_total", view.fill_count)
    for outcome in ("accepted", "refused", "unknown", "dropped", "cancelled"):
        yield Sample("orders_total", view.outcomes.get(outcome, 0), {"outcome": outcome})
    for limit, count in sorted(view.denials.items()):
        yield Sample("denials_total", count, {"limit": limit})
    yield Sample("reconcile_mismatch", len(view.differences))
    if view.compared:
        yield Sample("reconcile_timestamp_seconds", view.compared)
    if view.clock_offset is not None:
        yield Sample("clock_offset_seconds", view.clock_offset)


def _slippage(view: View, now: float, around: Surroundings) -> Iterator[Sample]:
    fills = [(fill.realised, around.cost_bps if fill.model is None else fill.model) for fill in view.fills]
    known = [(realised, model) for realised, model in fills if model is not None]
    if not known:
        return
    realised, model = (statistics.median(column) for column in zip(*known[-FILLS:], strict=True))
    yield Sample("slippage_bps", realised, {"kind": "realised"})
    yield Sample("slippage_bps", model, {"kind": "model"})
    if len(view.judged_fills) == len(known):
        yield Sample("slippage_excess_errors", excess_errors(tuple(paid - cost for paid, cost in known)))


@lru_cache(maxsize=4)
def excess_errors(excess: tuple[float, ...]) -> float:
    """Return by how many standard errors the median of ``FILLS`` values is above 0, the least of all such windows.

    One look after each fill would find three standard errors in 33 of 100 records of 1,000 fills without any excess;
    the least of ``CONFIRMING`` looks in a row finds them in one.
    """
    values = np.lib.stride_tricks.sliding_window_view(np.array(excess), FILLS)
    middle = np.median(values, axis=1)
    spread = DEVIATION * np.median(np.abs(values - middle[:, None]), axis=1)
    errors = np.maximum(MEDIAN_ERROR * spread / math.sqrt(FILLS), np.finfo(np.float64).tiny)
    return float(np.clip(middle / errors, -LARGEST, LARGEST).min())


def _feed(view: View, now: float, around: Surroundings) -> Iterator[Sample]:
    yield Sample("bar_revisions_total", view.revisions)
    yield Sample("late_bars_total", view.late)
    yield Sample("missing_bars_total", view.missing)


@lru_cache(maxsize=4)
def action_shares(actions: tuple[tuple[int, ...], ...]) -> dict[int, float]:
    """Return the share of each level among actions."""
    counts = Counter(level for chosen in actions for level in chosen)
    return {level: count / counts.total() for level, count in sorted(counts.items())}


def _agents(view: View, now: float, around: Surroundings) -> Iterator[Sample]:
    if not view.decisions:
        return
    yield Sample("abstaining", view.abstaining)
    for regime, probability in enumerate(view.regimes):
        yield Sample("regime_probability", probability, {"regime": str(regime)})
    shares = action_shares(view.actions)
    for level, share in shares.items():
        yield Sample("action_share", share, {"level": str(level)})
    varied = around.tested_share is None or around.tested_share <= COLLAPSED
    if view.collapsible and varied and shares and all(view.actions):
        yield Sample("action_share_largest", max(shares.values()))
    if around.reference is not None:
        for name, index in around.drift.items():
            yield Sample("feature_psi", index, {"feature": name})
            yield Sample("feature_psi_limit", around.reference.limits[name], {"feature": name})
        ratio = around.reference.ratio(around.drift)
        if ratio is not None:
            yield Sample("feature_drift_ratio", ratio)
