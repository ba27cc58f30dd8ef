"""What identifies a test row, and which rows two runs have in common."""

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.config import IngestionParameters
from sentio_kedro.evaluation.comparison.returns import (
    describe_rows,
    headline_column,
    out_of_sample_returns,
    rows_digest,
    shared_rows,
)
from sentio_kedro.market.ingestion.bars import align_bars


def rows_of(rows=range(6), fold=0, market=0.01, agent=0.0):
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
    table = out_of_sample_returns(frames, aligned)
    assert table["market"].to_numpy() == pytest.approx(np.log(close[rows + 1] / close[rows]))
    first = frames.accounts[frames.accounts["account"] == "seed_1"].sort_values("row")
    assert table["seed_1"].tolist() == first["return"].tolist()
    assert table["timestamp"].tolist() == first["timestamp"].tolist()
    assert headline_column(table) == "ensemble"
    assert "buy_and_hold" in table


def test_rows_in_common_are_moments_in_common_whatever_their_fold():
    first, second = shared_rows(rows_of(range(6), fold=0), rows_of(range(4, 9), fold=1))
    assert first["seed_0"].tolist() == second["seed_0"].tolist() == [0.04, 0.05]


def test_a_moment_at_which_the_market_moved_otherwise_is_another_row():
    other = rows_of()
    other.loc[2, "market"] += 1e-6
    first, _ = shared_rows(rows_of(), other)
    assert first["seed_0"].tolist() == [0.0, 0.01, 0.03, 0.04, 0.05]


def test_rows_that_recur_are_paired_within_their_fold():
    twice = pd.concat([rows_of(fold=0), rows_of(fold=1, agent=1.0)])
    once = rows_of(fold=1, agent=2.0)
    first, second = shared_rows(twice, once)
    assert (second["seed_0"] - first["seed_0"]).tolist() == pytest.approx([1.0] * 6)


@pytest.mark.parametrize("other", [rows_of(range(5)), rows_of(range(1, 7)), rows_of(market=0.02)])
def test_other_rows_have_another_digest(other):
    assert rows_digest(rows_of()) == rows_digest(rows_of(fold=3, agent=9.0))
    assert rows_digest(other) != rows_digest(rows_of())


def test_rows_in_words():
    assert describe_rows(rows_of(range(1, 5))) == "2024-01-02 to 2024-01-05, 4 bars"
