"""A parameter that null switches off refuses the value that once did, with the remedy."""

from functools import reduce
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from sentio_kedro.config import (
    CrossValidationParameters,
    IngestionParameters,
    PromotionParameters,
    RegimeParameters,
    ReportingParameters,
    SignalParameters,
    TradingParameters,
    TrainingParameters,
)

SECTIONS: dict[str, Any] = {
    "cross_validation": CrossValidationParameters,
    "ingestion": IngestionParameters,
    "promotion": PromotionParameters,
    "regimes": RegimeParameters,
    "reporting": ReportingParameters,
    "signals": SignalParameters,
    "trading": TradingParameters,
    "training": TrainingParameters,
}


def build(name: str, value: Any) -> Any:
    """Build the section of a dotted name with this value, and return what the section holds."""
    section, *path = name.split(".")
    given = reduce(lambda inner, key: {key: inner}, reversed(path), value)
    return reduce(getattr, path, TypeAdapter(SECTIONS[section]).validate_python(given))


@pytest.mark.parametrize(
    ("name", "off", "bound"),
    [
        ("trading.max_drawdown", 1.0, "below 1, was 1.0"),
        ("trading.orders.lot_size", 0, "above 0, was 0"),
        ("trading.orders.min_notional", 0.0, "above 0, was 0.0"),
        ("trading.masks.first_minutes", 0, "above 0, was 0"),
        ("trading.masks.last_minutes", 0, "above 0, was 0"),
        ("trading.masks.min_holding_bars", 0, "above 0, was 0"),
        ("cross_validation.lockbox", 0.0, "above 0, was 0.0"),
        ("training.block_bars", 0, "above 0, was 0"),
    ],
)
def test_what_null_switches_off_refuses_the_value_that_once_did(name: str, off: Any, bound: str) -> None:
    with pytest.raises(ValidationError) as refused:
        build(name, off)
    assert f"`{name}` must be {bound}; set it to null to switch it off." in str(refused.value)
    assert build(name, None) is None


@pytest.mark.parametrize("name", ["trading.initial_cash", "training.learning_rate", "trading.costs.impact"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e13])
def test_numbers_are_finite_and_no_larger_than_a_trillion(name: str, value: float) -> None:
    with pytest.raises(ValidationError, match=rf"{name.rsplit('.', maxsplit=1)[-1]}\n.*(finite|greater|1000000000000)"):
        build(name, value)
    assert build(name, 1e12) == 1e12


@pytest.mark.parametrize("name", ["training.seeds", "regimes.memory", "cross_validation.folds", "signals.fold"])
def test_counts_are_no_larger_than_a_trillion(name: str) -> None:
    with pytest.raises(ValidationError, match="1000000000000"):
        build(name, 10**30)


@pytest.mark.parametrize("name", ["reporting.seed", "promotion.seed", "training.seed"])
@pytest.mark.parametrize("value", [-1, 2**63])
def test_seeds_are_numbers_that_a_generator_takes(name: str, value: int) -> None:
    with pytest.raises(ValidationError, match="seed"):
        build(name, value)
    assert build(name, 2**63 - 1) == 2**63 - 1


def test_a_gate_is_no_nan_that_every_gain_would_pass() -> None:
    with pytest.raises(ValidationError, match="min_sharpe_gain"):
        build("promotion.min_sharpe_gain", float("nan"))


@pytest.mark.parametrize("zone", ["abc", "", "\x00", "../etc/passwd", "America"])
def test_unknown_zones_are_refused_with_a_remedy(zone: str) -> None:
    with pytest.raises(ValidationError, match=r"`ingestion.timezone` must be a zone of the IANA database, was .*write"):
        build("ingestion.timezone", zone)
    assert build("ingestion.timezone", "America/New_York") == "America/New_York"


@pytest.mark.parametrize("minutes", [1e-300, 1e9])
def test_a_bar_is_no_shorter_than_a_second_and_no_longer_than_a_year(minutes: float) -> None:
    with pytest.raises(ValidationError, match="bar_minutes"):
        build("ingestion.bar_minutes", minutes)
