"""Trading parameters: presets that single keys override, and refusals that name the key."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from tests.config.flat import leaves

from sentio_kedro.config import CostParameters, TradingParameters

PRESETS = ("none", "proportional", "realistic")


def test_the_preset_none_charges_and_forbids_nothing() -> None:
    free = leaves(TradingParameters(preset="none"))
    costs = [value for key, value in free.items() if key.startswith(("costs.", "carry.")) and "bars" not in key]
    costs.remove(free["costs.max_impact"])  # a cap of an impact that is off
    assert all(value in (0.0, False, "constant") for value in [*costs, free["margin.liquidation_fee"]])
    assert not free["margin.intrabar"]
    limits = ("max_drawdown", "net_limit", "var_limit", "margin.initial", "margin.maintenance", "orders.lot_size")
    masks = ("masks.kelly_fraction", "masks.liquidity", "masks.first_minutes", "masks.min_holding_bars")
    assert all(free[key] is None for key in (*limits, *masks, "orders.participation"))


def test_proportional_is_where_the_classes_start() -> None:
    assert leaves(TradingParameters(preset="proportional")) == leaves(TradingParameters())


def test_single_keys_override_a_preset_however_they_arrive() -> None:
    as_file = {"preset": "realistic", "costs": {"commission_bps": 10}, "masks": {"daily_loss": None}}
    read = TypeAdapter(TradingParameters).validate_python(as_file)
    built = TradingParameters(preset="realistic", costs={"commission_bps": 10}, masks={"daily_loss": None})  # type: ignore[arg-type]
    assert read == built
    assert read.costs.commission_bps == 10.0
    assert read.costs.impact == TradingParameters(preset="realistic").costs.impact > 0.0
    assert read.masks.daily_loss is None
    assert read.masks.liquidity is not None
    given = CostParameters(commission_bps=3.0)
    assert TradingParameters(preset="realistic", costs=given).costs == given  # an object is taken as it is


def test_parameters_that_were_saved_come_back() -> None:
    adapter = TypeAdapter(TradingParameters)
    for preset in PRESETS:
        trading = TradingParameters(preset=preset, gross_limit=0.5)  # type: ignore[arg-type]
        assert adapter.validate_json(adapter.dump_json(trading)) == trading


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"margin": {"initial": 0.2, "maintenance": 0.3}}, ["margin.maintenance", "0.3", "0.2", "lower"]),
        ({"gross_limit": 3.0, "margin": {"initial": 0.5}}, ["gross_limit", "3", "= 2", "lower"]),
        ({"gross_limit": 5.0, "margin": {"maintenance": 0.25}}, ["gross_limit", "5", "= 4"]),
        ({"levels": [-1.5, 0.0, 1.0]}, ["levels", "[-1, 1]", "gross_limit"]),
        ({"levels": [-1.0, 1.0]}, ["levels", "must contain 0"]),
        ({"allocation": {"A": -0.5, "B": 0.5}}, ["trading.allocation", "at least 0", "{'A': -0.5}", "levels"]),
        ({"allocation": {"A": float("nan")}}, ["allocation", "finite", "nan"]),
        ({"allocation": {"A": float("inf")}}, ["allocation", "finite", "inf"]),
        ({"allocation": {"A": 0.0}}, ["trading.allocation", "more than 0", "was 0 ", "change the weights"]),
        ({"allocation": {"A": 0.7, "B": 0.4}}, ["trading.allocation", "gross_limit` = 1", "was 1.1 ", "change"]),
        ({"costs": {"impact": -1.0}}, ["impact", "greater than or equal to 0"]),
        ({"costs": {"commission_bps": -1.0}}, ["commission_bps", "greater than or equal to 0"]),
        ({"carry": {"borrow_rate": -0.1}}, ["borrow_rate", "greater than or equal to 0"]),
        ({"max_drawdown": 0.0}, ["max_drawdown", "greater than 0"]),
        ({"masks": {"daily_loss": 0.0}}, ["daily_loss", "greater than 0"]),
        ({"orders": {"min_notional": 2e6}}, ["min_notional", "2e+06", "1e+06", "lower"]),
        ({"orders": {"flat_at_close": True}}, ["trading.calendar", "XNYS", "flat_at_close"]),
        ({"masks": {"overnight": False, "first_minutes": 5}}, ["trading.calendar", "first_minutes", "overnight"]),
        ({"preset": "cautious"}, ["preset", "none", "realistic"]),
        ({"comission": 3}, ["comission", "unexpected"]),
    ],
)
def test_settings_that_cannot_be_met_are_refused_with_name_value_bound_and_remedy(
    given: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(TradingParameters).validate_python(given)
    text = str(refused.value)
    assert all(word.lower() in text.lower() for word in words), text
