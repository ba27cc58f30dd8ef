"""Figures show the agents as one, start from the initial capital, and stay small."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.config import ReportingParameters
from sentio_kedro.evaluation.labels import regime_title
from sentio_kedro.evaluation.measures.robustness import stress_metrics
from sentio_kedro.evaluation.metrics import build_metrics
from sentio_kedro.evaluation.plots.distributions import daily_figure, regime_figure, sharpe_path_figure
from sentio_kedro.evaluation.plots.draw import (
    CAPTIONS,
    draw_figures,
    drawdown_figure,
    equity_figure,
    monthly_figure,
    rolling_sharpe_figure,
)
from sentio_kedro.evaluation.plots.forecasts import evidence_figure
from sentio_kedro.evaluation.plots.ledger import cost_figure, ledger_figure
from sentio_kedro.evaluation.plots.robustness import robustness_figure
from sentio_kedro.evaluation.plots.style import (
    MAX_POINTS,
    bucket_means,
    drawn,
    keep_extremes,
    regime_shade,
    thin_rows,
)
from sentio_kedro.evaluation.plots.trading import action_figure, mask_figure, round_trip_figure
from sentio_kedro.evaluation.plots.training import generalisation_figure, training_figure
from sentio_kedro.evaluation.run_frames import COLUMNS, LINES, RunFacts, RunFrames

MakeRun = Callable[..., RunFrames]


def _lines(figure: object) -> dict[str, list[float]]:
    return {trace.name: list(trace.y) for trace in figure.data if trace.name and trace.y is not None}  # type: ignore[attr-defined]


def test_every_figure_has_a_title_a_caption_and_few_points(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    figures = draw_figures(frames, facts, build_metrics(frames, facts, ReportingParameters(bootstrap_samples=20)))
    assert set(figures) == set(CAPTIONS) - {"folds"}  # drawn with the folds, see test_fold_figures
    for name, figure in figures.items():
        assert figure.layout.title.text, name
        assert figure.data, name
        assert max(len(trace.x) for trace in figure.data if trace.x is not None) <= MAX_POINTS + 10, name


def test_equity_shows_the_ensemble_and_not_the_best_seed(make_run: MakeRun) -> None:
    frames = make_run(seeds=3, drift={"seed_2": 1e-3})
    equity = {
        name: (1.0 + account["return"]).prod() for name, account in frames.accounts.groupby("account", sort=False)
    }
    lines = _lines(equity_figure(frames))
    assert lines["Agent"][-1] == pytest.approx(equity["ensemble"], rel=1e-5)
    assert lines["Momentum"][-1] == pytest.approx(equity["momentum"], rel=1e-5)


def test_equity_marks_fold_borders_and_volatile_regimes(make_run: MakeRun) -> None:
    shapes = equity_figure(make_run()).layout.shapes
    assert sum(shape.type == "line" for shape in shapes) == 3
    colours = {shape.fillcolor for shape in shapes if shape.type == "rect"}
    assert colours == {regime_shade(1, 3), regime_shade(2, 3)}


def test_drawdown_counts_the_initial_capital_and_keeps_the_deepest_point(make_run: MakeRun) -> None:
    frames = make_run()
    accounts = frames.accounts.copy()
    mine = accounts["account"] == "momentum"
    accounts.loc[mine, "return"] = 0.0
    first, dip = accounts.index[mine][0], accounts.index[mine][778]
    accounts.loc[first, "return"] = -0.1
    accounts.loc[[dip, dip + 1], "return"] = [-0.5, 1.0]  # one bar, which thinning must not lose
    drawn_line = _lines(drawdown_figure(dataclasses.replace(frames, accounts=accounts)))["Momentum"]
    assert drawn_line[0] == pytest.approx(-0.1)
    assert min(drawn_line) == pytest.approx(-0.55)


def test_rolling_sharpe_uses_only_the_bars_of_its_window(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    returns = frames.accounts.loc[frames.accounts["account"] == "momentum", "return"].to_numpy()
    window = len(returns) // 3
    last = returns[-window:]
    expected = last.mean() / last.std(ddof=1) * np.sqrt(facts.periods_per_year)
    assert _lines(rolling_sharpe_figure(frames, facts.periods_per_year))["Momentum"][-1] == pytest.approx(
        expected, 1e-4
    )


def test_monthly_returns_compound_to_the_whole(make_run: MakeRun) -> None:
    frames = make_run(seeds=1)
    (trace,) = monthly_figure(frames).data
    months = [value for row in trace.z for value in row if value is not None]
    whole = (1.0 + frames.accounts.loc[frames.accounts["account"] == "seed_0", "return"]).prod()
    assert np.prod([1.0 + value for value in months]) == pytest.approx(whole, abs=1e-4)


def test_net_profit_is_gross_profit_minus_all_costs_and_the_sum_of_the_returns(make_run: MakeRun) -> None:
    frames = make_run(seeds=1)
    lines = _lines(cost_figure(frames))
    left = lines["Gross profit"][-1] - lines["Trading costs"][-1] - lines["Holding costs"][-1]
    assert lines["Net profit"][-1] == pytest.approx(left, abs=1e-6)
    returns = frames.accounts.loc[frames.accounts["account"] == "seed_0", "return"]
    assert lines["Net profit"][-1] == pytest.approx(returns.sum(), abs=1e-6)


def test_the_waterfall_ends_at_the_net_result_and_leaves_out_lines_of_zero() -> None:
    costs = dict.fromkeys(LINES, 0.0) | {"price_pnl": 0.5, "spread": 0.1, "funding": -0.05, "net": 0.45}
    (trace,) = ledger_figure(costs).data
    assert list(trace.y) == ["Price profit", "Commission", "Spread", "Funding", "Net result"]
    assert list(trace.x) == [0.5, 0.0, -0.1, 0.05, 0.45]
    assert list(trace.measure) == [*(["relative"] * 4), "total"]


def test_masks_show_every_layer_that_forbade_something() -> None:
    masks = [
        {"layer": layer, "regime": regime, "forbidden": share}
        for layer, shares in (("validity", (0.0, 0.0)), ("value_at_risk", (0.0, 0.4)), ("kelly", (0.1, None)))
        for regime, share in enumerate(shares)
    ]
    figure = mask_figure(masks)
    assert [(trace.name, list(trace.x)) for trace in figure.data] == [("Calm", [0.0, 0.1]), ("Volatile", [0.4, 0.0])]
    assert list(figure.data[0].y) == ["Value at risk", "Kelly"]
    assert mask_figure([]).layout.annotations[0].text == "Not recorded."
    assert [regime_title(number, 3) for number in range(3)] == ["Calm", "Regime 1", "Volatile"]


def test_robustness_shows_the_agent_and_where_it_breaks_even(make_run: MakeRun) -> None:
    frames = make_run(seeds=3)
    found = stress_metrics(frames)
    figure = robustness_figure(frames.robustness, found["break_even"])
    agent = next(trace for trace in figure.data if trace.mode == "lines+markers")
    assert list(agent.x) == [0.5, 1.0, 1.5, 2.0, 3.0]
    assert list(agent.y) == pytest.approx([entry["total_return"] for entry in found["cost"]], rel=1e-5)
    assert [shape.x0 for shape in figure.layout.shapes] == [pytest.approx(1.4)]
    (paths,) = [trace for trace in figure.data if trace.type == "bar"]
    assert sum(paths.y) == 20


def test_robustness_bears_kinds_that_were_not_simulated(make_run: MakeRun) -> None:
    frames = make_run()
    latency = frames.robustness[frames.robustness["kind"] == "latency"]
    some = dataclasses.replace(frames, robustness=latency)
    assert len(robustness_figure(latency, stress_metrics(some)["break_even"]).data) == 1
    none = dataclasses.replace(frames, robustness=latency.iloc[:0])
    assert robustness_figure(none.robustness, None).layout.annotations[0].text == "Not simulated."


def test_the_distribution_holds_every_seed_in_every_fold(make_run: MakeRun, facts: RunFacts) -> None:
    paths = build_metrics(make_run(seeds=3), facts, ReportingParameters(bootstrap_samples=10))["paths"]
    figure = sharpe_path_figure(paths)
    agents = next(trace for trace in figure.data if trace.name == "Seeds")
    assert (len(agents.x), set(agents.y)) == (12, {f"Fold {number}" for number in range(4)})
    assert figure.layout.yaxis.categoryarray[0] == "All folds"
    (box,) = [trace for trace in figure.data if trace.type == "box"]
    assert list(box.x) == list(agents.x)


def test_regimes_add_up_to_one(make_run: MakeRun) -> None:
    figure = regime_figure(make_run())
    assert [trace.name for trace in figure.data] == ["Calm", "Regime 1", "Volatile"]
    assert np.sum([trace.y for trace in figure.data], axis=0) == pytest.approx(np.ones(len(figure.data[0].y)), abs=1e-4)


def test_every_day_is_counted_and_the_value_at_risk_marked(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run(seeds=1)
    figures = build_metrics(frames, facts, ReportingParameters(bootstrap_samples=10))["seeds"][0]
    figure = daily_figure(frames, figures)
    days = frames.accounts["timestamp"].dt.floor("D").nunique()
    assert sum(figure.data[0].y) == days
    assert figure.layout.shapes[0].x0 == pytest.approx(-figures["daily_value_at_risk"])


def test_actions_are_shares_of_all_decisions(make_run: MakeRun) -> None:
    lines = _lines(action_figure(make_run()))
    assert lines["Chosen"] == pytest.approx([0.3, 0.36, 0.34])
    assert lines["Legal"] == pytest.approx([1.0] * 3)


def test_levels_that_no_network_chose_are_a_sentence_not_an_empty_plot(make_run: MakeRun) -> None:
    frames = make_run()
    ruled = dataclasses.replace(frames, actions=frames.actions.assign(count=0, legal=0))
    figure = action_figure(ruled)
    assert not figure.data
    assert "the forecast rule decides" in figure.layout.annotations[-1].text


def test_round_trips_are_all_counted_the_tails_in_the_outermost_bars(make_run: MakeRun) -> None:
    (trace,) = round_trip_figure(make_run()).data
    assert sum(trace.y) == 40


def test_learning_curves_of_all_members_are_drawn_apart(make_run: MakeRun) -> None:
    figure = training_figure(make_run().training_curves)
    assert [trace.name for trace in figure.data] == ["Train", "Validation"] * 4
    assert list(figure.data[0].x) == [6, 12, 18, 24, 30, None] * 4
    assert figure.data[0].text[0] == "seed 0, member 0"
    assert figure.data[0].text[-1] == "seed 1, member 1"
    assert figure.data[0].y[5] is None


def test_generalisation_holds_every_fold_and_seed_and_bears_unknown_figures() -> None:
    folds = [{"fold": 0, "seed": 0, "train_sharpe": None, "validation_sharpe": 1.0, "sharpe": 0.5}]
    lines = {trace.name: list(trace.x) for trace in generalisation_figure(folds).data}
    assert (lines["Train"], lines["Validation"], lines["Test"]) == ([None], [1.0], [0.5])


def test_evidence_is_drawn_by_fold_and_as_their_mean(make_run: MakeRun) -> None:
    evidence = make_run().evidence
    evidence["correlation"] += 0.01 * evidence["fold"]
    figure = evidence_figure(evidence)
    ridge = [trace for trace in figure.data if trace.name == "ridge" and trace.xaxis in ("x", "x2")]  # first sleeve
    assert all(list(trace.x) == ["1", "2-4"] for trace in ridge)
    drawn = [list(trace.y) for trace in ridge]
    assert drawn[:3] == [pytest.approx([0.035, 0.02]), pytest.approx([0.03, 0.015]), pytest.approx([0.04, 0.025])]
    assert drawn[3:] == [pytest.approx([0.02, 0.01])] * 3
    assert [trace.name for trace in figure.data if trace.showlegend] == ["ridge", "trees"]
    assert len(figure.data) == 2 * 2 * 2 * 3  # sleeves, experts, parts, lines
    titles = [note.text for note in figure.layout.annotations]
    assert titles[:2] == ["Relative returns, train rows, out of fold", "Relative returns, validation rows"]


def test_figures_bear_frames_without_rows(make_run: MakeRun) -> None:
    frames = make_run()
    empty = dataclasses.replace(
        frames,
        trades=frames.trades.iloc[:0],
        actions=frames.actions.iloc[:0],
        regime_posteriors=frames.regime_posteriors.iloc[:0],
        training_curves=frames.training_curves.iloc[:0],
    )
    assert training_figure(empty.training_curves).layout.title.text == "Learning curves"
    assert not round_trip_figure(empty).data
    assert all(shape.type == "line" for shape in equity_figure(empty).layout.shapes)
    action_figure(empty)


def test_an_agent_trained_elsewhere_leaves_no_training_frames_and_is_reported_all_the_same(
    make_run: MakeRun, facts: RunFacts
) -> None:
    nothing = {
        name: pd.DataFrame(columns=list(COLUMNS[name]))
        for name in ("regime_posteriors", "training_curves", "agent_table", "masks", "robustness", "evidence")
    }
    frames = dataclasses.replace(make_run(seeds=1), **nothing)
    metrics = build_metrics(frames, facts, ReportingParameters(bootstrap_samples=20))
    assert metrics["agent"]["members"] is None
    assert set(draw_figures(frames, facts, metrics)) == set(CAPTIONS) - {"folds"}
    assert next(iter(draw_figures(frames, facts, metrics, go.Figure()))) == "folds"


def test_thinning_keeps_both_ends() -> None:
    rows = thin_rows(100_000)
    assert (rows[0], rows[-1]) == (0, 99_999)
    assert len(rows) <= MAX_POINTS
    assert thin_rows(3).tolist() == [0, 1, 2]


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 9_000), seed=st.integers(0, 1_000))
def test_thinned_lines_lose_no_peak_no_trough_and_no_end(rows: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(rows, 2)).cumsum(axis=0)
    table = pd.DataFrame(values, columns=["a", "b"], index=pd.date_range("2020", periods=rows, freq="h"))
    thin = keep_extremes(table, 400)
    assert len(thin) <= max(400, min(rows, 400))
    assert thin.index.is_monotonic_increasing
    assert (thin.index[0], thin.index[-1]) == (table.index[0], table.index[-1])
    assert thin.iloc[[0, -1]].to_numpy().tolist() == table.iloc[[0, -1]].to_numpy().tolist()
    assert thin.max().tolist() == table.max().tolist()
    assert thin.min().tolist() == table.min().tolist()


def test_a_dip_and_a_spike_of_one_span_are_drawn_in_their_order() -> None:
    values = np.zeros(1_000)
    values[[501, 503]] = [-1.0, 2.0]
    thin = keep_extremes(pd.DataFrame({"a": values}, index=pd.RangeIndex(1_000)), 100)["a"]
    assert thin[thin != 0.0].tolist() == [-1.0, 2.0]


def test_bucket_means_average_every_row_once() -> None:
    table = pd.DataFrame({"a": np.arange(10.0)}, index=pd.date_range("2020", periods=10))
    means = bucket_means(table, 4)
    assert means["a"].tolist() == [1.0, 4.0, 7.0, 9.0]
    assert means.index.tolist() == table.index[::3].tolist()


def test_drawn_values_are_short_and_gaps_are_gaps() -> None:
    assert drawn(np.array([1.23456789, np.nan, np.inf])) == [1.23457, None, None]
