"""What counts as a trial, and what a result is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.combinatorial import combinatorial_run

from sentio_kedro.evaluation.run_frames import RunFrames, account_table
from sentio_kedro.evaluation.skill.trials import (
    candidate_returns,
    given_up,
    lone_trial,
    make_trial,
    recorded_trials,
    trial_identity,
    trial_returns,
    universe_name,
)
from sentio_kedro.evaluation.statistics.deflated_sharpe import sharpe_moments

UNIVERSE = universe_name(["ETH", "BTC"], 30.0)


def _returns(seed: int = 0, bars: int = 100, start: str = "2020-01-01") -> pd.DataFrame:
    times = pd.date_range(start, periods=bars, freq="30min", tz="UTC")
    return pd.DataFrame({"timestamp": times, "return": np.random.default_rng(seed).normal(0.0, 0.01, bars)})


class Ledger:
    """Records and returns in memory."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.returns_by_name: dict[str, pd.DataFrame] = {}
        self.bars_hash = "bars"

    def add(self, width: int, returns: pd.DataFrame, universe: str = UNIVERSE, kind: Any = "test") -> None:
        trial = make_trial({"network.width": width}, "code", universe, returns, kind, bars_hash=self.bars_hash)
        name = f"{trial.identity}-{trial.rows}"
        self.records.append({**trial.record, "returns": name})
        self.returns_by_name.setdefault(name, trial.returns)

    def among(self, width: int, returns: pd.DataFrame) -> Any:
        mine = make_trial({"network.width": width}, "code", UNIVERSE, returns, "test", bars_hash=self.bars_hash)
        return recorded_trials(mine, self.records, self.returns_by_name.get)


def test_parameters_code_and_universe_make_a_trial_and_seeds_do_not() -> None:
    parameters = {"network.width": 16, "training.seed": 0, "training.seeds": 2}
    mine = trial_identity(parameters, "code", UNIVERSE)
    assert trial_identity(parameters | {"training.seed": 7, "training.seeds": 5}, "code", UNIVERSE) == mine
    assert trial_identity(dict(reversed(parameters.items())), "code", UNIVERSE) == mine
    assert UNIVERSE == universe_name(["BTC", "ETH"], 30)
    others = {
        trial_identity(parameters | {"network.width": 32}, "code", UNIVERSE),
        trial_identity(parameters, "other code", UNIVERSE),
        trial_identity(parameters, "code", universe_name(["BTC", "ETH"], 60)),
        trial_identity(parameters, "code", universe_name(["BTC"], 30)),
    }
    assert len(others | {mine}) == 5


def test_the_record_keeps_what_the_tests_need() -> None:
    returns = _returns()
    record = make_trial(
        *({"network.width": 16, "training.seed": 3}, "code", UNIVERSE, returns, "test", {"run": "x"}),
        bars_hash="bars",
    ).record
    moments = sharpe_moments(returns["return"].to_numpy())
    assert [record[name] for name in ("sharpe", "skewness", "kurtosis", "bars")] == pytest.approx(list(moments))
    assert record["parameters"] == {"network.width": 16}
    assert (record["kind"], record["run"], record["first_timestamp"][:10]) == ("test", "x", "2020-01-01")


def test_repeats_add_no_trial_and_a_test_at_other_dates_or_of_other_symbols_is_left_out() -> None:
    ledger, now = Ledger(), _returns(0)
    ledger.add(16, now)  # the judged one itself
    ledger.add(16, _returns(5))  # another draw of it
    ledger.add(32, _returns(1))
    ledger.add(32, _returns(1))
    ledger.add(32, _returns(2, start="2019-01-01"))
    ledger.add(64, _returns(3, start="2019-01-01"))  # ends before
    ledger.add(99, _returns(4), universe=universe_name(["SOL"], 30))
    among = ledger.among(16, now)
    sharpes = [sharpe_moments(frame["return"].to_numpy()).sharpe for frame in (now, _returns(1))]
    assert (among.count, among.on_test_rows) == (2, 2)
    assert among.sharpes == pytest.approx(sharpes)
    assert among.returns == pytest.approx(np.column_stack([now["return"], _returns(1)["return"]]))
    assert among.peers == pytest.approx(_returns(1)[["return"]].to_numpy())


