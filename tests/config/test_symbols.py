"""Names of assets: allowed ones, alike ones, and what an unknown one may have meant."""

import pytest

from sentio_kedro.config import TradingParameters
from sentio_kedro.config.symbols import alike, symbol_fault, unknown_symbols


@pytest.mark.parametrize("symbol", ["BTC", "BRK B", "000001", "Ä", "上证", "NA", "A" * 64, "<!--<script>"])
def test_printable_names_are_allowed(symbol: str) -> None:
    assert symbol_fault(symbol) is None


@pytest.mark.parametrize(
    ("symbol", "fault"),
    [
        ("", "is blank"),
        (" \t", "is blank"),
        ("A" * 65, "has 65 characters"),
        ("AAA ", "has blanks at its ends"),
        ("\u3000AAA", "has blanks at its ends"),
        ("A\tB", "has characters that cannot be printed"),
        ("A\u200b", "has characters that cannot be printed"),
        ("A\x00", "has characters that cannot be printed"),
        ("A\ud800", "has characters that cannot be printed"),
    ],
)
def test_other_names_are_faulty(symbol: str, fault: str) -> None:
    assert symbol_fault(symbol) == fault


def test_names_that_differ_by_case_or_blanks_alone_are_alike() -> None:
    assert alike(["AAA", "B", "aaa", "AAA", "AAA ", "b", "C"]) == [["AAA", "aaa", "AAA "], ["B", "b"]]
    assert alike(["AAA", "AAB", "AAA"]) == []


def test_an_unknown_name_is_told_with_the_known_one_that_it_may_mean() -> None:
    assert unknown_symbols(["AAA", "B"], ["AAA", "B", "C"]) == ""
    assert unknown_symbols(["XXX"], ["AAA"]) == "['XXX']"
    assert unknown_symbols(["aaa", "XXX"], ["AAA"]) == "['XXX', 'aaa'] (perhaps 'AAA' is meant by 'aaa')"
    many = unknown_symbols([f"X{number:02}" for number in range(13)], ["AAA"])
    assert many.endswith("'X09'] and 3 more")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"allocation": {"AAA ": 0.5}}, ["`trading.allocation`", "'AAA ' has blanks at its ends", "correct"]),
        ({"allocation": {"AAA": 0.2, "aaa": 0.2}}, ["`trading.allocation`", "['AAA', 'aaa']", "by case", "keep"]),
        ({"masks": {"no_short": ["*", "A\n"]}}, ["`trading.masks.no_short`", "'A\\n' has blanks at its ends"]),
    ],
)
def test_parameters_that_name_symbols_are_checked(given: dict, words: list[str]) -> None:
    with pytest.raises(ValueError, match="trading") as caught:
        TradingParameters(**given)
    for word in words:
        assert word in str(caught.value)


def test_every_short_sale_may_be_forbidden() -> None:
    assert TradingParameters(masks={"no_short": ["*"]}).masks.no_short == ["*"]  # type: ignore[arg-type]
