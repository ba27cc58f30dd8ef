"""The status page and its numbers: one HTML text without scripts, and plain data for programs."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from sentio_kedro.config.live.alarms import ALARMS, FILLS
from sentio_kedro.trader.clock import stamp_of
from sentio_kedro.trader.watch.metrics import (
    age_bars,
    band_percentile,
    band_ratio,
    dead_at,
    is_dead,
    samples,
)
from sentio_kedro.trader.watch.served.chart import charts_of
from sentio_kedro.trader.watch.served.tables import (
    age_text,
    facts_of,
    limits_of,
    number,
    percent,
    short_time,
    tables_of,
    time_text,
    tone_of,
)
from sentio_kedro.trader.watch.view import View
from sentio_kedro.trader.watch.watching import Seen

FOLDER = Path(__file__).parent / "templates"
STYLE = (FOLDER / "page.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
CONTENT_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
MEANINGS = {
    "active": ("good", "Active", "Orders that the limits allow are sent."),
    "reducing": (
        "warn",
        "Reducing",
        "Only orders that shrink a position are sent. Positions stay until agents reduce them.",
    ),
    "halted": ("bad", "Halted", "No order is sent, not even one that closes a position. Positions stay as they are."),
}
TONES = {
    **dict.fromkeys(("halted", "unknown", "refused", "alarm"), "bad"),
    **dict.fromkeys(("reducing", "denied", "revised_bar", "late_bar", "gap", "dropped"), "warn"),
}
BAR = 60.0  # seconds in the text of ages
NEEDLESS = frozenset({"seq", "lines", "curve", "actions", "turnover", "sent_at", "sending"})


def status(seen: Seen, now: float) -> dict[str, Any]:
    """Return what is known as plain data: the view, all metrics, alarms.

    Args:
        seen: The newest look.
        now: Seconds since 1970.
    """
    view, around = seen.view, seen.around
    kept = {name: value for name, value in asdict(view).items() if name not in NEEDLESS}
    return {
        "trader": around.parameters.name,
        "now": stamp_of(now),
        "problem": seen.problem,
        "dead": is_dead(view, now, around),
        "alarms": [asdict(item) for item in seen.firing],
        "metrics": [asdict(sample) for sample in samples(view, now, around)],
        "view": kept | {"drawdown": view.drawdown, "session_loss": view.session_loss, "exposures": view.exposures},
        "events": [asdict(line) for line in reversed(view.lines)],
    }


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(FOLDER)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["coded"] = coded
    return environment.get_template("page.html.jinja")


def coded(text: str) -> Markup:
    """Return escaped text in which what stands in backticks is code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if n % 2 else escape(p) for n, p in enumerate(parts))


def render(seen: Seen, now: float, env: str = "") -> str:
    """Return the page.

    Args:
        seen: The newest look.
        now: Seconds since 1970.
        env: Kedro environment, for the commands to type.
    """
    view, around = seen.view, seen.around
    trader, option = around.parameters.name, f" --env={env}" if env else ""
    drawn = charts_of(view, around.band)
    return _template().render(
        title=f"{trader}: {'down' if is_dead(view, now, around) else view.mode if view.starts else 'not started'}",
        style=Markup(STYLE),  # noqa: S704 - the package's own file
        trader=trader,
        subtitle=_subtitle(view),
        problem=seen.problem,
        state=_state(seen, now, option) if view.starts else None,
        alarms=_alarms(seen),
        tiles=_tiles(seen, now) if view.starts else (),
        charts=drawn,
        chart_note=_chart_note(seen) if drawn else "",
        limits=limits_of(seen, now) if view.decisions else (),
        tables=tables_of(view, around.cost_bps) if view.starts else (),
        facts=facts_of(seen) if view.starts else (),
        events=[
            {"at": short_time(line.at), "kind": line.kind, "text": line.text, "tone": TONES.get(line.kind, "")}
            for line in reversed(view.lines)
        ],
        now=time_text(now),
    )


def _subtitle(view: View) -> str:
    modes = {
        "replay": "replay of recorded bars",
        "paper": "paper: live bars, simulated broker",
        "venue_paper": "the venue's paper account",
        "live": "live: real money",
    }
    parts = (modes.get(view.trading, view.trading), f"account {view.account}" if view.account else "", view.model)
    return " · ".join(part for part in parts if part)