def test_dropping_a_coin_moving_a_date_or_restating_bars_starts_no_new_count() -> None:
    ledger, now = Ledger(), _returns(0)
    ledger.add(32, _returns(1), universe=universe_name(["BTC", "SOL"], 30))
    ledger.add(64, _returns(2, start="2020-01-01T12:00"))
    ledger.bars_hash = "restated"
    ledger.add(99, _returns(3, start="2020-01-03T01:30"))  # begins on the last row, 100 half hours in
    assert ledger.among(16, now).count == 4
    assert ledger.among(16, now).on_test_rows == 4
    returns = ledger.among(16, now).returns
    assert (~np.isnan(returns)).sum(axis=0).tolist() == [100, 100, 76, 1]
    assert returns[24:, 2] == pytest.approx(_returns(2)["return"][:76])
    assert ledger.among(16, now).peers == pytest.approx(_returns(1)[["return"]].to_numpy())


def test_a_candidate_of_a_search_counts_at_any_date_but_did_not_see_these_rows() -> None:
    ledger = Ledger()
    ledger.add(32, _returns(1, start="2019-01-01"), kind="validation")
    among = ledger.among(16, _returns(0))
    assert (among.count, among.on_test_rows, among.returns.shape) == (2, 1, (100, 1))


def test_a_sharpe_ratio_on_other_bars_is_brought_to_the_tested_ones_bar() -> None:
    ledger, hourly = Ledger(), _returns(1).assign(timestamp=pd.date_range("2020", periods=100, freq="h", tz="UTC"))
    ledger.add(32, hourly, universe=universe_name(["BTC", "ETH"], 60))
    among = ledger.among(16, _returns(0))
    assert among.sharpes[1] == pytest.approx(sharpe_moments(hourly["return"].to_numpy()).sharpe / np.sqrt(2.0))
    assert (among.count, among.returns.shape) == (2, (100, 1))  # returns of other bars are not compared


def test_a_year_of_bars_is_that_of_the_trial_not_of_the_clock() -> None:
    days = pd.date_range("2020-01-01", periods=200, freq="D", tz="UTC")  # seven hourly bars of a session each
    hours = pd.DatetimeIndex([day + pd.Timedelta(hours=14 + bar) for day in days for bar in range(7)])
    noise = np.random.default_rng(0).normal(0.0, 0.01, 1_400)
    hourly, daily = pd.DataFrame({"timestamp": hours, "return": noise}), _returns(1, 200)
    ledger, sharpe = Ledger(), sharpe_moments(noise).sharpe
    ledger.add(32, hourly, universe=universe_name(["BTC"], 60))
    mine = make_trial(*({}, "code", universe_name(["BTC"], 1440), daily.assign(timestamp=days), "test"), bars_hash="b")
    found = recorded_trials(mine, ledger.records, ledger.returns_by_name.get).sharpes
    assert found[1] == pytest.approx(sharpe * np.sqrt(7.0), rel=1e-2)  # by the clock: sqrt(24)
    ledger.records[0]["periods_per_year"], year = 252.0 * 7.0, {"periods_per_year": 252.0}
    stated = dataclasses.replace(mine, record=dict(mine.record) | year)
    found = recorded_trials(stated, ledger.records, ledger.returns_by_name.get).sharpes
    assert found[1] == pytest.approx(sharpe * np.sqrt(7.0))
    lost = given_up({"network.width": 64}, "code", universe_name(["BTC"], 60), -0.02) | {"returns": None}
    among = recorded_trials(mine, [lost], ledger.returns_by_name.get)  # of other bars and unknown dates
    assert (among.count, len(among.sharpes)) == (2, 1)


def test_the_deviation_of_few_or_unknown_sharpe_ratios_is_that_of_chance() -> None:
    ledger, now = Ledger(), _returns(0)
    ledger.records.append(given_up({"network.width": 64}, "code", UNIVERSE, None) | {"returns": None})
    among = ledger.among(16, now)
    assert (among.count, among.effective, len(among.sharpes), among.deviation) == (2, 2, 1, 0.1)  # 1 / sqrt(100)
    ledger.add(32, now.assign(**{"return": now["return"].to_numpy()[::-1]}))  # another path, the same Sharpe ratio
    assert np.std(ledger.among(16, now).sharpes, ddof=1) < 1e-9
    assert ledger.among(16, now).deviation == 0.1
    ledger.add(99, now.assign(**{"return": now["return"] + 0.1}))
    wide = ledger.among(16, now)
    assert wide.deviation == pytest.approx(np.std(wide.sharpes, ddof=1))


