"""Live trading beside its backtest: equal on a replay, and each planted difference in its own part alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from tests.serving.conftest import random_agent, recorded_bars, round_the_clock

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import IngestionParameters, ReportingParameters
from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.evaluation.live.band import bootstrap_band, length_note, percentile
from sentio_kedro.evaluation.live.behaviour import differing_decisions
from sentio_kedro.evaluation.live.measures import Comparison, live_returns
from sentio_kedro.evaluation.live.split import PARTS, Replay
from sentio_kedro.evaluation.measures.targets import measure_targets
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import aligned_to_frame
from sentio_kedro.pipelines.live import nodes
from sentio_kedro.pipelines.live.replay import replay
from sentio_kedro.trader import events
from sentio_kedro.trader.contract import BarRow, Decision, Simulated
from sentio_kedro.trader.decider import SessionDecider
from sentio_kedro.trader.identity import order_id
from sentio_kedro.trader.journal.frames import FRAMES
from sentio_kedro.trader.journal.store import Stored
from sentio_kedro.trader.launch.models import ChosenAgents
from sentio_kedro.trader.orders import Order

FIRST, STOP = 1_183, 1_268  # rows of decisions: a split, dividends, halts, orders that come late and in part
SPAN = slice(FIRST, STOP)
MONEY = 1e-9 * 100_000
JOURNAL = ("states", "accounts", "trades", "decisions", "bars")


class Traded(NamedTuple):
    """Bars, agents, and what a trader decided on them."""

    bars: AlignedBars
    agents: list[AgentBundle]
    decisions: list[Decision]


def rows_of(bars: AlignedBars, closing: str | None) -> list[BarRow]:
    """The rows that a feed would give; a symbol without a bar is left out."""
    rows = []
    for row in range(FIRST + 1, STOP):
        columns, present = bars.columns(), bars.present[row]
        values = {
            symbol: {name: float(column[row, place]) for name, column in columns.items()}
            for place, symbol in enumerate(bars.symbols)
            if present[place]
        }
        closes = closing is not None and stamp(bars, row) >= closing
        rows.append(BarRow(stamp(bars, row), values, "replay", 0.0, closing=closes))
    return rows


def stamp(bars: AlignedBars, row: int) -> str:
    return f"{np.datetime_as_string(bars.timestamps[row], unit='s')}Z"


def trade(
    bars: AlignedBars,
    agents: Sequence[AgentBundle],
    withheld: Callable[[str, str], bool] = lambda bar, symbol: False,
    kept: Callable[[BarRow], BarRow | None] = lambda row: row,
) -> list[Decision]:
    """Let the agents follow the rows; orders that ``withheld`` names are not sent, rows ``kept`` drops never come."""
    decider = SessionDecider(agents, "toy", traced=False)
    decisions = [decider.start(bars.rows(slice(0, FIRST + 1)))]
    for row in filter(None, map(kept, rows_of(bars, stamp(bars, STOP - 3)))):
        last = decisions[-1]
        sent = frozenset(order_id("toy", last.bar, s) for s in last.orders if not withheld(last.bar, s))
        decisions.append(decider.advance(row, Simulated(sent)))
    return decisions


@pytest.fixture(scope="module", name="traded")
def traded_fixture() -> Traded:
    bars = recorded_bars(round_the_clock())
    agents = [random_agent(bars, 0), random_agent(bars, 1)]
    return Traded(bars, agents, trade(bars, agents))


@pytest.fixture(name="_once", scope="module", autouse=True)
def once_fixture() -> Iterator[None]:
    """Let agents trade the same bars once."""
    known: dict[Any, Replay] = {}

    def remembered(
        agents: list[AgentBundle], bars: AlignedBars, state: Any, silent: np.ndarray, closing: Any
    ) -> Replay:
        later = silent[silent > state.bar].tobytes()
        key = (np.stack(list(bars.columns().values())).tobytes(), bars.timestamps.tobytes(), later, closing)
        if key not in known:
            known[key] = replay(agents, bars, state, silent, closing)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "replay", remembered)
        yield


def frames_of(traded: Traded, decisions: Sequence[Decision], silent: Collection[str] = ()) -> dict[str, pd.DataFrame]:
    """The frames of a journal of these decisions, by its own events; nobody decided at bars that are ``silent``."""
    rows = {row.stamp: row for row in rows_of(traded.bars, None)}
    written = [events.model("fold_3 of the environment", "first", 0.0)]
    for decision in decisions:
        written += [events.bar(rows[decision.bar], 0.0)] if decision.bar in rows else []
        written += events.facts_of(decision, 0.0)
        if decision.bar in silent:
            continue
        written.append(events.decided(decision, 0.0))
        for symbol, shares in decision.orders.items():
            id_ = order_id("toy", decision.bar, symbol)
            order = Order(id_, decision.bar, symbol, shares, decision.closes[symbol])
            written += [events.intended(order, 0.0), events.accepted(id_, id_, 0.0)]
    return {
        name: make([Stored(0, event) for event in written if event.kind in kinds])
        for name, (make, kinds) in FRAMES.items()
    }


def compared(traded: Traded, frames: dict[str, pd.DataFrame], dataset: AlignedBars | None = None) -> Comparison:
    table = aligned_to_frame(traded.bars if dataset is None else dataset)
    chosen = ChosenAgents(traded.agents, "fold_3 of the environment")
    return nodes.compare(chosen, *(frames[name] for name in JOURNAL), table, IngestionParameters(), TraderParameters())


def parts_of(comparison: Comparison) -> dict[str, float]:
    return {part: float(comparison.steps[part].sum()) for part in PARTS}


def assert_adds_up(comparison: Comparison) -> None:
    steps = comparison.steps
    np.testing.assert_allclose(steps[list(PARTS)].sum(axis=1), steps["difference"], rtol=0, atol=MONEY)
    assert steps["unexplained"].abs().max() <= MONEY


def assert_alone(comparison: Comparison, part: str, money: float | None = None) -> None:
    """Only ``part`` is not 0."""
    assert_adds_up(comparison)
    parts = parts_of(comparison)
    others = [comparison.steps[name].abs().max() for name in PARTS if name != part]
    assert max(others) <= MONEY, parts
    if money is None:
        assert abs(parts[part]) > 1e-3
    else:
        assert parts[part] == pytest.approx(money, abs=MONEY)


def test_a_replay_differs_in_nothing(traded: Traded) -> None:
    comparison = compared(traded, frames_of(traded, traded.decisions))
    assert comparison.steps[["difference", *PARTS]].abs().max().max() <= MONEY
    assert abs(comparison.steps["live"].sum()) > 100.0


def test_what_was_bought_is_paid_for_in_the_splits_own_prices(traded: Traded) -> None:
    """Splits, dividends, halts, partial and late fills lie in the replay above."""
    bars = traded.bars.rows(SPAN)
    assert (bars.split[bars.present] != 1.0).any()
    assert (bars.dividend[bars.present] != 0.0).any()
    assert (~bars.present).any(axis=0).sum() >= 2
    assert sum(len(decision.fills) for decision in traded.decisions) >= 20


def with_cash(frames: dict[str, pd.DataFrame], bar: pd.Timestamp, money: float) -> dict[str, pd.DataFrame]:
    """The account has ``money`` more from a bar on."""
    accounts = frames["accounts"].copy()
    later = accounts["stamp"] >= bar
    accounts.loc[later, ["equity", "cash"]] += money
    return {**frames, "accounts": accounts}


def test_a_worse_price_is_slippage(traded: Traded) -> None:
    frames = frames_of(traded, traded.decisions)
    trades = frames["trades"].copy()
    place = trades.index[(trades["order"] != "") & (trades["shares"] > 0.0)][3]
    trades.loc[place, "price"] += 0.25
    cost = 0.25 * trades.loc[place, "shares"]
    comparison = compared(traded, with_cash({**frames, "trades": trades}, trades.loc[place, "bar"], -cost))
    assert_alone(comparison, "slippage", -cost)


def test_a_fee_beyond_the_commission_is_a_fee(traded: Traded) -> None:
    frames = frames_of(traded, traded.decisions)
    trades = frames["trades"].copy()
    trades.loc[4, "fee"] += 7.5
    comparison = compared(traded, with_cash({**frames, "trades": trades}, trades.loc[4, "bar"], -7.5))
    assert_alone(comparison, "fees", -7.5)


def test_interest_is_cash_and_a_transfer_is_no_return(traded: Traded) -> None:
    frames = frames_of(traded, traded.decisions)
    bar = frames["accounts"]["stamp"].iloc[40]
    frames = with_cash(frames, bar, 500.0)
    comparison = compared(traded, frames)
    assert_alone(comparison, "cash", 500.0)
    moved = frames["accounts"].copy()
    moved.loc[moved["stamp"] == bar, "transfers"] = 500.0
    comparison = compared(traded, {**frames, "accounts": moved})
    assert_alone(comparison, "cash", 500.0)
    known = compared(traded, frames_of(traded, traded.decisions))
    one, other = live_returns(comparison.account), live_returns(known.account)
    np.testing.assert_allclose(one[:40], other[:40], rtol=0, atol=1e-12)


def test_positions_that_no_fill_explains_are_unexplained(traded: Traded) -> None:
    frames = frames_of(traded, traded.decisions)
    accounts = frames["accounts"].copy()
    accounts.loc[accounts.index >= 50, "equity"] += 300.0  # shares, not cash
    comparison = compared(traded, {**frames, "accounts": accounts})
    parts = parts_of(comparison)
    assert parts.pop("unexplained") == pytest.approx(300.0, abs=MONEY)
    assert max(map(abs, parts.values())) <= MONEY


def test_orders_that_were_not_sent_are_decisions(traded: Traded) -> None:
    bar, symbol = next((d.bar, s) for d in traded.decisions[30:] for s in d.orders)
    decisions = trade(traded.bars, traded.agents, lambda at, of: (at, of) == (bar, symbol))
    frames = frames_of(traded, decisions)
    told = frames["decisions"].copy()
    told.loc[(told["stamp"] == bar) & (told["symbol"] == symbol), ["outcome", "reason"]] = "denied", "gross"
    comparison = compared(traded, {**frames, "decisions": told})
    assert_alone(comparison, "decisions")
    other = differing_decisions(told, comparison.account, comparison.model, comparison.replay, comparison.symbols)
    assert other.iloc[0].tolist() == [pd.Timestamp(bar), symbol, "denied: gross"]


def test_bars_that_were_revised_later_are_revised_bars(traded: Traded) -> None:
    revised = traded.bars.close.copy()
    revised[FIRST + 36, 1] *= 1.0005
    high = np.maximum(traded.bars.high, revised)
    comparison = compared(traded, frames_of(traded, traded.decisions), replace(traded.bars, close=revised, high=high))
    assert comparison.bars.revised.sum() == 1
    assert_alone(comparison, "bars_revised")


def test_bars_that_never_came_are_missed_bars(traded: Traded) -> None:
    lost = {stamp(traded.bars, row) for row in (FIRST + 40, FIRST + 41)}
    decisions = trade(traded.bars, traded.agents, kept=lambda row: None if row.stamp in lost else row)
    comparison = compared(traded, frames_of(traded, decisions))
    assert comparison.bars.missed.any(axis=1).sum() == 2
    assert_alone(comparison, "missed_bars")


def test_a_bar_at_which_nobody_decided_is_missed(traded: Traded) -> None:
    silent = next(d.bar for d in traded.decisions[20:] if d.orders)
    decisions = trade(traded.bars, traded.agents, lambda at, of: at == silent)
    comparison = compared(traded, frames_of(traded, decisions, silent={silent}))
    assert len(comparison.account.stamps) == len(decisions) - 1
    assert_alone(comparison, "missed_bars")


def test_bars_must_reach_the_first_decision(traded: Traded) -> None:
    early = traded.bars.rows(slice(0, FIRST - 40))
    with pytest.raises(ValueError, match=r"`bars` must reach up to the first decision, .*fetch the bars in between"):
        compared(traded, frames_of(traded, traded.decisions), early)


def test_a_journal_without_decisions_is_refused(traded: Traded) -> None:
    with pytest.raises(ValueError, match=r"The journal holds no decision; let `kedro trader run` trade"):
        compared(traded, frames_of(traded, []))


QUICK = ReportingParameters(bootstrap_samples=50, bootstrap_block=5.0)
TESTED = {
    "agent": {"sharpe": 2.0, "intervals": {"sharpe": [1.0, 3.0]}},
    "targets": measure_targets({"sharpe": 2.0, "max_drawdown": 0.05, "win_rate": 0.5, "trades": 9}),
}


@pytest.fixture(scope="module", name="measured")
def measured_fixture(traded: Traded) -> tuple[dict[str, Any], pd.DataFrame, str, tuple[Any, ...]]:
    comparison = compared(traded, frames_of(traded, traded.decisions))
    days = pd.date_range("2019-01-01", periods=200, freq="30min", tz="UTC")
    record = pd.DataFrame({"timestamp": days, "ensemble": np.random.default_rng(1).normal(0.0, 1e-3, 200)})
    band = nodes.resample(comparison, record, QUICK)
    metrics, differences = nodes.measure(comparison, band, TESTED, QUICK)
    figures = nodes.draw(comparison, band, metrics)
    return metrics, differences, nodes.write(metrics, *figures), figures


def test_a_replay_has_the_metrics_of_its_backtest(measured: Any, traded: Traded) -> None:
    metrics, differences, _, _ = measured
    assert metrics["decisions"] == {"compared": 3 * (STOP - FIRST - 1), "differing": 0, "kinds": {}}
    assert metrics["bars_seen"] == {"revised": 0, "missed": 0}
    for name in ("total_return", "sharpe", "trades", "holding_bars", "gross_exposure", "turnover_per_bar"):
        assert metrics["live"][name] == pytest.approx(metrics["backtest"][name], rel=1e-9), name
    assert metrics["live"]["trades"] > 5
    assert metrics["slippage"]["realised_bps"] == pytest.approx(metrics["slippage"]["model_bps"], rel=1e-9)
    assert [entry["live"] for entry in metrics["actions"]] == [entry["backtest"] for entry in metrics["actions"]]
    equity = [decision.equity for decision in traded.decisions]
    assert metrics["live"]["total_return"] == pytest.approx(equity[-1] / equity[0] - 1.0)
    assert differences["live"].sum() == pytest.approx(equity[-1] - equity[0])
    assert differences[["difference", *PARTS]].abs().max().max() <= MONEY
    assert list(differences["day"].dt.strftime("%d")) == ["25", "26", "27"]
    assert [entry["tested_interval"] for entry in metrics["targets"]] == [[1.0, 3.0], None, None, None, None]


def test_the_page_says_that_live_repeats_the_backtest(measured: Any) -> None:
    page = measured[2]
    assert "Live trading repeats the backtest: the same decisions and the same money." in page
    assert "0 of 252 decisions differ." in page
    assert "https://" not in page.split("<main>")[1].split("</main>")[0]
    assert page.count("Live and backtest agree on every day.") == 2
    assert len(page) < 2_000_000  # plotly.js is most of it


def test_a_return_is_placed_among_resampled_ones() -> None:
    band = bootstrap_band(np.full(30, 0.01), 40, QUICK)  # longer than the record
    np.testing.assert_allclose(band.growth[:, -1], 1.01**40)
    assert percentile(band.growth[:, -1] - 1.0, 1.01**40 - 1.0) == 0.5
    assert percentile(band.growth[:, -1] - 1.0, 0.0) == 0.0
    assert band.bars[-1] == 40
    coins = bootstrap_band(np.tile([0.1, -0.1], 50), 1, replace(QUICK, bootstrap_samples=4_000))
    assert percentile(coins.growth[:, 0] - 1.0, 0.0) == pytest.approx(0.5, abs=0.03)


def test_the_note_says_what_the_length_cannot_show() -> None:
    note = length_note(252, 1_008.0, {"sharpe": 1.959964})  # a quarter of a year
    assert note.startswith(
        "91 days cannot show a Sharpe ratio below 3.9: over 0.25 years its standard error is about 2.0."
    )
    assert "To tell a ratio of 1.96, that of the out-of-sample record, from 0 takes about 365 days." in note
    assert "a ratio of 3.00, that of the target" in length_note(252, 1_008.0, {"sharpe": -1.0})


def test_metrics_go_to_the_trader_and_to_its_models_version(measured: Any, store: MlflowClient) -> None:
    metrics, differences, page, figures = measured
    served = store.create_logged_model("1", "served").model_id
    store.finalize_logged_model(served, "READY")
    store.create_registered_model("toy")
    store.create_model_version("toy", f"models:/{served}")
    for _ in range(2):  # the second time continues the run
        nodes.track({**metrics, "version": "1"}, differences, page, "toy", "toy", *figures)
    (run,) = store.search_runs(["1"], "attributes.run_name = 'live replay'")
    assert run.data.metrics["live.difference.fees"] == pytest.approx(0.0, abs=1e-9)
    assert run.data.metrics["live.band.percentile"] == metrics["band"]["percentile"]
    logged = {metric.key: metric.value for metric in store.get_logged_model(served).metrics}
    assert logged["live.live.total_return"] == metrics["live"]["total_return"]
    assert {file.path for file in store.list_artifacts(run.info.run_id)} == {
        *("figures", "live_differences.csv", "live_metrics.json", "live_report.html")
    }


def test_a_failing_store_costs_a_warning(
    measured: Any, store: MlflowClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    metrics, differences, page, figures = measured
    monkeypatch.setattr(MlflowClient, "log_batch", Mock(side_effect=OSError("no disk")))
    nodes.track({**metrics, "version": "7"}, differences, page, "toy", "toy", *figures)
    assert "this run goes on untracked" in caplog.text


def test_the_environments_agents_are_named_by_their_version(traded: Traded) -> None:
    agents = {agent.name: agent for agent in traded.agents}
    logged = {"agents": list(agents), "version": "4", "model": "toy"}
    assert nodes.choose(TraderParameters(), agents, logged, "toy", []).version == "4"
    assert nodes.choose(TraderParameters(), agents, {**logged, "agents": []}, "toy", []).version == ""
