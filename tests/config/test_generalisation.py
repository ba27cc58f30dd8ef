"""Parameters against learning by heart: off unless asked for, out of bounds refused."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from sentio_kedro.config import ResamplingParameters
from sentio_kedro.config.generalisation import AbstentionParameters


def test_what_is_new_is_off() -> None:
    how = ResamplingParameters()
    assert (how.block_bars, how.mirror_blocks, how.detrended) == (128, True, False)
    assert AbstentionParameters().threshold is None


@pytest.mark.parametrize(
    ("section", "given", "words"),
    [
        (ResamplingParameters, {"block_bars": -1}, ["block_bars", "greater than or equal to 1"]),
        (ResamplingParameters, {"detrended": "perhaps"}, ["detrended", "bool"]),
        (ResamplingParameters, {"noise": 0.1}, ["noise", "unexpected"]),
        (AbstentionParameters, {"threshold": float("nan")}, ["threshold", "finite"]),
        (AbstentionParameters, {"holdout_share": -0.1}, ["holdout_share", "greater than 0"]),
        (AbstentionParameters, {"treshold": 1.0}, ["treshold", "unexpected"]),
    ],
)
def test_what_cannot_be_is_refused(section: type[Any], given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(section).validate_python(given)
    assert all(word in str(refused.value).lower() for word in words)
