"""What identifies a test row, and which rows two runs have in common."""

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.config import IngestionParameters
from sentio_kedro.evaluation.comparison.returns import (
    agent_columns,
    describe_rows,
    out_of_sample_returns,
    rows_digest,
    shared_rows,
)
from sentio_kedro.market.bars import align_bars


def judged(rows=range(6), fold=0, market=0.01, agent=0.0):
    count = len(rows)
    timestamps = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(list(rows), unit="D")
    return pd.DataFrame(
        {
            "timestamp": timestamps,
            "fold": np.broadcast_to(fold, count),
            "market": np.broadcast_to(market, count) * (1.0 + np.array(rows)),
            "seed_0": np.broadcast_to(agent, count) + np.array(rows) / 100,
        }
    )


def test_a_row_carries_the_markets_move_until_the_end_of_the_next_bar(make_run, bars):
    frames = make_run()
    rows = np.sort(frames.accounts["row"].unique())
    timestamps = pd.date_range("2015-01-01", periods=rows[-1] + 2, freq="D", tz="UTC")
    rng = np.random.default_rng(1)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(len(timestamps))))
    one = pd.DataFrame({"timestamp": timestamps, "symbol": "AAA", "volume": 1.0})
    feed = one.assign(open=close, high=close, low=close, close=close)
    aligned = align_bars(feed, IngestionParameters(bar_label="end"))
    kept = out_of_sample_returns(frames, aligned)
    assert kept["market"].to_numpy() == pytest.approx(np.log(close[rows + 1] / close[rows]))
    mine = frames.accounts[frames.accounts["account"] == "seed_1"].sort_values("row")
    assert kept["seed_1"].tolist() == mine["return"].tolist()
    assert kept["timestamp"].tolist() == mine["timestamp"].tolist()
    assert agent_columns(kept) == ["seed_0", "seed_1"]
    assert "buy_and_hold" in kept


def test_rows_in_common_are_moments_in_common_whatever_their_fold():
    mine, theirs = shared_rows(judged(range(6), fold=0), judged(range(4, 9), fold=1))
    assert mine["seed_0"].tolist() == theirs["seed_0"].tolist() == [0.04, 0.05]


def test_a_moment_at_which_the_market_moved_otherwise_is_another_row():
    other = judged()
    other.loc[2, "market"] += 1e-6
    mine, _ = shared_rows(judged(), other)
    assert mine["seed_0"].tolist() == [0.0, 0.01, 0.03, 0.04, 0.05]


def test_rows_that_recur_are_paired_within_their_fold():
    twice = pd.concat([judged(fold=0), judged(fold=1, agent=1.0)])
    once = judged(fold=1, agent=2.0)
    mine, theirs = shared_rows(twice, once)
    assert (theirs["seed_0"] - mine["seed_0"]).tolist() == pytest.approx([1.0] * 6)


@pytest.mark.parametrize("other", [judged(range(5)), judged(range(1, 7)), judged(market=0.02)])
def test_other_rows_have_another_digest(other):
    assert rows_digest(judged()) == rows_digest(judged(fold=3, agent=9.0))
    assert rows_digest(other) != rows_digest(judged())


def test_rows_in_words():
    assert describe_rows(judged(range(1, 5))) == "2024-01-02 to 2024-01-05, 4 bars"
