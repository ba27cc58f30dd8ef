"""Writes what Prometheus and Grafana read, from the project's list of alarms: ``python monitoring/generate.py``.

A test compares the files with what this makes. The dashboard needs ``grafana-foundation-sdk``, of the extra ``test``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
    VariableSort,
)

from sentio_kedro.config.live.alarms import ALARMS, NEAR, PREFIX, Alarm
from sentio_kedro.trader.watch.alarms.evaluate import KEEP_SECONDS

FOLDER = Path(__file__).parent
NOTE = "# Made by monitoring/generate.py from the list in config/live/alarms.py: change that.\n"
MINUTE = 60.0
_METRIC = re.compile(r"(\w+)%(?:\{(.*?)\})?")
GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"


def rules() -> dict[str, Any]:
    """Return the rules of all alarms."""
    return {"groups": [{"name": "sentio", "interval": "15s", "rules": [_rule(alarm) for alarm in ALARMS]}]}


def _rule(alarm: Alarm) -> dict[str, Any]:
    return {
        "alert": alarm.name,
        "expr": alarm.condition.promql,
        "for": f"{alarm.condition.seconds:g}s",
        "keep_firing_for": f"{KEEP_SECONDS:g}s",
        "labels": {"severity": alarm.severity},
        "annotations": {"summary": alarm.summary, "remedy": alarm.remedy, "runbook": alarm.runbook},
    }


def rule_tests() -> dict[str, Any]:
    """Return tests of promtool: each rule fires beyond its threshold, and is quiet at it, and before its time."""
    tests = [test for alarm in ALARMS for test in _tests(alarm)]
    return {"rule_files": ["alarms.rules.yml"], "evaluation_interval": "15s", "tests": tests}


def _tests(alarm: Alarm) -> list[dict[str, Any]]:
    condition = alarm.condition
    above = condition.comparison == ">"
    bad = condition.threshold + 1.0 if above else condition.threshold / 2.0 - (condition.metric == "up") * 0.5
    minutes = round(condition.seconds / MINUTE) + 1
    labels = {"trader": "paper", **{name: pattern.split("|")[0] for name, pattern in condition.labels.items()}}
    found = [
        _test(alarm, "fires", labels, [bad] * (minutes + 1), minutes, fires=True),
        _test(alarm, "is quiet at its threshold", labels, [condition.threshold] * (minutes + 1), minutes, fires=False),
    ]
    if condition.seconds:
        values = [condition.threshold, bad, condition.threshold]
        found.append(_test(alarm, "is quiet before its time", labels, values, 1, fires=False))
    if condition.labels:
        others = {name: "other" for name in condition.labels}
        found.append(_test(alarm, "is quiet for others", {**labels, **others}, [bad] * 2, 1, fires=False))
    return found


def _test(
    alarm: Alarm, name: str, labels: dict[str, str], values: Sequence[float], minutes: int, *, fires: bool
) -> dict[str, Any]:
    metric = alarm.condition.metric if alarm.condition.metric == "up" else PREFIX + alarm.condition.metric
    selector = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    rule = _rule(alarm)
    alert = {"exp_labels": {**rule["labels"], **labels}, "exp_annotations": rule["annotations"]}
    return {
        "name": f"{alarm.name} {name}",
        "interval": "1m",
        "input_series": [{"series": f"{metric}{{{selector}}}", "values": " ".join(f"{value:g}" for value in values)}],
        "alert_rule_test": [
            {"alertname": alarm.name, "eval_time": f"{minutes}m", "exp_alerts": [alert] if fires else []}
        ],
    }


class Shown(NamedTuple):
    """A panel.

    Attributes:
        title: Above it.
        queries: Expressions and their legends; ``%`` stands for the label of the trader.
        unit: Grafana's name of the unit.
        width: Of 24 columns.
        single: Whether it shows the newest number instead of a line.
        steps: ``(from, colour)`` of a single number; empty is blue.
        description: Behind the question mark.
        names: Text of numbers.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    width: int = 8
    single: bool = False
    steps: tuple[tuple[float | None, str], ...] = ((None, BLUE),)
    description: str = ""
    names: tuple[tuple[str, str, str], ...] = ()


