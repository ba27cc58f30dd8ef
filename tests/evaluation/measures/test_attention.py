"""The bars whose attention is shown are the same ones every time, and the weights are those of the networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
import torch
from tests.evaluation.backtest.test_backtest import COLUMNS, FIRST, make_agent, make_bars

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.network.encoder import attention_weights
from sentio_kedro.config import NetworkParameters, ReportingParameters, TradingParameters
from sentio_kedro.evaluation.measures.attention import attention_frame, choose_bars
from sentio_kedro.evaluation.plots.attention import attention_figure
from sentio_kedro.evaluation.run_frames import COLUMNS as FRAMES
from sentio_kedro.evaluation.run_frames import RunFrames
from sentio_kedro.market.indicators import compute_features

BARS = make_bars()
FEATURES = compute_features(BARS, COLUMNS)
SECOND, STOP = 220, 260  # the folds test rows [FIRST, SECOND) and [SECOND, STOP)


def positions(market_returns: dict[int, float], seeds: int = 2) -> pd.DataFrame:
    """Positions that are one half, but ``market_returns`` by row in the second asset of the last seed."""
    frames = []
    for fold, rows in enumerate((np.arange(FIRST, SECOND), np.arange(SECOND, STOP))):
        timestamps = pd.to_datetime(BARS.timestamps[rows], utc=True)
        for seed in range(seeds):
            for asset, symbol in enumerate(BARS.symbols):
                frame = pd.DataFrame({"timestamp": timestamps, "symbol": symbol, "seed": seed, "fold": fold})
                moved = [market_returns.get(row, 0.0) if (seed, asset) == (seeds - 1, 1) else 0.0 for row in rows]
                frames.append(frame.assign(position=0.5 + np.array(moved)))
    return pd.concat(frames, ignore_index=True)


def timestamps(*rows: int) -> list[datetime]:
    return [pd.Timestamp(BARS.timestamps[row], tz="UTC").to_pydatetime() for row in rows]


def test_bars_are_the_largest_change_and_even_ones_of_the_last_fold() -> None:
    # position 0.1 at 231 and 0.5 back at 232; a larger move in the first fold does not count
    held = positions({160: 5.0, 231: -0.3, 245: 0.2})
    assert {fold: rows.tolist() for fold, rows in choose_bars(BARS, held, 1, 0).items()} == {1: [231]}
    chosen = choose_bars(BARS, held, 4, 0)
    # 39 of the 40 rows are free; at 1/6, 3/6 and 5/6 of them
    assert {fold: rows.tolist() for fold, rows in chosen.items()} == {1: [226, 231, 239, 252]}
    assert choose_bars(BARS, held.sample(frac=1.0, random_state=0), 4, 0)[1].tolist() == [226, 231, 239, 252]


def test_what_the_ends_of_the_test_force_is_no_change() -> None:
    held = positions({row: 0.4 for row in range(SECOND, 240)} | {250: 0.01, 258: -0.5, 259: -0.5})
    assert choose_bars(BARS, held, 1, 0)[1].tolist() == [258]
    assert choose_bars(BARS, held, 1, 1)[1].tolist() == [240]  # the last order must be sent at row 258
    gap = held[
        ~held["timestamp"].isin(timestamps(239))
    ]  # two segments: row 240 follows no row, row 238 closes the first
    assert choose_bars(BARS, gap, 1, 1)[1].tolist() == [250]


def test_agents_that_never_move_are_looked_at_evenly() -> None:
    assert choose_bars(BARS, positions({}), 2, 0)[1].tolist() == [229, 249]
    assert choose_bars(BARS, positions({}), 0, 0)[1].tolist() == []


def test_named_bars_are_taken_from_the_fold_that_tested_them() -> None:
    held = positions({})
    chosen = choose_bars(BARS, held, timestamps(230, 160, 155), 0)
    assert {fold: rows.tolist() for fold, rows in chosen.items()} == {0: [155, 160], 1: [230]}
    again = held.assign(fold=held["fold"].where(held["timestamp"] != timestamps(160)[0], 1))  # also tested by fold 1
    assert choose_bars(BARS, pd.concat([held, again.drop_duplicates()]), timestamps(160), 0)[1].tolist() == [160]


def test_a_named_bar_that_was_not_tested_is_refused_with_the_span() -> None:
    (unknown,) = timestamps(FIRST - 1)
    first, last = (timestamp.isoformat() for timestamp in timestamps(FIRST, STOP - 1))
    with pytest.raises(ValueError, match=r"`reporting.attention_bars`") as refused:
        choose_bars(BARS, positions({}), [*timestamps(230), unknown], 0)
    text = str(refused.value)
    assert f"from {first} to {last}; no bar was tested at {unknown.isoformat()}." in text


def test_parameters_take_a_number_or_bars_with_their_zone() -> None:
    assert ReportingParameters(attention_bars=0).attention_bars == 0
    named = ReportingParameters(attention_bars=["2019-08-01T12:00:00Z"])  # type: ignore[list-item]
    assert named.attention_bars == [pd.Timestamp("2019-08-01 12:00", tz="UTC")]
    for wrong in (-1, 33, ["2019-08-01T12:00:00"]):
        with pytest.raises(ValueError, match="attention_bars"):
            ReportingParameters(attention_bars=wrong)  # type: ignore[arg-type]


def test_the_table_holds_the_weights_of_every_network_at_every_bar() -> None:
    agents = {agent.name: agent for agent in (make_agent(fold, seed) for fold in (0, 1) for seed in (1, 0))}
    frame = attention_frame(BARS, FEATURES, agents, positions({}), timestamps(160, 230, 240))
    assert tuple(frame.columns) == FRAMES["attention"]
    keys = [name for name in frame.columns if name not in ("lag", "weight")]
    sums = frame.groupby(keys)["weight"].sum()
    assert sums.to_numpy() == pytest.approx(1.0)
    # 2 seeds x 2 members x 1 layer x 2 heads x 2 assets, one bar of fold 0 and two of fold 1
    assert frame.groupby("fold").size().to_dict() == {0: 16 * 4, 1: 32 * 4}
    network = agents["fold_1/seed_1"].networks(torch.float64)[1]
    weights = attention_weights(network.encoder, torch.from_numpy(FEATURES), torch.tensor([240]))  # [L, R, A, heads, W]
    one = frame.query("fold == 1 and seed == 1 and member == 1 and head == 1 and symbol == 'BBB'")
    one = one[one["timestamp"] == timestamps(240)[0]]
    assert one["lag"].tolist() == [0, 1, 2, 3]
    assert one["weight"].to_numpy() == pytest.approx(weights[0, 0, 1, 1].flip(0).numpy(), rel=1e-12)


def test_an_mlp_has_no_attention_and_the_figure_says_so() -> None:
    mlp = NetworkParameters(encoder="mlp", width=8, hidden=8, quantiles=5)
    spec = replace(make_agent(1, 0).spec, network=mlp)
    frame = attention_frame(BARS, FEATURES, {"fold_1/seed_0": AgentBundle(spec, ())}, positions({}, seeds=1), 4)
    assert (len(frame), tuple(frame.columns)) == (0, FRAMES["attention"])
    figure = attention_figure(frame, 0, "mlp")
    assert not figure.data
    assert figure.layout.annotations[0].text == "The agents' encoder is an mlp, which has no attention."
    off = attention_frame(BARS, FEATURES, {"fold_1/seed_0": make_agent(1, 0)}, positions({}, seeds=1), 0)
    assert "reporting.attention_bars" in attention_figure(off, 0, "transformer").layout.annotations[0].text


def test_latency_of_the_agents_orders_moves_the_last_bar_that_counts() -> None:
    late = TradingParameters(orders={"latency_bars": 2})  # type: ignore[arg-type]
    agents = {"fold_1/seed_0": make_agent(1, 0, trading=late)}
    held = positions({257: 0.2, 258: 0.2, 259: 0.2, 230: 0.1}, seeds=1)  # moved by 0.2 at row 257
    frame = attention_frame(BARS, FEATURES, agents, held, 1)
    assert frame["timestamp"].unique().tolist() == timestamps(230)


def test_the_figure_shows_one_network_by_bar_and_all_networks_by_lag(make_run: Callable[..., RunFrames]) -> None:
    attention = make_run(seeds=3).attention
    mine = (attention["seed"] == 1) & (attention["member"] == 0) & (attention["head"] == 1)
    late = attention["timestamp"] == attention["timestamp"].max()
    marked = mine & late & (attention["symbol"] == "ETH") & (attention["lag"] == 3)
    attention.loc[marked, "weight"] = attention.loc[marked, "weight"] + 0.4
    figure = attention_figure(attention, 1, "transformer")
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    assert [len(trace.y) for trace in maps] == [2, 2]
    assert np.array(maps[0].z) == pytest.approx(np.tile([1 / 2, 1 / 4, 1 / 8, 1 / 8], (2, 1)))
    expected = np.tile([1 / 8, 1 / 8, 1 / 4, 1 / 2], (2, 1))
    expected[1, 3] += 0.2  # 0.4 in one of two assets
    assert np.array(maps[1].z) == pytest.approx(expected)
    others, even, first, second = [trace for trace in figure.data if trace.type == "scatter"]
    assert others.y.count(None) == 2 * (3 * 2 - 1)  # a line for each head of the other five networks
    assert list(even.y) == [0.25] * 4
    assert list(first.y) == pytest.approx([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    assert list(second.y) == pytest.approx(expected.mean(axis=0))
    titles = [note.text.split("</span> ")[-1] for note in figure.layout.annotations]
    assert titles == ["Head 0", "Head 1", "Mean weight by lag"]


def test_heads_of_different_folds_are_not_mixed(make_run: Callable[..., RunFrames]) -> None:
    attention = make_run(seeds=1).attention
    older = attention.assign(fold=0, timestamp=attention["timestamp"] - pd.Timedelta(days=9), weight=0.25)
    figure = attention_figure(pd.concat([older, attention]), 0, "transformer")
    titles = [note.text.split("</span> ")[-1] for note in figure.layout.annotations]
    assert titles == ["Fold 0, head 0", "Fold 0, head 1", "Fold 3, head 0", "Fold 3, head 1", "Mean weight by lag"]
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    assert np.array(maps[1].z) == pytest.approx(np.full((2, 4), 0.25))
    assert np.array(maps[2].z)[0] == pytest.approx([1 / 2, 1 / 4, 1 / 8, 1 / 8])
