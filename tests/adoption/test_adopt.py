"""`kedro bars` on files as people have them: what it says, what it asks, what it writes, what it refuses."""

import json
import shlex
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from tests.adoption.conftest import sessions, walk
from tests.conftest import Project

from sentio_kedro.cli import cli

MINE = ("--env", "mine")
OF_STOCKS = ("--calendar", "XNYS", "--asset-class", "stock")


def typed(*words: str) -> Result:
    return CliRunner().invoke(cli, ["bars", *words])


def written(name: str) -> dict:
    files = sorted((Path("conf") / name).glob("*.yml"))
    return {file.name: yaml.safe_load(file.read_text()) for file in files}


def spreadsheet(name: str, frame: pd.DataFrame) -> str:
    """A file as a person exports it: dates, capitals, no symbol."""
    text = frame.rename(columns={"timestamp": "Date"}).rename(columns=str.capitalize)
    text["Date"] = frame["timestamp"].dt.strftime("%Y-%m-%d")
    text.to_csv(Path("data") / name, index=False)
    return f"data/{name}"


def intraday(name: str, stamps: pd.DatetimeIndex, symbol: str = "BTCUSDT") -> str:
    walk(stamps).assign(symbol=symbol).to_csv(Path("data") / name, index=False)
    return f"data/{name}"


def test_inspect_says_what_the_file_is(folder):
    told = typed("inspect", spreadsheet("AAPL.csv", walk(sessions(25))))
    assert told.exit_code == 0, told.output
    lines = told.output.splitlines()
    assert "bars: 25 rows of 1 symbols, 25 stamps" in lines
    assert "span: 2024-02-20 to 2024-03-25" in lines
    assert "interval: 1 day" in lines
    assert "duplicates: 0" in lines
    assert any(line.startswith("    XNYS: 25 of 25 bars lie inside its sessions; 0 bars") for line in lines)
    assert lines[-1].startswith("You must say: ")
    assert not (folder / "conf" / "mine").exists()


def test_inspect_as_json(folder):
    told = typed("inspect", "--json", intraday("bars.csv", pd.date_range("2024-02-01", periods=60, freq="h", tz="UTC")))
    found = json.loads(told.output)
    assert (found["rows"], found["bar_minutes"], found["duplicates"], found["volume_share"]) == (60, 60.0, 0, 1.0)
    assert found["symbols"]["BTCUSDT"]["first"] == "2024-02-01"
    assert found["calendar"]["value"] == "24/7"
    assert [question["option"] for question in found["questions"]] == ["--bar-label"]


def test_adopt_asks_with_candidates_and_a_command_that_works(folder):
    asked = typed("adopt", spreadsheet("AAPL.csv", walk(sessions(25))), *MINE)
    assert asked.exit_code == 1
    assert "- --calendar: whose sessions?" in asked.stderr
    assert "suggested by AAPL is written as a US ticker" in asked.stderr
    assert not (folder / "conf" / "mine").exists()
    words = shlex.split(asked.stderr.splitlines()[-1])
    assert words[:3] == ["kedro", "bars", "adopt"]
    answered = typed(*words[2:])
    assert answered.exit_code == 0, answered.output
    assert "25 bars: enough to see the pipeline run, NOT to learn from." in answered.output
    assert answered.output.splitlines()[-1] == "Run:   kedro run --env=mine"


def test_what_is_written_names_everything(folder):
    path = spreadsheet("AAPL.csv", walk(sessions(25)))
    assert typed("adopt", path, *MINE, *OF_STOCKS).exit_code == 0
    files = written("mine")
    assert files["globals.yml"] == {
        **{"artifacts": "data/mine", "experiment": "mine"},
        **{"bar_minutes": 1440, "session_minutes": 390, "sessions_per_year": 252},
    }
    entry = files["catalog.yml"]["bars"]
    assert (entry["type"], entry["filepath"]) == ("sentio_kedro.datasets.BarFiles", "data/AAPL.csv")
    assert entry["format"]
    ingestion = files["parameters_ingestion.yml"]["ingestion"]
    assert (ingestion["bar_label"], ingestion["sessions_per_year"]) == ("start", 252)
    trading = files["parameters_training.yml"]["trading"]
    assert trading["calendar"] == "XNYS"
    assert trading["costs"] == {
        **{"commission_bps": 0, "commission_per_share": 0.005, "min_commission": 1.0, "half_spread_bps": 2.0}
    }
    assert "# Interactive Brokers" in Path("conf/mine/parameters_training.yml").read_text()


