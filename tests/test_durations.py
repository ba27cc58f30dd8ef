"""Durations of parameters files become numbers of the environment's bars."""

import pytest
from kedro.config import OmegaConfigLoader
from omegaconf.errors import InterpolationResolutionError

from sentio_kedro.durations import count_bars
from sentio_kedro.settings import CONFIG_LOADER_ARGS

HALF_HOURS = {"bar_minutes": 30, "session_minutes": 1440, "sessions_per_year": 365}
OF_STOCKS = {"bar_minutes": 30, "session_minutes": 390, "sessions_per_year": 252}
HOURS_OF_STOCKS = {**OF_STOCKS, "bar_minutes": 60}
DAYS = {"bar_minutes": 1440, "session_minutes": 390, "sessions_per_year": 252}
WEEKS = {**DAYS, "bar_minutes": 10_080}


@pytest.mark.parametrize(
    ("names", "duration", "bars"),
    [
        (HALF_HOURS, "1d", 48),
        (HALF_HOURS, "30min", 1),
        (HALF_HOURS, "2h", 4),
        (HALF_HOURS, "1w", 336),
        (HALF_HOURS, "1mo", 1460),
        (HALF_HOURS, "1y", 17_520),
        (OF_STOCKS, "1d", 13),
        (OF_STOCKS, "1w", 63),
        (HOURS_OF_STOCKS, "1d", 7),  # six hours and a half
        (DAYS, "1d", 1),
        (DAYS, "1w", 5),
        (DAYS, "1mo", 21),
        (DAYS, "1q", 63),
        (DAYS, "1y", 252),
        (DAYS, "5min", 1),
        (WEEKS, "1mo", 4),
        (WEEKS, "1y", 52),
        (WEEKS, "1d", 1),
    ],
)
def test_a_duration_is_a_number_of_bars(names, duration, bars):
    assert count_bars(duration, names) == bars


@pytest.mark.parametrize("duration", ["1fortnight", "d", "0d", "-1d", "1 d", "48"])
def test_an_unknown_duration_is_refused_with_the_units(duration):
    with pytest.raises(ValueError, match=r"such as 1d, was '.*'; units: min \(minutes\), h \(hours\), d \(sessions\)"):
        count_bars(duration, DAYS)


@pytest.mark.parametrize("value", [None, 0, "30", True, float("inf")])
def test_a_name_that_lacks_or_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match=r"needs bar_minutes in the environment's globals\.yml"):
        count_bars("1d", {**DAYS, "bar_minutes": value})


def loaded(tmp_path, names):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "globals.yml").write_text(names)
    (tmp_path / "base" / "parameters.yml").write_text('memory: ${bars:1mo}\ncolumns: [{bars: "${bars:1d}"}]\n')
    return OmegaConfigLoader(str(tmp_path), **{**CONFIG_LOADER_ARGS, "default_run_env": "base"})["parameters"]


def test_kedro_resolves_durations_in_any_parameters_file(tmp_path):
    names = "bar_minutes: 30\nsession_minutes: 1440\nsessions_per_year: 365\n"
    assert loaded(tmp_path, names) == {"memory": 1460, "columns": [{"bars": 48}]}


def test_without_the_names_it_says_which_are_needed(tmp_path):
    with pytest.raises(InterpolationResolutionError, match="needs bar_minutes, session_minutes, sessions_per_year in"):
        loaded(tmp_path, "artifacts: data\n")