def test_trials_judged_on_bars_of_what_is_now_the_lockbox_are_counted_once_each() -> None:
    ledger = Ledger()
    ledger.add(16, _returns(0, bars=96))  # ends on 2020-01-02, 23:30
    ledger.add(32, _returns(1, bars=97))  # ends on 2020-01-03
    ledger.add(32, _returns(1, bars=97))
    ledger.add(16, _returns(2, bars=200))  # another judgement of the first
    ledger.add(64, _returns(2, bars=9), universe=universe_name(["SOL"], 30))
    ledger.records.append(given_up({"network.width": 99}, "code", UNIVERSE, None) | {"returns": None})
    mine = make_trial({"network.width": 16}, "code", UNIVERSE, _returns(0), "test", bars_hash="bars")

    def counted(first: str, last: str = "2020-02-01") -> int:
        lockbox = {"first": f"{first}T00:00:00Z", "last": f"{last}T00:00:00Z"}
        return recorded_trials(mine, ledger.records, ledger.returns_by_name.get, lockbox).in_lockbox

    assert [counted("2020-01-03"), counted("2020-01-04"), counted("2020-01-06")] == [2, 1, 0]
    assert counted("2019-01-01", "2019-12-31") == 0
    assert recorded_trials(mine, ledger.records, ledger.returns_by_name.get).in_lockbox == 0


def test_rows_of_now_come_before_those_of_an_earlier_judgement() -> None:
    ledger = Ledger()
    ledger.add(32, _returns(2, start="2019-01-01"))
    ledger.add(32, _returns(1))
    among = ledger.among(16, _returns(0))
    assert among.sharpes[1] == sharpe_moments(_returns(1)["return"].to_numpy()).sharpe
    assert among.peers.shape == (100, 1)


def test_a_trial_whose_returns_are_lost_or_were_never_known_still_counts() -> None:
    ledger = Ledger()
    ledger.add(32, _returns(1))
    ledger.returns_by_name.clear()
    ledger.records.append(given_up({"network.width": 64}, "code", UNIVERSE, -0.02) | {"returns": None})
    among = ledger.among(16, _returns(0))
    assert among.count == 3
    assert among.sharpes[2] == -0.02
    assert among.peers.shape == (100, 0)


def test_without_a_ledger_it_is_the_only_trial() -> None:
    among = lone_trial(_returns()["return"].to_numpy())
    assert (among.count, among.effective, among.deviation, among.peers.shape) == (1, 1, 0.1, (100, 0))


def test_a_run_is_judged_by_its_ensemble(make_run: Callable[..., RunFrames]) -> None:
    frames = make_run(seeds=3)
    returns = trial_returns(frames)
    expected = account_table(frames, "return")["ensemble"]
    assert returns["return"].tolist() == expected.tolist()
    assert returns["timestamp"].is_monotonic_increasing
    assert len(returns) == returns["timestamp"].nunique() == 2_000


def test_a_run_of_combinatorial_folds_is_judged_by_one_path_that_could_have_been_held() -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.01, (3, 12))
    frames = combinatorial_run(lambda name, path: noise[path] + 0.01 * (1 - path) if name == "seed_0" else noise[0])
    mine = trial_returns(frames)
    assert mine["return"].to_numpy() == pytest.approx(noise[1])  # drifts of 1, 0 and -1 %: the middle one, no mean
    assert mine["timestamp"].is_monotonic_increasing


def test_a_candidate_is_judged_by_its_median_seed() -> None:
    times = pd.date_range("2020-01-01", periods=2, tz="UTC")
    frame = pd.DataFrame({"fold": 0, "seed": np.repeat([0, 1, 2], 2), "timestamp": list(times) * 3})
    frame["return"] = [0.3, 0.3, 0.1, 0.1, -0.2, -0.2]
    assert candidate_returns(frame)["return"].tolist() == [0.1, 0.1]
    two = candidate_returns(frame[frame["seed"] < 2])
    assert two["return"].tolist() == [0.1, 0.1]  # the lower of two, never the best


def test_a_candidate_of_folds_that_share_bars_is_judged_by_its_median_path() -> None:
    times = pd.date_range("2020-01-01", periods=2, tz="UTC")
    frame = pd.DataFrame({"fold": np.repeat([0, 1, 2], 2), "seed": 0, "timestamp": list(times) * 3})
    frame["return"] = [0.3, 0.3, 0.1, 0.2, -0.2, -0.2]
    assert candidate_returns(frame.iloc[::-1])["return"].tolist() == [0.1, 0.2]
