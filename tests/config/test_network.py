"""Network parameters: one shipped environment says what the defaults are, and parts that do not fit are named."""

from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from sentio_kedro.config import NetworkParameters

SHIPPED = Path(__file__).parents[2] / "conf" / "end_to_end" / "parameters_training.yml"
NETWORK = TypeAdapter(NetworkParameters)


def test_the_network_without_forecasts_is_where_the_class_starts() -> None:
    shipped = yaml.safe_load(SHIPPED.read_text())["network"]
    assert shipped.items() <= NETWORK.dump_python(NetworkParameters()).items()


def test_sizes_alone_give_the_network_that_knew_no_other_parts() -> None:
    sizes = {"width": 16, "layers": 1, "heads": 2, "window": 16, "convolution": 4, "hidden": 64, "quantiles": 51}
    assert NETWORK.validate_python(sizes) == NetworkParameters(
        encoder="transformer",
        asset_attention=True,
        regime_experts=True,
        masked=True,
        dropout=0.0,
        checkpoint_layers=False,
    )


@pytest.mark.parametrize("quantiles", [1, 3, 51])
def test_a_critic_has_one_output_or_at_least_three_quantiles(quantiles: int) -> None:
    assert NetworkParameters(quantiles=quantiles).quantiles == quantiles


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"quantiles": 2}, r"`network.quantiles` must be 1 \(the value alone\) or at least 3, was 2"),
        ({"quantiles": 0}, "greater than or equal to 1"),
        ({"width": 18, "heads": 2}, "must be a multiple of 2 x `network.heads` = 4, was 18; try 16"),
        ({"width": 18, "heads": 2, "quantiles": 2}, r"`network.heads` = 4, was 18.*`network.quantiles` must be 1"),
        ({"dropout": 1.0}, "less than 1"),
        ({"dropout": -0.1}, "greater than or equal to 0"),
        ({"encoder": "lstm"}, "'transformer' or 'mlp'"),
        ({"gates": True}, "[Uu]nexpected"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NETWORK.validate_python(values)