def test_a_file_outside_the_project_is_named_where_it_is(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("elsewhere") / "AAPL.csv"
    (folder / spreadsheet("AAPL.csv", walk(sessions(25)))).rename(path)
    told = typed("adopt", str(path), *MINE, *OF_STOCKS)
    assert f"note: `{path}` lies outside the project" in told.output
    assert written("mine")["catalog.yml"]["bars"]["filepath"] == str(path)


def test_hours_of_coins_are_adopted_with_horizons_in_time(folder):
    path = intraday("coins.csv", pd.date_range("2024-02-01", periods=240, freq="h", tz="UTC"))
    told = typed("adopt", path, *MINE, "--bar-label", "start", "--small")
    assert told.exit_code == 0, told.output
    assert "asset class: crypto (BTCUSDT is a coin in a currency)" in told.output
    files = written("mine")
    assert files["globals.yml"]["session_minutes"] == 1440
    assert "calendar" not in files["parameters_training.yml"]["trading"]
    assert files["parameters_training.yml"]["trading"]["masks"]["no_short"] == ["*"]
    bars = {column["name"]: column.get("bars") for column in files["parameters_features.yml"]["features"]["columns"]}
    assert bars["return_4h"] == "${bars:4h}"
    assert "return_1mo" not in bars


def test_too_few_bars_of_a_session_say_the_minimum(folder):
    path = intraday("hours.csv", pd.date_range("2024-02-01", periods=30, freq="h", tz="UTC"))
    told = typed("adopt", path, *MINE, "--bar-label", "start")
    assert "30 bars: too few for a whole run, which needs at least " in told.output
    assert told.output.splitlines()[-1] == "Run:   kedro run --env=mine --pipelines ingestion,features"


def test_bars_before_the_open_are_dropped_and_it_is_said(folder):
    days = pd.bdate_range("2024-03-11", periods=12, tz="America/New_York")
    stamps = [pd.date_range(day + pd.Timedelta(hours=8), periods=16, freq="30min") for day in days]
    path = intraday("early.csv", stamps[0].append(stamps[1:]).tz_convert("UTC"), "AAPL")
    told = typed("adopt", path, *MINE, *OF_STOCKS, "--bar-label", "start")
    assert told.exit_code == 0, told.output
    assert told.output.startswith("outside: 36 bars end outside the sessions of XNYS; a run drops them\n")
    assert written("mine")["parameters_ingestion.yml"]["ingestion"]["outside_session"] == "drop"


def test_a_calendar_in_which_no_bar_lies_is_refused(folder):
    path = intraday("night.csv", pd.date_range("2024-03-12 02:00", periods=60, freq="min", tz="UTC"), "AAPL")
    told = typed("adopt", path, *MINE, *OF_STOCKS, "--bar-label", "start")
    assert told.exit_code == 1
    assert told.stderr.startswith("Error: No bar ends in the sessions of `--calendar` XNYS: check `--timezone`")


@pytest.mark.parametrize("name", ["base", "local", "my env", "../x", "", "0"])
def test_a_name_that_is_none_is_refused(folder, name):
    told = typed("adopt", spreadsheet("AAPL.csv", walk(sessions(25))), "--env", name, *OF_STOCKS)
    assert told.exit_code == 1
    assert told.stderr.startswith("Error: `--env` must be a name of letters, digits, - and _")


def test_an_environment_is_replaced_only_by_force(folder):
    path = spreadsheet("AAPL.csv", walk(sessions(25)))
    assert typed("adopt", path, *MINE, *OF_STOCKS).exit_code == 0
    (folder / "conf" / "mine" / "mine.txt").touch()
    refused = typed("adopt", path, *MINE, *OF_STOCKS)
    assert (
        refused.stderr == "Error: `conf/mine` exists already; choose another `--env`, or replace it with `--force`.\n"
    )
    assert (folder / "conf" / "mine" / "mine.txt").exists()
    assert typed("adopt", path, *MINE, *OF_STOCKS, "--force").exit_code == 0
    assert not (folder / "conf" / "mine" / "mine.txt").exists()
    assert sorted(path.name for path in (folder / "conf").iterdir()) == ["base", "local", "mine"]


def test_an_unknown_calendar_is_refused_with_names_like_it(folder):
    told = typed(
        *("adopt", spreadsheet("AAPL.csv", walk(sessions(25))), *MINE),
        *("--calendar", "XNYZ", "--asset-class", "stock"),
    )
    assert told.exit_code == 1
    assert (
        "`--calendar` must be a name of the package exchange_calendars, was 'XNYZ'; names like it: XNZE, XNYS"
        in told.stderr
    )


def mixed_lengths(bars):
    minutes = walk(pd.date_range("2024-03-04 14:30", periods=30, freq="min", tz="UTC"))
    return pd.concat([bars.assign(timestamp=bars["timestamp"].dt.tz_localize("UTC")), minutes])


def two_symbols(bars):
    return pd.concat([bars, walk(pd.DatetimeIndex(bars["timestamp"]), seed=1, start=400.0)])


def lost_point(bars):
    prices = ["open", "high", "low", "close"]
    bars.loc[12, prices] *= 100
    return bars


def hole(bars):
    return bars.assign(timestamp=bars["timestamp"].where(bars.index < 12, bars["timestamp"] + pd.DateOffset(years=1)))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            mixed_lengths,
            ("AAPL has one bar a day on 24 days", "such as 2024-03-04", "put each length into a file of its own"),
        ),
        (two_symbols, ("AAPL 2024-02-20", "if these are bars of two symbols", "a file of its own")),
        (lost_point, ("AAPL 2024-03-07", "correct the row (a lost decimal point?)")),
        (hole, ("AAPL 2025-03-07", "366 days since 2024-03-06", "begin after the pause")),
    ],
)
def test_bars_that_no_setting_mends_are_refused_with_row_and_remedy(folder, damage, words):
    bars = damage(walk(sessions(25)))
    bars.assign(symbol="AAPL").to_csv("data/bars.csv", index=False)
    told = typed("adopt", "data/bars.csv", *MINE, *OF_STOCKS, "--bar-label", "start")
    assert told.exit_code == 1, told.output
    assert [word for word in words if word not in told.stderr] == []
    assert not (folder / "conf" / "mine").exists()


