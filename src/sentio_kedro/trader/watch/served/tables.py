"""Tables and texts of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sentio_kedro.config.live.alarms import NEAR
from sentio_kedro.trader.clock import stamp_of
from sentio_kedro.trader.watch.lines import shares_text
from sentio_kedro.trader.watch.metrics import limits_used, samples
from sentio_kedro.trader.watch.view import FillCost, View
from sentio_kedro.trader.watch.watching import Seen


def time_text(seconds: float) -> str:
    """Return a time, ``2026-01-02 15:30:00``, or ``never``."""
    return stamp_of(seconds).replace("T", " ").removesuffix("Z") if seconds else "never"


def short_time(seconds: float) -> str:
    """Return it without the year."""
    return time_text(seconds)[5:]


def percent(value: float, digits: int = 2) -> str:
    """Return a fraction in percent."""
    return f"{100.0 * value:.{digits}f} %".replace("-", "\N{MINUS SIGN}")


def number(value: float, digits: int = 2) -> str:
    """Return a number with its thousands apart."""
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def shares_of(value: float) -> str:
    """Return shares, signed if negative."""
    return shares_text(value).removeprefix("+")


def age_text(seconds: float) -> str:
    """Return a time in the unit that a person would say it in."""
    for length, unit in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= 2.0 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def tone_of(used: float) -> str:
    """Return the tone of a share of a limit."""
    return "bad" if used >= 1.0 else "warn" if used > NEAR else ""


LIMIT_NAMES = {
    "drawdown": "Drawdown", "daily_loss": "Session's loss", "gross": "Gross exposure",
    "symbol_exposure": "Largest position", "turnover_per_day": "Turnover of 24 h",
    "orders_per_minute": "Orders a minute", "max_denials": "Denials in a row", "clock_skew_seconds": "Clock",
}  # fmt: skip


def limits_of(seen: Seen, now: float) -> list[dict[str, str]]:
    """Return the share of each limit that is used, as bars."""
    used = limits_used(seen.view, now, seen.around)
    return [
        {"name": LIMIT_NAMES[name], "text": percent(share, 0), "width": f"{100.0 * min(1.0, share):.1f}",
         "tone": tone_of(share)}
        for name, share in used.items()
    ]  # fmt: skip


def _table(title: str, heads: Sequence[str], classes: Sequence[str], rows: Sequence[Sequence[str]], none: str) -> Any:
    return {"title": title, "heads": heads, "classes": classes, "rows": rows, "none": none}


def _model_cost(fill: FillCost, cost_bps: float | None) -> str:
    known = cost_bps if fill.model is None else fill.model
    return "" if known is None else f"{known:.1f}"


def tables_of(view: View, cost_bps: float | None) -> list[Any]:
    """Return positions, orders, fills and differences as tables."""
    exposures = view.exposures
    positions = [
        (symbol, shares_of(shares), number(view.closes.get(symbol, 0.0), 4), percent(exposures.get(symbol, 0.0)),
         percent(view.targets[symbol]) if symbol in view.targets else "")
        for symbol, shares in sorted(view.shares.items(), key=lambda part: -abs(exposures.get(part[0], 0.0)))
    ]  # fmt: skip
    orders = [
        (
            order.symbol,
            shares_of(order.shares),
            shares_of(order.filled),
            order.progress,
            short_time(order.since),
            order.id,
        )
        for order in view.orders.values()
    ]
    fills = [
        (short_time(fill.at), fill.symbol, shares_of(fill.shares), number(fill.price, 4), number(fill.realised, 1),
         _model_cost(fill, cost_bps))
        for fill in reversed(view.fills[-10:])
    ]  # fmt: skip
    tables = [
        _table("Positions", ("Symbol", "Shares", "Close", "Exposure", "Target"), ("", "", "rare", "", ""), positions,
               "Nothing is held."),
        _table("Open orders", ("Symbol", "Shares", "Filled", "Progress", "Since (UTC)", "Id"),
               ("", "", "", "left", "left", "id left"), orders, "No order is open."),
        _table("Newest fills", ("Time (UTC)", "Symbol", "Shares", "Price", "Paid, bps", "Model, bps"),
               ("", "left", "", "rare", "", ""), fills, "Nothing was filled yet."),
    ]  # fmt: skip
    if view.differences:
        rows = [
            [str(row.get(name, "")) for name in ("what", "subject", "journal", "venue")] for row in view.differences
        ]
        heads, classes = ("What", "Of", "Journal", "Venue"), ("", "left", "", "")
        tables.insert(0, _table("Venue and journal differ", heads, classes, rows, ""))
    return tables


def facts_of(seen: Seen) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return feed and agents as pairs of names and texts."""
    view = seen.view
    shares = {
        sample.labels["level"]: sample.value
        for sample in samples(view, view.at, seen.around)
        if sample.name == "action_share"
    }
    feed = [
        ("Newest bar", view.bar.replace("T", " ") or "none"),
        ("Length of a bar", age_text(view.bar_seconds) if view.bar_seconds else "not known"),
        ("Revised, late, missing bars", f"{view.revisions}, {view.late}, {view.missing}"),
        ("Starts of the process", str(view.starts)),
        *((f"Orders {name}", str(count)) for name, count in sorted(view.outcomes.items())),
        *((f"Denied by {name}", str(count)) for name, count in sorted(view.denials.items())),
    ]
    agents = [
        ("Model", view.model or "not told"),
        ("Abstaining", "yes" if view.abstaining else "no"),
        *((f"Regime {number}", percent(value, 1)) for number, value in enumerate(view.regimes)),
        *((f"Level {level}", f"{percent(share, 1)} of actions") for level, share in shares.items()),
        *_drift(seen),
    ]
    return [("Feed and orders", feed), ("Agents", agents)]


def _drift(seen: Seen) -> list[tuple[str, str]]:
    reference = seen.around.reference
    if reference is None:
        return [("Drift of features", "not calibrated")]
    limits = {name: limit * reference.worst for name, limit in reference.limits.items()}
    worst = sorted(seen.around.drift, key=lambda name: -seen.around.drift[name] / limits[name])[:3]
    if not worst:
        return [("Drift of features", "too few bars yet")]
    return [(f"Drift of {name}", f"{seen.around.drift[name]:.2f}, limit {limits[name]:.2f}") for name in worst]
