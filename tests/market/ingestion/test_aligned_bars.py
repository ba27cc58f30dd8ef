"""Cutting bars: every column goes along, and what a dropped bar split or paid is not lost."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.market.ingestion.adjustment import adjustment_factors
from sentio_kedro.market.ingestion.aligned_bars import NEUTRAL, AlignedBars, acts, hold

COLUMNS = [*(field.name for field in fields(AlignedBars)[2:] if field.name not in ("extra", "leavers")), "vix"]


def rich(bars, split=None, dividend=None):
    """The bars with every optional column."""
    shape, present = bars.close.shape, bars.present
    rng = np.random.default_rng(0)
    values = {
        "split": np.ones(shape) if split is None else split,
        "dividend": np.zeros(shape) if dividend is None else dividend,
        "spread": rng.random(shape),
        "funding": rng.standard_normal(shape),
    }
    own = {"vix": np.where(present, rng.random(shape), np.nan)}
    return replace(bars, **{name: np.where(present, value, np.nan) for name, value in values.items()}, extra=own)


def test_every_column_is_known_by_name(walk):
    assert set(rich(walk(5)).columns()) == set(COLUMNS)
    assert set(walk(5).columns()) == set(COLUMNS) - set(NEUTRAL) - {"vix"}


@pytest.mark.parametrize("index", [slice(2, 6), np.array([5, 1, 1]), np.arange(8) % 3 == 0])
def test_rows_cut_every_column_alike(walk, index):
    bars = rich(walk(8, 2))
    part = bars.rows(index)
    np.testing.assert_array_equal(part.timestamps, bars.timestamps[index])
    assert part.symbols == bars.symbols
    for name in COLUMNS:
        np.testing.assert_array_equal(part.columns()[name], bars.columns()[name][index])
    plain = walk(8, 2).rows(index)
    assert plain.split is plain.dividend is plain.spread is plain.funding is None


def test_a_column_that_is_changed_leaves_the_others(walk):
    bars = rich(walk(8, 2))
    twice = bars.map_columns(lambda column: 2.0 * column)
    for name in COLUMNS:
        np.testing.assert_array_equal(twice.columns()[name], 2.0 * bars.columns()[name])


def test_hidden_bars_are_missing_in_every_column(walk):
    bars = rich(walk(8, 2))
    hidden = np.zeros((8, 2), dtype=bool)
    hidden[3, 1] = hidden[6] = True
    found = bars.without(hidden)
    for name in COLUMNS:
        np.testing.assert_array_equal(found.columns()[name], np.where(hidden, np.nan, bars.columns()[name]))
    np.testing.assert_array_equal(found.present, ~hidden)
    assert bars.present.all()  # the bars themselves are as they were


def test_what_hidden_bars_split_and_paid_moves_to_the_next_kept_bar(walk):
    split, dividend = np.ones((8, 2)), np.zeros((8, 2))
    split[2:5, 0] = 2.0, 5.0, 10.0
    dividend[2:5, 0] = 10.0, 1.0, 0.5
    dividend[7, 1] = 4.0
    hidden = np.zeros((8, 2), dtype=bool)
    hidden[2:4] = hidden[7] = True
    found = rich(walk(8, 2), split, dividend).without(hidden)
    np.testing.assert_array_equal(found.split[:, 0], [1, 1, np.nan, np.nan, 100, 1, 1, np.nan])
    np.testing.assert_allclose(found.dividend[4, 0], 10.0 / 50.0 + 1.0 / 10.0 + 0.5)
    np.testing.assert_array_equal(found.dividend[:, 1], [0, 0, np.nan, np.nan, 0, 0, 0, np.nan])  # no bar to carry to


def test_a_bar_that_the_asset_lacks_is_no_place_to_carry_to(walk):
    split = np.ones((6, 1))
    split[1] = 3.0
    bars = rich(walk(6, 1), split)
    bars = bars.without(np.array([[0], [0], [1], [0], [0], [0]], dtype=bool))  # the asset has no bar at row 2
    found = bars.without(np.array([[0], [1], [0], [0], [0], [0]], dtype=bool))
    np.testing.assert_array_equal(found.split[:, 0], [1, np.nan, np.nan, 3, 1, 1])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), missing=st.sampled_from([0.0, 0.3]))
def test_shares_grow_alike_whichever_bars_are_hidden(walk, seed, missing):
    bars = walk(40, 2, seed, missing=missing)
    rng = np.random.default_rng(seed)
    bars = rich(bars, split=rng.choice([1.0, 1.0, 2.0, 0.5], (40, 2)))
    hidden = rng.random((40, 1)) < 0.4
    hidden[:3] = False
    found = bars.without(hidden)
    kept = found.present
    for asset in range(2):
        rows = np.flatnonzero(kept[:, asset])
        begun = np.flatnonzero(bars.present[:, asset])[0]
        if not rows.size or rows[0] != begun:
            continue
        whole, part = adjustment_factors(bars), adjustment_factors(found)
        shares = np.ones((40, 2)) if part is None else part.split
        expected = np.ones((40, 2)) if whole is None else whole.split
        np.testing.assert_array_equal(shares[rows, asset], expected[rows, asset])


def test_acts_are_splits_and_dividends_of_bars(walk):
    split, dividend = np.ones((4, 2)), np.zeros((4, 2))
    split[1, 0], dividend[2, 1] = 2.0, 0.1
    assert np.argwhere(acts(rich(walk(4, 2), split, dividend))).tolist() == [[1, 0], [2, 1]]
    assert not acts(walk(4, 2)).any()


def test_values_are_held_forward_alone():
    values = np.array([[np.nan, 1.0], [2.0, np.nan], [np.nan, np.nan], [3.0, 4.0]])
    np.testing.assert_array_equal(hold(values), [[np.nan, 1.0], [2.0, 1.0], [2.0, 1.0], [3.0, 4.0]])
