"""The page of parameters names every key of every typed class, and says what each is."""

import dataclasses
from typing import Annotated, Literal

import pytest
from pydantic import Field

import parameters_page as page
from sentio_kedro import config
from sentio_kedro.config.fields import Fraction, PositiveFraction


@pytest.fixture(scope="module")
def sections() -> list[page.Section]:
    return page.sections()


def test_every_class_and_every_field_is_there(sections: list[page.Section]) -> None:
    listed = {section.cls: {row.key.rpartition(".")[2] for row in section.rows} for section in sections}
    exported = {getattr(config, name) for name in config.__all__ if dataclasses.is_dataclass(getattr(config, name))}
    assert exported <= set(page.parameter_classes())
    for cls in page.parameter_classes():
        if not cls.__subclasses__():  # what several sections share is shown in each of them
            assert listed.get(cls) == {field.name for field in dataclasses.fields(cls)}, cls.__name__


def test_every_key_has_type_unit_default_and_meaning(sections: list[page.Section]) -> None:
    rows = [row for section in sections for row in section.rows]
    assert [row.key for row in rows if not all(cell.strip() for cell in row)] == []
    assert len({row.key for row in rows}) == len(rows)
    written = page.parameters_page()
    cells = {row.key: f"| `{row.key}` | {row.kind} | {row.unit} | {row.default} |" for row in rows}
    assert [key for key, text in cells.items() if text not in written] == []


def test_keys_stand_where_the_files_have_them(sections: list[page.Section]) -> None:
    rows = {row.key: row[1:4] for section in sections for row in section.rows}
    assert rows["training.divergence.max_kl"] == ("number above 0 or `null`", "nats", "`null`")
    assert rows["trading.initial_cash"] == ("number above 0", "quote currency", "`1000000`")
    assert rows["trading.costs.half_spread_bps"] == (
        "number at least 0",
        "bps of traded notional",
        "`1` (none `0`, perpetual `0.5`)",
    )
    assert rows["trading.costs.half_spread"] == ("`constant`, `bars`, `estimated`", "-", "`constant`")
    assert rows["network.window"] == ("whole number at least 2", "bars", "`16`")
    assert rows["features.columns[].lookback"] == ("whole number at least 1 or `null`", "bars", "`null`")
    assert rows["backtest.robustness.latency_bars"][2] == "`[0, 1, 2, 3]`"


def test_defaults_of_presets_and_variants_stand_behind_those_of_the_classes(sections: list[page.Section]) -> None:
    defaults = {row.key: row.default for section in sections for row in section.rows}
    assert defaults["trading.masks.liquidity"] == "`null` (realistic `0.05`, perpetual `0.05`)"
    assert defaults["trading.initial_cash"] == "`1000000`"
    assert defaults["network.quantiles"] == "`51` (standard `1`, maskable `1`)"
    assert defaults["network.masked"] == "`true` (standard `false`)"
    assert defaults["training.advantages"] == "`all_action` (standard `sampled`, maskable `sampled`)"
    assert defaults["training.variant"] == "`enhanced`"
    assert defaults["trading.costs"] == "see its keys"


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Fraction, "number at least 0, at most 1"),
        (PositiveFraction | None, "number above 0, at most 1 or `null`"),
        (list[Annotated[int, Field(ge=0, lt=9)]], "list of whole number at least 0, below 9"),
        (Literal["a", "b"], "`a`, `b`"),
        (bool, "`true`, `false`"),
    ],
)
def test_types_are_written_with_their_bounds(hint: object, words: str) -> None:
    assert page._kind(hint) == words
