"""What the bars, the files, the memory and the disk do not allow, pipeline by pipeline."""

from types import SimpleNamespace

import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from pydantic import TypeAdapter
from tests.conftest import ROOT, synthetic_bars

from sentio_kedro.config import FeatureColumn, UniverseParameters
from sentio_kedro.manifests import STAGES
from sentio_kedro.pipelines.ingestion.nodes import align_bars
from sentio_kedro.preflight import resources
from sentio_kedro.preflight.check import check
from sentio_kedro.preflight.settings import KINDS

DATA = {"bars": synthetic_bars(), "artifacts_folder": "data/tiny"}


@pytest.fixture(scope="module")
def sections():
    """The parameters of the smoke run, without a calendar."""
    loaded = OmegaConfigLoader(
        str(ROOT / "conf"), env="smoke", base_env="base", default_run_env="local", merge_strategy={"parameters": "soft"}
    )["parameters"]
    return {**loaded, "trading": {**loaded["trading"], "calendar": None}}


def changed(sections, section, **values):
    return {**sections, section: {**sections[section], **values}}


def refusal(sections, *running, data=DATA):
    with pytest.raises(ValueError, match=r".") as refused:
        check(sections, data.get, running)
    return str(refused.value)


@pytest.mark.parametrize(
    ("running", "section", "values", "text"),
    [
        ("training", "training", {"windows": 10**9}, "training.windows` = 1,000,000,000, at most "),
        ("training", "training", {"total_steps": 10**12}, "`training.total_steps` = 1,000,000,000,000, at mo"),
        ("training", "training", {"seeds": 10_000, "members": 1_000}, "`training.members` = 1,000, at most "),
        ("training", "network", {"width": 400_000}, "`network.width` = 400,000, at most "),
        ("training", "network", {"hidden": 10**9}, "`network.hidden` = 1,000,000,000, at most "),
        ("training", "network", {"quantiles": 10**7}, "`network.quantiles` = 10,000,000, at most "),
        ("cross_validation", "trading", {"memory_sessions": 10_000}, "900 bars are too few for walk_forward folds"),
        ("cross_validation", "network", {"window": 900}, "900 bars are too few for walk_forward folds"),
        ("cross_validation", "trading", {"calendar": "XNYZ"}, "names like it: "),
        ("forecasting", "trading", {"costs": {"half_spread": "bars"}}, "the bars have no column `spread`"),
        ("training", "trading", {"masks": {"no_short": ["CCC"]}}, "`trading.masks.no_short` must hold symbols of the"),
        ("training", "trading", {"allocation": {"CCC": 1.0}}, "`trading.allocation` must name symbols of the bars"),
        (
            "training",
            "trading",
            {"symbols": {"aaa": {}}},
            "`trading.symbols` must name symbols of the bars, ",
        ),
        (
            "backtest",
            "trading",
            {"symbols": {"BBB": {"calendar": "XNYZ"}}},
            "`trading.symbols.BBB.calendar` must be ",
        ),
        ("training", "trading", {"masks": {"regime_exposure": [1.0]}}, "`trading.masks.regime_exposure` must have"),
        ("training", "network", {"variant": "maskable"}, "`network.variant` and `training.variant` must be the same"),
        ("search", "search", {"folds": [7]}, "`search.folds` must name folds among [0, 1], had [7]"),
        ("search", "search", {"space": {"network.widht": {"low": 4, "high": 8}}}, "did you mean `network.width`?"),
        (
            "search",
            "search",
            {"space": {"training.windows": {"low": 4, "high": 2**30, "step": 4}}},
            "`training.windows",
        ),
        (
            "features",
            "features",
            {"columns": [{"name": "r", "indicator": "log_return", "bars": 900}]},
            "bars, 900, was 901",
        ),
        (
            "features",
            "features",
            {"columns": [{"name": "v", "indicator": "own_column", "column": "vix"}]},
            "read the own columns ['vix'], the aligned bars hold []; name them in `ingestion.columns`",
        ),
        (
            "features",
            "features",
            {"columns": [{"name": "g", "indicator": "overnight_gap"}]},
            "`features.columns` `g`: `bars` must be above ",
        ),
        ("backtest", "backtest", {"momentum_bars": 900}, "`backtest.momentum_bars` must be below the number of bars"),
        ("backtest", "backtest", {"portfolio_bars": 10**9}, "`backtest.portfolio_bars` must be below the number of ba"),
        ("lockbox", "cross_validation", {"lockbox": None}, "There is no lockbox to open"),
        ("external_test", "external_test", {}, "`external_test.agent` must be the folder of an agent, was null"),
    ],
)
def test_what_does_not_fit_is_refused(sections, running, section, values, text):
    assert text in refusal(changed(sections, section, **values), running)


