"""A parameter that null switches off refuses the value that once did, with the remedy."""

from functools import reduce
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from sentio_kedro.config import CrossValidationParameters, TradingParameters, TrainingParameters

SECTIONS: dict[str, Any] = {
    "cross_validation": CrossValidationParameters,
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
