"""The report is one file that says what it must."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from sentio_kedro.config import ReportingParameters
from sentio_kedro.evaluation.metrics import build_metrics
from sentio_kedro.evaluation.plots.draw import CAPTIONS, draw_figures
from sentio_kedro.evaluation.plots.folds import fold_figure
from sentio_kedro.evaluation.report.account_tables import account_tables, cost_table, fold_table
from sentio_kedro.evaluation.report.headline_metrics import headline_metrics, skill_table
from sentio_kedro.evaluation.report.report import packed_plotly, render_report
from sentio_kedro.evaluation.report.tables import formatted
from sentio_kedro.evaluation.report.verdict import verdict
from sentio_kedro.evaluation.run_frames import RunFacts, RunFrames
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.purged_folds import Fold, Segment, Spans

MakeRun = Callable[..., RunFrames]
QUALITY: dict[str, Any] = {
    **{"grid_bars": 35_000, "bar_minutes": 30.0, "first": "2017-10-01", "last": "2019-10-01", "missing": "halt"},
    **{"expected_bars": 35_040, "missing_share": 40 / 35_040},
    "longest_hole": {"bars": 12, "after": "2018-02-01T00:00:00Z", "before": "2018-02-01T06:30:00Z"},
    "findings": [
        {"rule": "a split of 0 was read as none", "count": 4_100, "cases": ["BTC <0>", "b"], "severity": "told"},
    ],
    "per_symbol": {"BTC": {"bars": 34_950, "first": "2017-10-01T00:30:00Z", "gaps": 7, "biggest_log_return": 0.13}},
}
QUALITY["per_symbol"]["BTC"]["longest_hole"] = QUALITY["longest_hole"]


FOLDS = [Fold(0, (Segment(4, 50),), (Segment(50, 60),), (Segment(60, 99),))]
STAMPS = np.datetime64("2017-10-01T00:30", "ns") + np.arange(100) * np.timedelta64(30, "m")


@pytest.fixture(scope="module")
def metrics(make_run: MakeRun, facts: RunFacts) -> dict[str, Any]:
    """Metrics of the synthetic run."""
    return build_metrics(make_run(), facts, ReportingParameters(bootstrap_samples=30))


@pytest.fixture(scope="module")
def page(make_run: MakeRun, facts: RunFacts, metrics: dict[str, Any]) -> str:
    """The whole report of the synthetic run."""
    figures = draw_figures(make_run(), facts, metrics, fold_figure(Folds.of(FOLDS, Spans(5, 1, 4), STAMPS), STAMPS))
    context = {"bars": "<abc>", "training.seeds": 2}
    return render_report(metrics, figures, data_quality=QUALITY, context=context)


def test_the_report_is_one_small_file_without_outside_resources(page: str) -> None:
    library = packed_plotly()
    assert gzip.decompress(base64.b64decode(library)).decode() == get_plotlyjs()
    assert page.count(library) == 1
    assert len(page.encode()) < 2_500_000
    own = page.replace(library, "")
    assert not re.search(r"""(src|href|action)\s*=\s*["']?(https?:)?//|@import|url\(|https?://""", own)
    assert "<link" not in own.replace('<link rel="icon" href="data:,">', "")


def test_the_report_says_what_it_must(page: str, metrics: dict[str, Any]) -> None:
    text = page.replace(packed_plotly(), "")
    assert verdict(metrics)[1] in text
    for part in (
        *(
            "Survivorship-biased universe",
            "Five targets",
            "not judged",
            "not met",
            "95\u00a0% interval",
        ),
        *("Buy and hold", "Equal weight", "Momentum", "Random actions", "Every fold and seed", "Data quality"),
        *(
            "Costs",
            "Stress tests",
            "Drawdown limit",
            "Sharpe ratio by regime",
            "Limits, orders and margin",
            "Value at risk",
        ),
        *("Resampled markets, 95\u00a0% quantile", "not recovered", "Borrow fee"),
        *(
            "Mean Sharpe ratio over folds and seeds",
            "Method and limitations",
            "training.seeds",
            "BTC",
            "34,950",
        ),
        formatted(metrics["agent"]["sharpe"], "number"),
    ):
        assert part in text, part
    for name, caption in CAPTIONS.items():
        assert f'id="plot-{name}"' in text
        assert caption.replace("'", "&#39;") in text