def test_an_own_column_without_a_value_of_a_symbol_is_refused(sections):
    columns = {"columns": [{"name": "v", "indicator": "own_column", "column": "vix"}]}
    known = changed(changed(sections, "features", **columns), "ingestion", columns={"vix": {"known_at": "next_bar"}})
    vix = DATA["bars"]["close"].where(DATA["bars"]["symbol"] == "AAA")
    text = refusal(known, "features", data={**DATA, "bars": DATA["bars"].assign(vix=vix)})
    assert text.startswith("The own column `vix` has no value of ['BBB'], which would never be traded")
    assert check(known, {**DATA, "bars": DATA["bars"].assign(vix=1.0)}.get, {"features"}) is not None


def test_features_that_claim_too_few_bars_are_refused(sections):
    column = {"name": "slow", "indicator": "log_return", "bars": 9, "lookback": 2}
    text = refusal(changed(sections, "features", columns=[column]), "features")
    assert text.startswith("`features.columns` `slow`: `lookback` must be at least 10")


def test_only_what_a_pipeline_needs_is_checked(sections):
    wrong = changed(changed(sections, "trading", masks={"no_short": ["CCC"]}), "training", windows=10**9)
    assert check(wrong, DATA.get, {"ingestion"}) is not None
    assert check(wrong, {}.get, {"comparison", "rollback"}) is None


def test_all_problems_are_told_at_once(sections):
    wrong = changed(changed(sections, "training", windows=10**9), "backtest", targets="none.csv")
    lines = refusal(changed(wrong, "trading", masks={"no_short": ["CCC"]}), *STAGES).splitlines()
    starts = ("`trading.masks.no_short` ", "`backtest.targets` ", "This run needs ")
    assert len(lines) == len(starts)
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))


def test_targets_at_no_tested_bar_are_refused(sections, tmp_path):
    table = tmp_path / "targets.csv"
    table.write_text("timestamp,symbol,target\n2015-01-02T00:00:00Z,AAA,0.5\n")
    wrong = changed(sections, "backtest", targets=str(table))
    assert "no target at the tested bars, which run from 2016-" in refusal(wrong, "backtest")
    assert "no target at the tested bars, which run from 2017-" in refusal(wrong, "lockbox")


def test_bars_that_cannot_be_used_are_refused(sections):
    bars = DATA["bars"].assign(high=1e-9)
    assert "high" in refusal(sections, "preflight", data={**DATA, "bars": bars})


def test_memory_and_disk_that_are_not_free_are_refused(sections, monkeypatch):
    monkeypatch.setattr(resources, "available_memory", lambda: 1e6)
    monkeypatch.setattr(resources, "free_disk", lambda folder: 1e6)
    memory, disk = refusal(sections, "ingestion").splitlines()
    assert memory == (
        "This run needs about 0.3 GB of memory, where 0.0 GB are free: give fewer bars or symbols, or lower several "
        "sizes."
    )
    assert disk.startswith("This run needs about 0.1 GB of disk in `data/tiny`, where 0.0 GB are free: ")