STATE_NAMES = (("0", "active", GREEN), ("1", "reducing", YELLOW), ("2", "halted", RED))
YES = (("0", "no", GREEN), ("1", "yes", RED))
NEAR_LIMIT = ((None, GREEN), (NEAR, YELLOW), (1.0, RED))
FROM_ONE = ((None, GREEN), (1.0, RED))
ROWS: tuple[tuple[str, tuple[Shown, ...]], ...] = (
    (
        "Now",
        (
            Shown("State", (("state%", ""),), width=4, single=True, steps=((None, GREEN), (1, YELLOW), (2, RED)),
                  names=STATE_NAMES, description="Reducing: only what shrinks a position is sent. Halted: nothing is."),
            Shown("Down", (("trader_dead%", ""),), width=4, single=True, steps=FROM_ONE, names=YES,
                  description="No bar was closed for dead_after_bars and 10 s of an open session."),
            Shown("Newest bar, age in bars", (("bar_age_bars%", ""),), width=4, single=True,
                  steps=((None, GREEN), (2.0, YELLOW), (2.5, RED))),
            Shown("Orders without an answer", (("unknown_orders%", ""),), width=4, single=True, steps=FROM_ONE),
            Shown("Differences from the venue", (("reconcile_mismatch%", ""),), width=4, single=True, steps=FROM_ONE),
            Shown("Alarms", (('count by (trader) (alarm%{name!="WatchdogAlive"}) or 0 * watch_up%', ""),),
                  width=4, single=True, steps=FROM_ONE),
        ),
    ),
    (
        "Account",
        (
            Shown("Equity", (("equity%", "equity"),), width=12),
            Shown("Limits used", (("limit_used%", "{{limit}}"),), "percentunit", 12,
                  description="At 1 new orders are denied; drawdown and daily_loss reduce positions."),
            Shown("Drawdown and session's loss", (("drawdown%", "drawdown"), ("session_loss%", "session")),
                  "percentunit"),
            Shown("Exposure", (("exposure%", "{{symbol}}"), ("gross_exposure%", "gross"), ("net_exposure%", "net")),
                  "percentunit"),
            Shown("Position", (("position_shares%", "{{symbol}}"),)),
            Shown("Place in the backtest's band", (("band_percentile%", "return since the start"),), "percentunit", 12,
                  description="BelowBand is raised where 99.5 % of resampled paths never are."),
            Shown("Cash", (("cash%", "cash"),), width=12),
        ),
    ),
    (
        "Orders",
        (
            Shown("Answers in an hour", (("increase(orders_total%[1h])", "{{outcome}}"),)),
            Shown("Denials in an hour", (("increase(denials_total%[1h])", "{{limit}}"),)),
            Shown("Fills in an hour", (("increase(fills_total%[1h])", "fills"),)),
            Shown("Slippage", (("slippage_bps%", "{{kind}}"),), "none",
                  description="Median of the last 50 fills against the decision's close, basis points."),
            Shown("Slippage beyond the model, standard errors", (("slippage_excess_errors%", "errors"),)),
            Shown("Open orders", (("open_orders%", "open"), ("unknown_orders%", "unknown"))),
            Shown("Bar to decision", (
                ("histogram_quantile(0.5, sum by (trader, le) (rate(decision_seconds_bucket%[1h])))", "median"),
                ("histogram_quantile(0.99, sum by (trader, le) (rate(decision_seconds_bucket%[1h])))", "99 %"),
            ), "s", 12),
            Shown("Order to answer", (
                ("histogram_quantile(0.5, sum by (trader, le) (rate(order_ack_seconds_bucket%[1h])))", "median"),
                ("histogram_quantile(0.99, sum by (trader, le) (rate(order_ack_seconds_bucket%[1h])))", "99 %"),
            ), "s", 12),
        ),
    ),
    (
        "Feed and agents",
        (
            Shown("Heartbeat, age in bars", (("heartbeat_age_bars%", "closed bar"), ("bar_age_bars%", "bar"))),
            Shown("Revised, late and missing bars in an hour", (
                ("increase(bar_revisions_total%[1h])", "revised"), ("increase(late_bars_total%[1h])", "late"),
                ("increase(missing_bars_total%[1h])", "missing"),
            )),
            Shown("Clock offset", (("clock_offset_seconds%", "venue less ours"),), "s"),
            Shown("Share of actions, 500 bars", (("action_share%", "level {{level}}"),), "percentunit"),
            Shown("Regimes", (("regime_probability%", "regime {{regime}}"),), "percentunit"),
            Shown("Drift of features against its limit", (("feature_drift_ratio%", "worst"),),
                  description="Above 1 is beyond 99 % of blocks of the train bars. A weak alarm."),
            Shown("Stability index by feature", (("feature_psi%", "{{feature}}"),), width=12),
            Shown("Session open, agents abstain", (("session_open%", "open"), ("abstaining%", "abstain")), width=6),
            Shown("Agents", (("model_info%", "{{model}} ({{mode}})"), ("started_total%", "starts")), width=6),
        ),
    ),
)  # fmt: skip


