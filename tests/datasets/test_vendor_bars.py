"""The vendor as a dataset."""

import pytest
from kedro.io import DatasetError
from pydantic import ValidationError

from sentio_kedro.config import DownloadParameters
from sentio_kedro.datasets import VendorBars

GIVEN = {"vendor": "stooq", "symbols": ["aaa"], "interval": "1d", "start": "2024-01-01"}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"vendor": "yahoo"}, "`vendor`"),
        ({"interval": "1w"}, "`interval`"),
        ({"symbols": []}, "one or more"),
        ({"symbols": ["A", "A"]}, "each symbol once"),
        ({"symbols": ["A", "a "]}, "blanks"),
        ({"start": "soon"}, "`start` must be a date"),
        ({"until": "2024-13-01"}, "`until` must be a date"),
        ({"rate": {"per_minute": 0}}, "`rate`"),
        ({"rate": {"per_second": 1}}, "`rate`"),
    ],
)
def test_wrong_values_are_refused_when_the_catalog_is_read(wrong, reason):
    with pytest.raises(DatasetError, match=reason):
        VendorBars(**{**GIVEN, **wrong})


def test_no_text_of_the_dataset_has_a_key():
    dataset = VendorBars(**{**GIVEN, "vendor": "alpaca"}, credentials={"api_key": "PK1", "secret_key": "hidden"})
    assert "hidden" not in f"{dataset} {dataset!r} {vars(dataset)['_keys']}"
    with pytest.raises(DatasetError, match="only read"):
        dataset.save(1)


def test_other_parameters_are_refused():
    with pytest.raises(ValidationError):
        DownloadParameters(vendor="yfinance")
