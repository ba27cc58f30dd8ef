"""What people read on the pages of MLflow."""

import json
from types import SimpleNamespace

import mlflow

from sentio_kedro.tracking.descriptions import describe_agents, log_bars, with_test

QUALITY = {
    **{"bars_hash": "5d20" * 16, "rows": 5_398, "grid_bars": 2_699, "bar_minutes": 1_440.0},
    **{"first": "2013-01-02T21:00:00Z", "last": "2023-09-21T20:00:00Z", "universe": "dated"},
    "per_symbol": {"AAPL": {}, "N|F<b>": {}},
}
SPEC = SimpleNamespace(
    symbols=list(QUALITY["per_symbol"]), members=2, fold=1, required_bars=1_234,
    train_start="2014-01-02T00:00:00+00:00", train_end="2019-01-02T00:00:00+00:00",
    trading=SimpleNamespace(levels=[-1.0, 0.0, 0.5], unit="allocation"),
)  # fmt: skip
METRICS = {
    "agent": {
        **{"sharpe": 1.5, "sharpe_low": 0.25, "sharpe_high": 2.5, "annual_return": 0.125, "max_drawdown": 0.0625},
        **{"cost_share": 0.25, "turnover_per_year": 12.0, "bars": 671, "folds": 2},
        **{"first_timestamp": "2019-06-13T20:00:00+00:00", "last_timestamp": "2022-02-08T21:00:00+00:00"},
    },
    **{
        "buy_and_hold": {"sharpe": 0.75},
        "scheme": "walk_forward",
        "confidence": 0.95,
        "alarms": ["It <never> traded."],
    },
    "skill": {"verdict": "not_shown", "reasons": ["Too many trials."], "minimum_track_record_bars": 10, "pbo": None},
}


def test_the_bars_are_an_input_with_name_hash_span_and_symbols_and_without_a_path(store):
    with mlflow.start_run() as run:
        log_bars(QUALITY, "training")
        log_bars(QUALITY, "test")  # a continued run, or its report
    (found,) = store.get_run(run.info.run_id).inputs.dataset_inputs
    assert {tag.key: tag.value for tag in found.tags} == {"mlflow.data.context": "training"}
    bars = found.dataset
    assert (bars.name, bars.digest) == ("AAPL, N&#124;F&#60;b&#62;, daily bars", "5d20" * 3)
    assert (bars.source_type, json.loads(bars.source)) == ("kedro", {"catalog": "bars"})
    profile = json.loads(bars.profile)
    assert (profile["first"], profile["last"]) == (QUALITY["first"], QUALITY["last"])
    assert (profile["symbols"], profile["sha256"], profile["rows"]) == (SPEC.symbols, QUALITY["bars_hash"], 5_398)
    assert json.loads(bars.schema)["mlflow_colspec"][1] == {"name": "symbol", "type": "string", "required": True}


def test_without_a_run_no_input_is_logged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log_bars(QUALITY, "training")
    assert list(tmp_path.iterdir()) == []


def test_agents_are_described_in_words():
    text = describe_agents({"fold_1/seed_0": SimpleNamespace(spec=SPEC), "fold_1/seed_1": None}, QUALITY)
    assert text.startswith("2 agents that decide as one, 2 networks each.")
    assert "- Trades: AAPL, N&#124;F&#60;b&#62;\n" in text
    assert "- Bars: daily bars, 2013-01-02 to 2023-09-21, hash `5d205d205d20`\n" in text
    assert "- Trained on: 2014-01-02 to 2019-01-02, fold 1\n" in text
    assert "- Levels: -1, 0, 0.5: multiples of an asset's allocation" in text


def test_a_test_is_described_once_however_often_it_is_repeated():
    once = with_test("agents", METRICS)
    assert with_test(once, METRICS) == once
    assert once.startswith("agents\n\n**Out of sample**\n\n- Tested on: ")
    told = once.replace("\u00a0", " ")
    assert "- Sharpe ratio: 1.50 (95 % interval 0.25 to 2.50), net of all costs\n" in told
    assert "- Maximum drawdown: 6.25 %\n" in told
    assert "- Costs: 25.00 % of the gross profit; turnover 12.00 times equity a year\n" in told
    assert "skill not shown" in told
    assert "**Alarm:** It &#60;never&#62; traded." in told
