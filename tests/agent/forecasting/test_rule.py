"""A fold's rule: saved, loaded and followed on raw bars as when it was fitted."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from planted.catalogue import MARKETS
from planted.paths import path_bars
from sentio_kedro.agent.control import Control
from sentio_kedro.agent.forecasting.fold import FoldForecasts, forecast_fold
from sentio_kedro.agent.forecasting.forecaster import SleeveForecaster
from sentio_kedro.agent.forecasting.inputs.history import LOOKBACK
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.agent.forecasting.rule import (
    ARRAYS,
    DESCRIPTION,
    FORMAT,
    KINDS,
    MOST_VALUE,
    ForecastRule,
    _non_finite,
)
from sentio_kedro.agent.forecasting.sleeves import Sleeve
from sentio_kedro.agent.forecasting.targets import INTRADAY, Horizon
from sentio_kedro.agent.saving import write_description
from sentio_kedro.config import CostParameters, ForecastingParameters, IngestionParameters, TradingParameters
from sentio_kedro.damage import DamagedFileError
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.purged_folds import Fold, Segment

TRADING = TradingParameters(costs=CostParameters(commission_bps=1, half_spread_bps=1))
ROWS, BEGIN = 4_600, 4_000
FOLD = Fold(0, (Segment(600, BEGIN),), (), (Segment(4_400, ROWS),))
PARAMETERS = ForecastingParameters(sleeves=("directional", "relative", "premium"))
POSTERIOR = np.random.default_rng(0).dirichlet([1.0, 1.0], ROWS)


@pytest.fixture(scope="module")
def bars() -> AlignedBars:
    """Two assets whose returns revert; one lacks bars."""
    frames = [path_bars(MARKETS["reversal"].law.draw(ROWS, seed)).assign(symbol=f"S{seed}") for seed in (3, 4)]
    hidden = np.zeros((ROWS, 2), bool)
    hidden[[2_000, 4_200, 4_500], 1] = True
    hidden[4_100:4_110, 0] = True
    return align_bars(pd.concat(frames), IngestionParameters()).without(hidden)


@pytest.fixture(scope="module")
def found(bars: AlignedBars) -> FoldForecasts:
    market = ForecastMarket.of(bars, TRADING, 17_520.0).with_regimes(POSTERIOR)
    return forecast_fold(market, FOLD, PARAMETERS)


@pytest.fixture(scope="module")
def loaded(found: FoldForecasts, tmp_path_factory: pytest.TempPathFactory) -> ForecastRule:
    folder = tmp_path_factory.mktemp("rule")
    found.rule.save(folder)
    assert {path.name for path in folder.iterdir()} == {ARRAYS, DESCRIPTION}
    return ForecastRule.load(folder)


def test_a_saved_rule_follows_raw_bars_as_the_fitted_one(
    found: FoldForecasts, loaded: ForecastRule, bars: AlignedBars
) -> None:
    assert found.rule.begin == f"{np.datetime_as_string(bars.timestamps[BEGIN], unit='s')}Z"
    path = loaded.follow(bars, POSTERIOR, TRADING)
    np.testing.assert_array_equal(path.units, found.units)
    assert [sleeve.name for sleeve in loaded.opened] == ["directional", "relative"]
    first, second = (sleeve.weight * found.forecasts[sleeve.name][BEGIN:] for sleeve in loaded.opened)
    np.testing.assert_array_equal(path.forecasts[BEGIN:], first + second)
    assert np.abs(np.diff(path.units, axis=0)).sum() > 50.0
    assert not path.forecasts[:BEGIN].any() and not path.values[:BEGIN].any()  # these would be in-sample


def test_every_array_and_number_comes_back(found: FoldForecasts, loaded: ForecastRule) -> None:
    before, after = found.rule.to_arrays(), loaded.to_arrays()
    assert json.dumps(after[1]) == json.dumps(before[1])
    assert list(before[0]) == list(after[0])
    for name, array in before[0].items():
        assert (array.dtype, array.shape, array.tobytes()) == (
            after[0][name].dtype,
            after[0][name].shape,
            after[0][name].tobytes(),
        ), name
    names = {"stepwise", "ridge", "trees", "asset_stepwise", "time_of_day"}
    assert names == set(loaded.sleeves[0].forecaster.experts[0])


def test_values_are_those_of_a_flat_position_in_costs(loaded: ForecastRule, bars: AlignedBars) -> None:
    path = loaded.follow(bars, POSTERIOR, TRADING)
    alone = replace(loaded, sleeves=loaded.opened[:1])
    (only,), path, row = alone.opened, alone.follow(bars, POSTERIOR, TRADING), slice(4_300, 4_400)
    forecasts = path.forecasts[row] / only.weight
    value, _ = only.control.marginal_values(forecasts, path.costs[row])
    expected = only.weight * value / path.costs[row]
    assert (np.abs(expected) > MOST_VALUE).any()
    assert path.values[row] == pytest.approx(np.clip(expected, -MOST_VALUE, MOST_VALUE))


def test_rows_without_inputs_are_zero_and_keep_their_position(loaded: ForecastRule, bars: AlignedBars) -> None:
    path = loaded.follow(bars, POSTERIOR, TRADING)
    for column in (path.forecasts, path.values, path.costs, path.volatility):
        assert not column[4_100:4_110, 0].any() and column[4_100:4_110, 1].any()
    assert (path.units[4_100:4_110, 0] == path.units[4_099, 0]).all()
    assert path.costs[4_300] * path.volatility[4_300] == pytest.approx([2e-4, 2e-4])


def test_bars_that_start_later_are_followed_from_flat(loaded: ForecastRule, bars: AlignedBars) -> None:
    start = BEGIN - LOOKBACK + 1
    path = loaded.follow(bars, POSTERIOR, TRADING)
    again = loaded.follow(bars.rows(slice(start, None)), POSTERIOR[start:], TRADING)
    np.testing.assert_array_equal(again.units[BEGIN - start :], path.units[BEGIN:])
    late = loaded.follow(bars.rows(slice(4_100, None)), POSTERIOR[4_100:], TRADING)
    known = np.flatnonzero(late.volatility.all(axis=1) & late.costs.all(axis=1))[0]
    assert 480 <= known < 500 and not late.units[:480].any() and not late.forecasts[:480].any()


def test_a_rule_may_begin_several_times(loaded: ForecastRule, bars: AlignedBars) -> None:
    path = loaded.follow(bars, POSTERIOR, TRADING, begins=[4_000, 4_300])
    np.testing.assert_array_equal(path.units[:4_300], loaded.follow(bars, POSTERIOR, TRADING).units[:4_300])
    np.testing.assert_array_equal(
        path.units[4_300:], loaded.follow(bars, POSTERIOR, TRADING, begins=[4_300]).units[4_300:]
    )


def test_between_train_rows_the_rule_begins_anew_where_they_end(bars: AlignedBars) -> None:
    market = ForecastMarket.of(bars, TRADING, 17_520.0).with_regimes(POSTERIOR)
    train = Segment(600, 2_000), Segment(2_600, BEGIN)
    fold = Fold(0, train, (), (Segment(2_100, 2_300), Segment(4_100, 4_300), Segment(4_400, ROWS)))
    found = forecast_fold(market, fold, ForecastingParameters(sleeves=("directional",)))
    rows = np.r_[2_000:2_300, BEGIN:ROWS]
    assert found.later_rows.tolist() == rows.tolist()  # each once, though two test segments follow row 4,000
    assert found.rule.first_row(bars.timestamps) == BEGIN
    path = found.rule.follow(bars, POSTERIOR, TRADING, begins=[2_000, BEGIN])
    np.testing.assert_array_equal(path.units[rows], found.units[rows])
    assert np.abs(np.diff(found.units[2_000:2_300], axis=0)).sum() > 10.0
    assert not found.units[2_300:BEGIN].any()


def test_places_in_the_day_are_those_of_the_train_rows(loaded: ForecastRule, bars: AlignedBars) -> None:
    few = bars.rows(slice(4_400, 4_410))
    assert len(loaded.minutes) == 48
    replaced = replace(loaded, minutes=np.zeros(0, np.int64))
    assert loaded.follow(few, POSTERIOR[4_400:4_410], TRADING).units.shape == (10, 2)
    whole = loaded.follow(bars, POSTERIOR, TRADING)
    assert (replaced.follow(bars, POSTERIOR, TRADING).forecasts != whole.forecasts).any()


def test_sleeves_add_up_by_their_weights() -> None:
    nothing = SleeveForecaster((), None, (), ())  # type: ignore[arg-type]
    control = Control(np.array([1]), 0.1)
    parts = [Sleeve(name, nothing, control, 3.0, 1.0, weight) for name, weight in (("up", 1.0), ("down", 0.5))]
    closed = Sleeve("closed", nothing, control, 0.0, 1.0, 0.0)
    rule = ForecastRule([closed, *parts], [Horizon(*INTRADAY[0])], np.zeros(0), "2020-01-01T00:00:00Z")
    costs, volatility = np.full((3, 1), 1e-9), np.full((3, 1), 0.01)
    forecasts = {"up": np.full((3, 1, 1), 9.0), "down": np.full((3, 1, 1), -9.0), "closed": np.full((3, 1, 1), 9.0)}
    path, held = rule.positions(forecasts, costs, volatility, rule.flat(1))
    assert path.units == pytest.approx(np.full((3, 1), 0.5), abs=1e-5)
    assert held == pytest.approx(np.array([[1.0], [-1.0]]), abs=1e-5)
    assert path.forecasts == pytest.approx(np.full((3, 1, 1), 4.5))
    both = rule.positions({**forecasts, "down": forecasts["up"]}, costs, volatility, rule.flat(1))[0]
    assert (both.units == 1.0).all()
    before = held.copy()
    later, _ = rule.positions({key: 0.0 * part for key, part in forecasts.items()}, costs + 1e9, volatility, held)
    np.testing.assert_array_equal(later.units, path.units[[-1, -1, -1]])  # nothing is worth that cost
    np.testing.assert_array_equal(held, before)


def test_a_fold_without_sleeves_has_a_flat_rule(found: FoldForecasts, bars: AlignedBars) -> None:
    path = replace(found.rule, sleeves=()).follow(bars, POSTERIOR, TRADING)
    assert not path.units.any() and not path.forecasts.any() and path.costs[BEGIN:].any()
    assert path.forecasts.shape == (ROWS, 2, 5)


def test_another_format_or_kind_is_refused(found: FoldForecasts) -> None:
    arrays, description = found.rule.to_arrays()
    layout = {kind.__name__: list(getattr(kind, "_fields", None) or kind.__dataclass_fields__) for kind in KINDS}
    digest = hashlib.sha256(json.dumps(layout, sort_keys=True).encode()).hexdigest()[:8]
    assert (FORMAT, digest) == (3, "73a695c2")  # another layout is another format
    description["rule"]["kind"] = "os.system"
    with pytest.raises(ValueError, match=r"`kind` must be one of .*, was 'os.system'"):
        ForecastRule.from_arrays(arrays, description)


def test_a_loaded_rule_needs_nothing_that_fits(found: FoldForecasts, tmp_path: Path) -> None:
    found.rule.save(tmp_path)
    code = (
        "import sys, pathlib, numpy as np\n"
        "from sentio_kedro.agent.forecasting.rule import ForecastRule\n"
        f"rule = ForecastRule.load(pathlib.Path({str(tmp_path)!r}))\n"
        "trees = rule.sleeves[0].forecaster.experts[0]['trees']\n"
        "trees.predict(np.zeros((1, 999), np.float32))\n"
        "assert not {'sklearn', 'scipy.optimize'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - this test's own code


def told(folder: Path) -> str:
    with pytest.raises(DamagedFileError) as damaged:
        ForecastRule.load(folder)
    return str(damaged.value).replace(f"{folder.as_posix()}/", "")


def test_a_rule_that_is_not_the_saved_one_names_file_fault_and_remedy(found: FoldForecasts, tmp_path: Path) -> None:
    found.rule.save(tmp_path)
    path, arrays = tmp_path / DESCRIPTION, tmp_path / ARRAYS
    saved, bits = json.loads(path.read_text()), arrays.read_bytes()
    remedy = "; run `kedro run --pipeline forecasting` again"
    for changes, said in (
        ({"format": 2}, f"`rule.json` has format 2, this version reads 3{remedy}."),
        ({"rule": 3}, "`rule.json` has another form than is saved here"),
        ({"rule": {**saved["rule"], "begin": 3}}, "(a rule must have a str there, had [3])"),
        ({"rule": {**saved["rule"], "sleeves": 3}}, "('int' object is not iterable)"),
        ({"rule": {**saved["rule"], "minutes": {"array": "x"}}}, f"`rule.json` lacks 'x'{remedy}"),
        ({"rule": {"kind": "ForecastRule"}}, "missing 4 required positional arguments"),
    ):
        path.write_text(json.dumps({**saved, **changes}))
        assert said in told(tmp_path)
    path.write_text(json.dumps(saved))
    arrays.write_bytes(bits[:-1] + bytes([bits[-1] ^ 1]))
    assert told(tmp_path).startswith("`rule.safetensors` is not the file that was saved: its SHA-256 is ")
    arrays.unlink()
    assert told(tmp_path) == f"`rule.safetensors` is missing{remedy}."


def test_arrays_that_are_no_numbers_are_neither_saved_nor_loaded(found: FoldForecasts, tmp_path: Path) -> None:
    rule = replace(found.rule, minutes=np.array([0.0, np.nan]))
    with pytest.raises(DamagedFileError, match=r"The forecast rule must hold finite numbers, .*\(rule.minutes\); look"):
        rule.save(tmp_path)
    found.rule.save(tmp_path)
    arrays, description = rule.to_arrays()
    save_file(arrays, tmp_path / ARRAYS)
    write_description(tmp_path / DESCRIPTION, description, [ARRAYS])
    assert "`rule.safetensors` must hold finite numbers, had others in 1 arrays (rule.minutes); run" in told(tmp_path)
    constant = ForecastRule((), (), np.array([np.inf]), "2020")
    assert _non_finite({"a.deviation": constant.minutes, "a.mean": constant.minutes}) == ["a.mean"]