def _state(seen: Seen, now: float, option: str) -> dict[str, Any]:
    view = seen.view
    if is_dead(view, now, seen.around):
        acts = {
            "cancel": "Its open orders are cancelled as soon as the venue answers",
            "flatten": "Its orders are cancelled and its positions closed as soon as the venue answers",
        }
        act = acts.get(seen.around.parameters.watch.on_death, "Nothing is done about its orders")
        if seen.around.parameters.broker.type == "simulated":
            act = "It has no orders at a venue"
        meaning = f"No bar was closed since {view.closed or 'the start'} though the market is open. {act}."
        commands = [
            ("Start it again", f"kedro trader run{option}"),
            ("Close everything", f"kedro trader flatten{option}"),
        ]
        return {"tone": "bad", "name": "Down", "meaning": meaning, "reason": "", "since": "", "commands": commands}
    tone, name, meaning = MEANINGS[view.mode]
    if view.trading != "live":
        meaning += " No real money is traded."
    halt = ("Send nothing more", f'kedro trader halt{option} --reason "..."')
    resume = ("Trade again", f'kedro trader resume{option} --reason "..."')
    flatten = ("Close everything", f"kedro trader flatten{option}")
    commands = {
        "active": [halt, ("Only shrink positions", f'kedro trader reduce{option} --reason "..."')],
        "reducing": [resume, halt, flatten],
        "halted": [("See the differences", f"kedro trader reconcile{option}"), resume, flatten],
    }[view.mode]
    since = f"since {time_text(view.mode_since)}" if view.mode_since else ""
    reason = view.reason if view.mode != "active" else ""
    return {"tone": tone, "name": name, "meaning": meaning, "reason": reason, "since": since, "commands": commands}


def _alarms(seen: Seen) -> list[dict[str, str]]:
    known = {alarm.name: alarm for alarm in ALARMS}
    shown = []
    for item in seen.firing:
        alarm = known[item.name]
        if alarm.severity != "info":
            labels = ", ".join(f"{name} {value}" for name, value in item.labels.items())
            shown.append({**asdict(alarm), "runbook": alarm.runbook, "since": time_text(item.since), "labels": labels})
    return shown


def _tiles(seen: Seen, now: float) -> list[dict[str, str]]:
    view, around = seen.view, seen.around
    earned = view.equity / view.first_equity - 1.0 if view.first_equity > 0.0 else 0.0
    place = band_percentile(view, around.band)
    judged = dead_at(view, around) is not None and bool(view.closed_at)
    age = age_bars(view, max(view.closed_at, view.started), now, around) if judged else 0.0
    closed = f"{age_text(now - view.closed_at)} ago" if judged else view.closed[:16].replace("T", " ") or "none"
    note = f"{age:.1f} bars of open time" if judged else "end of that bar, UTC"
    if judged and not around.sessions.is_open(now):
        note = "the market is closed"
    limits = around.parameters.limits
    gross, net = sum(map(abs, view.exposures.values())), sum(view.exposures.values())
    paid, model = _median_slippage(seen)
    offset = "within limit" if view.clock_offset is None else f"{view.clock_offset:+.3f} s"
    return [
        {"title": "Equity", "value": number(view.equity), "note": f"{percent(earned)} since the start",
         "tone": ""},
        {"title": "Drawdown", "value": percent(view.drawdown), "note": f"limit {percent(limits.drawdown, 1)}",
         "tone": tone_of(view.drawdown / limits.drawdown)},
        {"title": "Session's loss", "value": percent(view.session_loss),
         "note": f"limit {percent(limits.daily_loss, 1)}", "tone": tone_of(view.session_loss / limits.daily_loss)},
        {"title": "Last closed bar", "value": closed, "note": note,
         "tone": "bad" if is_dead(view, now, around) else ""},
        {"title": "Gross exposure", "value": percent(gross, 1), "note": f"net {percent(net, 1)}", "tone": ""},
        {"title": "Open orders", "value": str(len(view.orders)), "note": f"{len(view.unknown)} without an answer",
         "tone": "bad" if view.unknown else ""},
        {"title": f"Slippage, last {min(FILLS, len(view.fills))} fills" if view.fills else "Slippage", "value": paid,
         "note": model, "tone": ""},
        {"title": "Place in the backtest's band", "value": "not known" if place is None else percent(place, 1),
         "note": "50 % is the backtest's median",
         "tone": "bad" if (band_ratio(view, around.band) or 0.0) > 1.0 else ""},
        {"title": "Venue and journal", "value": _compared(view), "note": f"compared {time_text(view.compared)}",
         "tone": "bad" if view.differences else ""},
        {"title": "Venue's clock", "value": offset, "note": f"limit {limits.clock_skew_seconds:g} s", "tone": ""},
    ][: 8 if view.trading in ("replay", "paper") else None]  # fmt: skip


def _compared(view: View) -> str:
    if view.differences:
        return f"{len(view.differences)} differ"
    return "equal" if view.compared else "not compared"


def _median_slippage(seen: Seen) -> tuple[str, str]:
    found = {
        sample.labels["kind"]: sample.value
        for sample in samples(seen.view, seen.view.at, seen.around)
        if sample.name == "slippage_bps"
    }
    if not found:
        return "none yet", "median against the decision's close"
    return f"{number(found['realised'], 1)} bps", f"cost model {number(found['model'], 1)} bps"


def _chart_note(seen: Seen) -> str:
    decisions = f"{seen.view.decisions:,} decisions since {seen.view.first_decided[:16].replace('T', ' ')} UTC."
    if seen.around.band is None:
        return f"{decisions} The backtest's band is not known here."
    return f"{decisions} Shaded: 95 % of the backtest's resampled returns over as many bars."