def test_what_is_refused_is_told_by_inspect(folder):
    hole(walk(sessions(25))).assign(symbol="AAPL").to_csv("data/bars.csv", index=False)
    told = typed("inspect", "data/bars.csv")
    assert told.exit_code == 0, told.output
    assert "longest gaps: 2024-03-06 to 2025-03-07, 366.0 days" in told.output
    assert "refused: bars of all symbols pause for longer than any exchange closes: fill in the bars" in told.output


def test_files_that_name_no_symbol_are_asked_for_one_each(folder):
    paths = [spreadsheet(f"my shares {number}.csv", walk(sessions(25), seed=number)) for number in (1, 2)]
    asked = typed("adopt", *paths, *MINE, *OF_STOCKS)
    words = shlex.split(asked.stderr.splitlines()[-1])
    assert [word for word in words if "=" in word] == ["my shares 1=my shares 1", "my shares 2=my shares 2"]
    answered = typed("adopt", *paths, *MINE, *OF_STOCKS, "--symbol", "my shares 1=ONE", "--symbol", "my shares 2=TWO")
    assert answered.exit_code == 0, answered.output
    assert written("mine")["catalog.yml"]["bars"]["symbols"] == {"my shares 1": "ONE", "my shares 2": "TWO"}


def test_check_is_the_pipeline_preflight(folder, monkeypatch):
    asked = []
    monkeypatch.setattr("sentio_kedro.cli.run.main", lambda words, **_: asked.append(words))
    assert typed("check", "--env=mine").exit_code == 0
    assert asked == [["--env", "mine", "--pipeline", "preflight"]]


def test_a_run_of_all_stages_could_begin_and_the_first_ones_do(folder):
    """The README's commands, which `test_commands.py` types, run all of them."""
    path = spreadsheet("AAPL.csv", walk(sessions(25)))
    assert typed("adopt", path, *MINE, *OF_STOCKS).exit_code == 0
    project = Project(folder, env="mine")
    project.run("preflight")
    project.run("ingestion", "features")
    assert (folder / "data" / "mine" / "04_feature" / "features.parquet").is_file()
