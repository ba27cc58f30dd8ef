"""Rules of single symbols: from YAML and from a table, and what is refused."""

from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader
from pydantic import TypeAdapter, ValidationError

from sentio_kedro.config import SymbolRules, TradingParameters
from sentio_kedro.config.symbols import read_symbols_table
from sentio_kedro.config.trading import calendar_of, is_mixed, own_calendars
from sentio_kedro.manifests import expected_manifest, flatten_parameters
from sentio_kedro.preflight.settings import section_problems
from sentio_kedro.settings import CONFIG_LOADER_ARGS

TABLE = "symbol,calendar,commission_bps,lot_size,shortable\nBTC-USD,24/7,,0.001,no\n SPY ,XNYS,0.5,1,\n"
MIXED = TradingParameters(symbols={"BTC-USD": {"calendar": "24/7"}, "SPY": {"calendar": "XNYS"}, "ETH": {}})  # type: ignore[dict-item]


def table(folder: Path, text: str) -> Path:
    path = folder / "symbols.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_is_the_mapping_that_yaml_would_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path, TABLE)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "parameters_training.yml").write_text('trading: {symbols: "${symbols_table:symbols.csv}"}')
    given = {**CONFIG_LOADER_ARGS, "default_run_env": "base"}
    section = OmegaConfigLoader(str(tmp_path), **given)["parameters"]["trading"]  # type: ignore[arg-type]
    trading = TypeAdapter(TradingParameters).validate_python(section)
    assert trading.symbols == {
        "BTC-USD": SymbolRules(calendar="24/7", lot_size=0.001, shortable=False),
        "SPY": SymbolRules(calendar="XNYS", commission_bps=0.5, lot_size=1.0),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("symbol,comission\nA,1\n", ["line 1", "commission_bps", "had ['symbol', 'comission']", "['comission']"]),
        ("ticker,lot_size\nA,1\n", ["line 1", "a column `symbol`", "rename or remove ['ticker']"]),
        ("symbol,lot_size,lot_size\nA,1,2\n", ["each once", "['lot_size']"]),
        ("", ["a column `symbol`", "had []"]),
        ("symbol,lot_size\nA,1\nB,-2\n", ["line 3 (B) `lot_size` should be greater than 0, was '-2'", "Correct"]),
        ("symbol,commission_bps\nA,free\n", ["line 2 (A) `commission_bps` should be a valid number", "'free'"]),
        ("symbol,shortable\nA,maybe\n", ["line 2 (A) `shortable` should be a valid boolean", "'maybe'"]),
        ("symbol,lot_size\nA,1\nA,2\n", ["line 3 names 'A' again"]),
        ("symbol,lot_size\n,1\n", ["line 2 `symbol` '' is blank"]),
        ("symbol,lot_size\nA,1,7\n", ["line 2 has more cells"]),
    ],
)
def test_a_wrong_table_is_refused_with_line_name_value_and_remedy(tmp_path: Path, text: str, words: list[str]) -> None:
    path = table(tmp_path, text)
    with pytest.raises(ValueError, match="table of symbols") as refused:
        read_symbols_table(path)
    assert all(word in str(refused.value) for word in [str(path), *words]), refused.value


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.csv` cannot be read .*correct its path"):
        read_symbols_table(tmp_path / "none.csv")


def test_a_refused_rule_is_named_in_full() -> None:
    given = {"trading": {"symbols": {"BTC-USD": {"lot_size": 0}}}}
    text = "`trading.symbols.BTC-USD.lot_size` should be greater than 0, was 0; change it."
    assert section_problems(given, list) == [text]


def test_what_no_rule_sets_is_neither_saved_nor_part_of_a_manifest() -> None:
    adapter = TypeAdapter(TradingParameters)
    assert "symbols" not in adapter.dump_python(TradingParameters(), mode="json")
    assert not [name for name in flatten_parameters({"trading": {}}) if "symbols" in name]
    assert adapter.validate_json(adapter.dump_json(MIXED)) == MIXED
    flat = flatten_parameters({"trading": MIXED})
    for stage in ("cross_validation", "forecasting", "training", "backtest"):
        shaped = expected_manifest(stage, "bars", flat).parameters
        assert shaped["trading.symbols.BTC-USD.calendar"] == "24/7"


def test_the_calendar_of_a_symbol_is_its_own_or_the_account_s() -> None:
    assert [calendar_of(MIXED, symbol) for symbol in ("BTC-USD", "SPY", "ETH", "XRP")] == [None, "XNYS", None, None]
    assert is_mixed(MIXED)
    assert own_calendars(MIXED, ["SPY", "ETH"]) == {"SPY": "XNYS", "ETH": None}
    same = TradingParameters(calendar="XNYS", symbols={"SPY": {"calendar": "XNYS"}, "QQQ": {}})  # type: ignore[dict-item]
    assert not is_mixed(same)
    assert own_calendars(same, ["SPY", "QQQ"]) == {}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"symbols": {"A": {"min_notional": 2e6}}},
            ["symbols.A.min_notional", "at most", "1e+06", "was 2e+06", "lower"],
        ),
        ({"symbols": {"A ": {}}}, ["trading.symbols", "blanks at its ends"]),
        ({"symbols": {"A": {}, "a": {}}}, ["trading.symbols", "differ by case"]),
        (
            {"calendar": "XNYS", "symbols": {"B": {"calendar": "24/7"}}, "masks": {"overnight": False}},
            ["masks.overnight: false", "must be off", "`trading.symbols` gives B", "one calendar"],
        ),
    ],
)
def test_rules_that_cannot_be_met_are_refused(given: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(TradingParameters).validate_python(given)
    assert all(word in str(refused.value) for word in words), refused.value