def test_signals_need_the_look_back_of_their_agents(sections):
    spec = SimpleNamespace(fold=0, seed=0, symbols=["AAA", "BBB"], missing="halt", required_bars=58, features=[])
    account = {"cash": 1e6, "time": "2015-02-26T00:00:00Z"}  # the 57th bar
    data = {**DATA, "agents": {"fold_0/seed_0": SimpleNamespace(spec=spec)}, "account_states": {"fold_0": account}}
    assert refusal(sections, "signals", data=data) == (
        "The agents need 901 bars to decide, were given 900; give 1 more."
    )
    later = {**data, "account_states": {"fold_0": {**account, "time": "2015-02-27T00:00:00Z"}}}
    assert check(sections, later.get, {"signals"}) is not None
    spec.features = [FeatureColumn(name="v", indicator="own_column", column="vix")]
    assert "The agents read the own columns ['vix'], the bars lack ['vix']" in refusal(sections, "signals", data=later)
    assert check(sections, {**DATA, "agents": None, "account_states": None}.get, {"signals"}) is not None


def test_bars_of_another_length_than_durations_are_counted_in_are_refused(sections):
    right, wrong = {**DATA, "bar_minutes": 1440}, {**DATA, "bar_minutes": 30}
    assert check(sections, right.get, {"ingestion"}) is not None
    text = refusal(sections, "ingestion", data=wrong)
    assert text.startswith("`bar_minutes` of globals.yml must be the length of the bars, 1440 minutes, was 30: ")


def daily(bars):
    begin = bars["timestamp"].min()
    return bars.assign(timestamp=begin + 24 * (bars["timestamp"] - begin))


WRONG_BARS = {
    "outside the sessions": (lambda bars: bars, {}, {"calendar": "XNYS"}),
    "no calendar": (lambda bars: bars, {}, {"calendar": "NYSE2"}),
    "sessions a year": (daily, {"sessions_per_year": 52}, {}),
    "symbols apart": (lambda bars: bars[(bars["symbol"] == "AAA") == (bars["timestamp"].dt.hour % 2 == 0)], {}, {}),
    "high below low": (lambda bars: bars.assign(high=1e-9), {}, {}),
    "naive": (lambda bars: bars.assign(timestamp=bars["timestamp"].dt.tz_localize(None)), {}, {}),
    "right": (lambda bars: bars, {}, {}),
}


@pytest.mark.parametrize("name", WRONG_BARS)
def test_it_refuses_what_ingestion_refuses_in_the_same_words(sections, name):
    change, ingestion, trading = WRONG_BARS[name]
    stamps = pd.date_range("2016-01-04 00:30", periods=1_200, freq="h", tz="UTC")
    bars = pd.concat([one.assign(timestamp=stamps[: len(one)]) for _, one in synthetic_bars().groupby("symbol")])
    bars = change(bars)
    sections = changed(sections, "ingestion", **{"bar_label": "end", "sessions_per_year": 365, **ingestion})
    sections = changed(sections, "trading", **{"masks": {}, **trading})
    typed = [TypeAdapter(KINDS[key]).validate_python(sections[key]) for key in ("ingestion", "trading")]
    ingestion, trading = typed
    stage = refused(lambda: align_bars(bars, None, ingestion, UniverseParameters(), trading))
    assert refused(lambda: check(sections, {**DATA, "bars": bars}.get, {"ingestion"})) == stage
    assert (stage is None) == (name == "right")


def refused(call):
    try:
        call()
    except ValueError as error:
        return str(error)
    return None


def test_the_table_of_a_dated_universe_is_checked_with_the_bars(sections):
    table = pd.DataFrame({"symbol": ["AAA"], "start": ["01/02/2015"], "end": [""]})
    good = {**DATA, "universe": table.assign(start="2015-01-02")}
    assert "set `ingestion.universe: dated`" in refusal(sections, "preflight", data=good)
    dated = changed(sections, "ingestion", universe="dated")
    assert "row 0: '01/02/2015'" in refusal(dated, "ingestion", data={**DATA, "universe": table})
    plan = check({**dated, "universe": {"exit_bars": 2}}, good.get, ["ingestion"])
    assert plan.market.bars.symbols == ("AAA",)
