"""Horizons are times, and shrink with the bars until the arithmetic of a run is met."""

import functools

import pytest
from tests.conftest import ROOT

from sentio_kedro.adoption.environment import base_sections
from sentio_kedro.adoption.horizons import feature_columns, longest, resolved
from sentio_kedro.adoption.plan import Market, plan, typed_sections

MINUTES = {"bar_minutes": 1, "session_minutes": 1440, "sessions_per_year": 365}
DAYS = {"bar_minutes": 1440, "session_minutes": 390, "sessions_per_year": 252}
WEEKS = {**DAYS, "bar_minutes": 10_080}


@functools.cache
def base():
    return base_sections(ROOT)


def names(columns):
    return [column["name"] for column in columns]


def test_a_horizon_has_one_name_and_as_many_bars_as_it_lasts():
    minutes, days = feature_columns(MINUTES, 2_000, 2, True), feature_columns(DAYS, 2_000, 2, True)
    assert {"return_1h", "return_1d"} <= {*names(minutes)}
    assert {"return_1w", "return_1mo", "return_1q"} <= {*names(days)}
    assert not {"return_1h", "time_of_day_sine"} & {*names(days)}
    of_day = next(column for column in minutes if column["name"] == "return_1d")
    assert of_day["bars"] == "${bars:1d}"
    assert resolved(of_day, MINUTES)["bars"] == 1_440


def test_one_symbol_has_no_ranks_and_no_volume_no_surprise():
    assert not [name for name in names(feature_columns(DAYS, 2_000, 1, False)) if "rank" in name or "volume" in name]


def test_a_look_back_is_the_longest_duration_that_fits():
    assert longest(DAYS, "6mo", 1_000) == "${bars:6mo}"
    assert longest(DAYS, "6mo", 30) == "${bars:1mo}"
    assert longest(WEEKS, "1w", 3) == "${bars:1w}"
    assert longest({**MINUTES, "bar_minutes": 7}, "1d", 1) == 1


@pytest.mark.parametrize(
    ("market", "forecasts", "runs"),
    [
        (Market(30, 1, 1, True, DAYS), False, True),
        (Market(60, 1, 2, True, DAYS), False, True),
        (Market(400, 1, 2, True, DAYS), False, True),
        (Market(2_600, 1, 2, True, DAYS), False, True),
        (Market(600, 1, 1, True, WEEKS), False, True),
        (Market(20_000, 1_440, 1, True, MINUTES), True, True),
        (Market(2_000, 1_440, 1, True, MINUTES), False, False),
        (Market(10, 1, 1, True, DAYS), False, False),
        (Market(30, 30, 1, True, {**MINUTES, "bar_minutes": 5}), False, False),
    ],
)
def test_parameters_fit_the_bars_or_the_minimum_is_said(market, forecasts, runs):
    sized = plan(market, base(), small=False)
    assert sized.forecasts is forecasts
    assert (sized.needed <= market.bars) is runs
    typed = typed_sections(base(), resolved(sized.sections, market.names))
    assert typed["training"].variant == typed["network"].variant == ("forecasts" if forecasts else "enhanced")
    if not runs:
        enough = plan(Market(sized.needed, market.of_session, 1, True, market.names), base(), small=False)
        assert enough.needed <= sized.needed


def test_small_is_small_whatever_the_bars_allow():
    sections = plan(Market(50_000, 48, 2, True, {**MINUTES, "bar_minutes": 30}), base(), small=True).sections
    assert sections["training"]["total_steps"] == 1_024
    assert sections["reporting"]["trials"] == {"record": False}


def test_forecasts_of_one_symbol_are_of_its_direction():
    one, two = (plan(Market(2_600, 1, symbols, True, DAYS), base(), small=False).sections for symbols in (1, 2))
    assert one["forecasting"] == {"sleeves": ["directional"]}
    assert "forecasting" not in two