def board() -> str:
    """Return the dashboard as JSON."""
    trader = (
        dashboard.QueryVariable("trader")
        .label("Trader")
        .query(f"label_values({PREFIX}watch_up, trader)")
        .datasource(_source())
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .include_all(True)
        .all_value(".+")
    )
    made = (
        dashboard.Dashboard("Trader")
        .uid("sentio-trader")
        .tags(["sentio"])
        .time("now-24h", "now")
        .refresh("30s")
        .timezone("utc")
        .readonly()
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .with_variable(trader)
    )
    for title, panels in ROWS:
        made = made.with_row(dashboard.Row(title))
        for shown in panels:
            made = made.with_panel(_panel(shown))
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build())


def expression(text: str) -> str:
    """Return a query with prefix and trader where ``%`` ends a metric: ``equity%``, or ``alarm%{name="x"}``."""
    return _METRIC.sub(
        lambda found: f'{PREFIX}{found[1]}{{trader=~"$trader"{"," if found[2] else ""}{found[2] or ""}}}', text
    )


def _source() -> DataSourceRef:
    return DataSourceRef(type_val="prometheus", uid="$source")


def _panel(shown: Shown) -> Any:
    made: Any = stat.Panel() if shown.single else timeseries.Panel()
    made = made.title(shown.title).unit(shown.unit).span(shown.width).height(4 if shown.single else 8)
    made = made.datasource(_source())
    if shown.description:
        made = made.description(shown.description)
    for number, (query, legend) in enumerate(shown.queries):
        target = prometheus.Dataquery().expr(expression(query)).ref_id(chr(ord("A") + number)).datasource(_source())
        made = made.with_target(target.legend_format(legend or "{{trader}}"))
    if not shown.single:
        legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        made = made.legend(legend.show_legend(True)).line_width(2).fill_opacity(5)
        return made.line_interpolation(LineInterpolation.STEP_AFTER).show_points(VisibilityMode.NEVER)
    made = made.thresholds(_thresholds(shown.steps)).graph_mode(BigValueGraphMode.NONE)
    made = made.color_mode(BigValueColorMode.BACKGROUND)
    return made.mappings(_mappings(shown.names)) if shown.names else made


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> Any:
    found = [Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(found)


def _mappings(names: Sequence[tuple[str, str, str]]) -> list[Any]:
    options = {
        value: ValueMappingResult(text=text, color=colour, index=number)
        for number, (value, text, colour) in enumerate(names)
    }
    return [ValueMap(options=options)]


def files() -> dict[str, str]:
    """Return the text of each file that is made, by its name."""
    return {
        "alarms.rules.yml": NOTE + yaml.safe_dump(rules(), sort_keys=False, width=120, allow_unicode=True),
        "rules_test.yml": NOTE + yaml.safe_dump(rule_tests(), sort_keys=False, width=120, allow_unicode=True),
        "dashboard.json": board() + "\n",
    }


def main() -> None:
    """Write them."""
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