def test_values_are_escaped(page: str) -> None:
    assert "&lt;abc&gt;" in page
    assert "<abc>" not in page


def test_parameters_are_rows_of_dotted_names_in_the_order_that_is_given(metrics: dict[str, Any]) -> None:
    columns = [{"name": "return_1", "bars": 1}, {"name": "weekday", "bars": None}]
    context = {"bars": "ab", "features.columns": columns, "trading.levels": [-1.0, 0.0], "trading.net_limit": None}
    page = render_report(metrics, {}, context=context)
    cells = re.findall(r'<td class="(?:name|value)">([^<]*)</td>', page)
    assert list(map(html.unescape, cells)) == [
        *("bars", "ab"),
        *("features.columns[0]", '{"name": "return_1", "bars": 1}'),
        *("features.columns[1]", '{"name": "weekday", "bars": null}'),
        *("trading.levels", "[-1.0, 0.0]", "trading.net_limit", "null"),
    ]


class Texts(HTMLParser):
    """Collects scripts by id and the texts of cells as a browser reads them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: dict[str | None, str] = {}
        self.cells: list[str] = []
        self.tag, self.id = "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag, self.id = tag, dict(attrs).get("id") or ""

    def handle_data(self, data: str) -> None:
        if self.tag == "script":
            self.scripts[self.id] = self.scripts.get(self.id, "") + data
        elif self.tag == "td":
            self.cells.append(data)


HOSTILE = ["<!--<script>", "</script><b>&amp;\"'%{x}{{ y }}"]


def test_symbols_that_look_like_html_break_no_figure_and_are_shown_as_they_are(
    make_run: MakeRun, facts: RunFacts
) -> None:
    frames = make_run()
    named = dict(zip(("BTC", "ETH"), HOSTILE, strict=True))
    held = {
        name: getattr(frames, name).assign(symbol=getattr(frames, name)["symbol"].map(named))
        for name in ("positions", "trades", "holdings", "actions", "value_at_risk")
    }
    frames = dataclasses.replace(frames, **held)
    metrics = build_metrics(frames, facts, ReportingParameters(bootstrap_samples=10))
    quality = QUALITY | {"per_symbol": {symbol: QUALITY["per_symbol"]["BTC"] for symbol in HOSTILE}}
    page = render_report(metrics, draw_figures(frames, facts, metrics), data_quality=quality)
    texts = Texts(page.replace(packed_plotly(), ""))
    figures = {name: text for name, text in texts.scripts.items() if name and name.startswith("data-")}
    assert {f"data-{name}" for name in CAPTIONS if name != "folds"} == set(figures)
    assert all("<" not in text for text in figures.values())
    drawn = json.loads(figures["data-positions"])["data"][0]["y"]
    assert list(map(html.unescape, drawn)) == HOSTILE  # Plotly reads entities, and no tags are left to read
    assert not any("<" in name for name in drawn)
    assert set(HOSTILE) <= set(texts.cells)


def test_the_section_on_data_shows_holes_and_findings(page: str) -> None:
    section = page.partition('<h2 id="data">')[2].partition("<h2")[0]
    assert "0.11\u00a0% are missing, the longest hole\n(12 bars) between 2018-02-01T00:00:00Z and" in section
    cells = [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", section)]
    assert cells[-4:] == ["told", "4,100", "a split of 0 was read as none", "BTC <0>; b"]
    assert cells[cells.index("BTC") + 9] == "12"  # the longest hole, bars


def test_every_figure_is_json_that_a_browser_reads(page: str) -> None:
    found = re.findall(r'<script type="application/json" id="data-(\w+)">(.*?)</script>', page, re.S)
    assert {name for name, _ in found} == set(CAPTIONS)
    for _, text in found:
        assert "NaN" not in text
        assert "title" not in json.loads(text)["layout"]


def test_the_folds_are_drawn_beside_their_table(page: str) -> None:
    assert page.index('<h2 id="folds">') < page.index('id="plot-folds"') < page.index('<h2 id="data">')


def test_a_dated_universe_and_walk_forward_folds_raise_no_banner(metrics: dict[str, Any]) -> None:
    page = render_report(metrics | {"universe": "dated"}, {})
    assert "Survivorship" not in page
    assert "no track record that anybody could have earned" not in page
    assert "trained and selected before the bars\nthat test them" in page


@pytest.mark.parametrize(("scheme", "name"), [("combinatorial", "Combinatorial folds."), ("k_fold", "K-fold.")])
def test_folds_that_train_on_later_bars_are_no_record(metrics: dict[str, Any], scheme: str, name: str) -> None:
    page = render_report(metrics | {"scheme": scheme}, {})
    assert f"<strong>{name}</strong> Agents also train on bars after those that test them" in page
    assert "no track record that anybody could have earned" in page
    assert "trained and selected on other bars than those\nthat test them" in page


def test_alarms_stand_above_the_figures(metrics: dict[str, Any]) -> None:
    page = render_report(metrics | {"alarms": ["The agent never traded."]}, {})
    assert page.index("The agent never traded.") < page.index("Five targets")


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0.12345, "percent", "12.35\u00a0%"),
        (-0.5, "number", "\u22120.50"),
        (None, "percent", "\u2013"),
        (1234.0, "count", "1,234"),
        (0.00012, "small_percent", "0.0120\u00a0%"),
        (-1e-6, "percent", "0.00\u00a0%"),
    ],
)
def test_numbers_are_written_for_people(value: float | None, kind: Any, text: str) -> None:
    assert formatted(value, kind) == text


def test_lines_share_the_times_of_an_earlier_one(page: str) -> None:
    (text,) = re.findall(r'<script type="application/json" id="data-equity">(.*?)</script>', page, re.S)
    times = [trace["x"] for trace in json.loads(text)["data"]]
    assert isinstance(times[0], list)
    assert times[1] == 0
    assert "trace.x = figure.data[trace.x].x" in page


def test_a_drawdown_limit_shows_its_breaches(make_run: MakeRun, facts: RunFacts) -> None:
    limited = dataclasses.replace(facts, max_drawdown=0.02)
    page = render_report(build_metrics(make_run(), limited, ReportingParameters(bootstrap_samples=30)), {})
    assert "The limit is 2.00\u00a0% of the highest equity of the last" in page
    assert "Move to the limit" in page
    off = render_report(build_metrics(make_run(), facts, ReportingParameters(bootstrap_samples=30)), {})
    assert "No drawdown limit was set" in off
    assert "Move to the limit" not in off


def _number(text: str) -> float:
    return float(text.removesuffix("\u00a0%").replace("\u2212", "-").replace(",", ""))


def test_the_ledger_of_the_report_adds_up(metrics: dict[str, Any]) -> None:
    found = cost_table(metrics)
    assert len(found.rows) == 5
    assert "Broker's loss" not in found.heads
    assert found.note == "Zero for all accounts: broker's loss."
    for _, *lines, net in found.rows:
        assert sum(map(_number, lines)) == pytest.approx(_number(net), abs=0.05)


def test_accounts_are_rows_and_no_table_of_them_is_wide(metrics: dict[str, Any]) -> None:
    many = metrics | {"baselines": [*metrics["baselines"], "target_positions"], "target_positions": metrics["momentum"]}
    for found in account_tables(many):
        assert [row[0] for row in found.rows] == [
            *("Agent", "Buy and hold", "Equal weight", "Momentum", "Random actions", "Table of targets"),
        ]
        assert {len(row) for row in found.rows} == {len(found.heads)}
        assert len(found.heads) <= 9


def test_many_agents_are_folded_away(make_run: MakeRun, facts: RunFacts) -> None:
    metrics = build_metrics(make_run(seeds=8), facts, ReportingParameters(bootstrap_samples=10))
    assert len(fold_table(metrics["folds"]).rows) == 32
    assert "<summary>All 32 agents</summary>" in render_report(metrics, {})


SKILL: dict[str, Any] = {
    **{"probabilistic_sharpe": 0.71, "deflated_sharpe": 0.32, "expected_maximum_sharpe": 1.9, "trials": 37},
    "effective_trials": 9,
    "bounds": {"min_deflated_sharpe": 0.95, "max_overfitting": 0.2, "max_spa_p": 0.05},
    **{"trial_sharpe_deviation": 0.4, "minimum_track_record_bars": 52_000, "minimum_track_record_years": 2.97},
    **{"pbo": 0.46, "pbo_trials": 12, "pbo_blocks": 16, "spa_p": 0.31, "spa_baseline": "momentum"},
    **{
        "iqm": {"sharpe": 1.2, "low": 0.4, "high": 1.9},
        "intervals": {},
        "verdict": "not_shown",
        "reasons": ["Too many trials."],
    },
    "lockbox_openings": [{"time": "2020-01-02T03:04:05Z", "model": "<m>", "this_model": True, "sharpe": 0.3}],
}


def test_the_tests_of_skill_stand_on_top(metrics: dict[str, Any]) -> None:
    judged = metrics | {"skill": SKILL}
    headline = {metric.title: metric for metric in headline_metrics(judged, QUALITY)}
    assert (headline["Verdict"].value, headline["Verdict"].tone) == ("Not shown", "bad")
    assert (headline["Deflated Sharpe ratio"].value, headline["Deflated Sharpe ratio"].tone) == ("32.00\u00a0%", "bad")
    assert headline["Superior ability, p-value"].note == "against momentum"
    agent, found = metrics["agent"], {"low": -0.5, "high": 0.25}
    interval = f"95\u00a0% interval {formatted((agent['sharpe_low'], agent['sharpe_high']), 'interval')}"
    for value, told in ((found, "; without one seed -0.50 to 0.25"), (None, "")):
        changed = judged | {"robustness": judged["robustness"] | {"without_range": value}}
        (ratio,) = (metric for metric in headline_metrics(changed) if metric.title == "Sharpe ratio")
        assert ratio.note.replace("\u2212", "-") == interval.replace("\u2212", "-") + told
    lost = SKILL | {"minimum_track_record_bars": None}
    assert headline_metrics(metrics | {"skill": lost})[0].value == "No skill"
    assert headline["Lockbox openings"].note == "1 with these agents"
    assert headline["Lockbox openings"].tone == ""
    twice = SKILL | {"lockbox_openings": [*SKILL["lockbox_openings"], {"model": "other", "this_model": False}]}
    again = {metric.title: metric for metric in headline_metrics(metrics | {"skill": twice})}
    assert again["Lockbox openings"].tone == "bad"
    assert "is no better than the median on the other" in str(skill_table(SKILL))
    assert headline["Data"].note.endswith("test bars of 1 symbols")
    page = render_report(judged, {})
    assert page.index("Deflated Sharpe ratio") < page.index("Too many trials.") < page.index("Five targets")
    assert "52,000 bars, 2.97 years" in page
    assert "2020-01-02 03:04" in page
    assert "&lt;m&gt;" in page


def test_a_probability_of_data_without_skill_is_not_said_to_be_one_of_skill(metrics: dict[str, Any]) -> None:
    headline = {metric.title: metric for metric in headline_metrics(metrics | {"skill": SKILL})}
    assert headline["Deflated Sharpe ratio"].note.startswith("confidence that the true ratio is above")
    meanings = {row[0]: row[2] for row in skill_table(SKILL).rows}
    for name in ("Probabilistic Sharpe ratio", "Deflated Sharpe ratio"):
        assert meanings[name].startswith("Confidence that the true Sharpe ratio is above"), name
    assert "luck" not in render_report(metrics | {"skill": SKILL}, {}).replace(packed_plotly(), "").lower()


def test_what_was_not_tested_is_a_dash(metrics: dict[str, Any]) -> None:
    nothing = dict.fromkeys(SKILL) | {"verdict": "undecided", "trials": 1, "reasons": [], "lockbox_openings": []}
    nothing |= {"bounds": SKILL["bounds"], "iqm": dict.fromkeys(SKILL["iqm"])}
    headline = {metric.title: metric for metric in headline_metrics(metrics | {"skill": nothing})}
    assert (headline["Backtest overfitting"].value, headline["Backtest overfitting"].note) == (
        "\u2013", "not tested",
    )  # fmt: skip
    assert headline["Lockbox openings"].note == "never opened"
    assert "The lockbox has never been opened." in render_report(metrics | {"skill": nothing}, {})


def test_a_broken_limit_and_costs_that_cannot_be_borne_are_marked(metrics: dict[str, Any]) -> None:
    limit = metrics["drawdown_limit"] | {"limit": 0.01}
    bearable = {"outcome": "found", "multiplier": 0.5, "paid_bps": 12.0, "bps_per_side": 6.0}
    changed = metrics | {"drawdown_limit": limit, "robustness": metrics["robustness"] | {"break_even": bearable}}
    headline = {metric.title: metric for metric in headline_metrics(changed)}
    assert (headline["Maximum drawdown"].tone, headline["Maximum drawdown"].note) == ("bad", "limit 1.00\u00a0%")
    assert (headline["Break-even costs"].value, headline["Break-even costs"].tone) == ("\u00d7 0.50", "bad")


def test_a_run_without_telemetry_or_variants_is_reported(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    frames = dataclasses.replace(frames, masks=frames.masks.iloc[:0], robustness=frames.robustness.iloc[:0])
    page = render_report(build_metrics(frames, facts, ReportingParameters(bootstrap_samples=30)), {})
    assert "No stress test was simulated." in page
    assert "Forbidden target levels" not in page


def test_the_gates_stand_beside_the_correlations(page: str, make_run: MakeRun, facts: RunFacts) -> None:
    section = page.partition('<h2 id="forecasts">')[2].partition("<h2 ")[0]
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", section)
    assert [cells[place : place + 5] for place in range(0, len(cells), 5)] == [
        ["Fold 0", "relative", "1.50", "2.00", "open"],
        ["Fold 0", "directional", "1.50", "2.00", "closed"],
        ["Fold 1", "relative", "2.50", "2.00", "open"],
        ["Fold 1", "directional", "2.50", "2.00", "open"],
    ]
    assert 'id="plot-evidence"' in section
    frames = dataclasses.replace(make_run(), evidence=make_run().evidence.iloc[:0])
    metrics = build_metrics(frames, facts, ReportingParameters(bootstrap_samples=30))
    without = render_report(metrics, draw_figures(frames, facts, metrics)).partition('<h2 id="forecasts">')[2]
    assert "<td" not in without.partition("<h2 ")[0]
    assert "No fold had enough train rows to forecast" in without


def test_a_figure_without_data_is_a_sentence(make_run: MakeRun, facts: RunFacts, metrics: dict[str, Any]) -> None:
    frames = make_run()
    frames = dataclasses.replace(frames, regime_posteriors=frames.regime_posteriors.iloc[:0])
    page = render_report(metrics, draw_figures(frames, facts, metrics))
    assert "<p>The run holds no regimes of these agents.</p>" in page
    assert 'id="plot-regimes"' not in page
    assert 'id="data-regimes"' not in page
    assert CAPTIONS["regimes"] not in page
    assert 'id="plot-equity"' in page


def test_the_members_of_a_dated_universe_are_counted_over_time(metrics: dict[str, Any]) -> None:
    membership = {
        "assets": 3, "left": 1, "unseen_bars": 1200, "without_bars": ["<X>"], "without_membership": [],
        "members": {"2020-01-02": 2, "2021-01-04": 3},
    }  # fmt: skip
    page = " ".join(render_report(metrics, {}, data_quality=QUALITY | {"membership": membership}).split())
    assert "dates 3 assets, of which 1 left within the bars. Members: 2 on 2020-01-02, 3 on 2021-01-04." in page
    assert "1,200 delivered bars are of no member" in page
    assert "Symbols without bars: &lt;X&gt;." in page
    assert "without a membership" not in page
    assert "of no member" not in render_report(metrics, {}, data_quality=QUALITY)


def test_accounts_that_never_traded_are_told_apart(metrics: dict[str, Any]) -> None:
    quiet = {"turnover_per_bar": 0.0}
    changed = metrics | {
        "buy_and_hold": metrics["buy_and_hold"] | quiet | {"ordered": 0.3},
        "equal_weight": metrics["equal_weight"] | quiet | {"ordered": 0.0},
    }
    names = [row[0] for row in account_tables(changed)[0].rows]
    assert "Buy and hold (no order was filled)" in names
    assert "Equal weight (sent no order)" in names
