"""Problems of bars as text: values in full, in the words of a person."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.market.ingestion.problems import BarsError, Problem, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.int64(1_704_205_800_000), "1704205800000"),
        (np.float64(7.0), "7"),
        (100.1234567, "100.1234567"),
        (float("nan"), "nan"),
        (np.float32(0.5), "0.5"),
        (np.bool_(True), "True"),
        ("867.17K", "'867.17K'"),
        (np.str_("A\x01"), "'A\\x01'"),
        (None, "empty"),
        (pd.NA, "empty"),
        (pd.NaT, "empty"),
        (np.datetime64("NaT"), "empty"),
        (np.datetime64("9999-12-31T00:00", "s"), "9999-12-31T00:00:00"),
        (pd.Timestamp("9999-12-31T00:00Z"), "9999-12-31 00:00:00+00:00"),
        (dt.date(9999, 12, 31), "9999-12-31"),
        (Decimal("1.5"), "Decimal('1.5')"),
        ([1, 2], "[1, 2]"),
        ("x" * 1_000_000, f"'{'x' * 99}... (1000002 characters)"),
    ],
)
def test_values_are_shown_in_full_and_without_words_of_a_library(value: object, text: str) -> None:
    assert shown(value) == text


def test_the_message_counts_all_and_shows_the_first() -> None:
    error = BarsError((Problem("a: do b", 12, ("x", "y")), Problem("c: do d", 1, ("z",))))
    assert str(error).splitlines() == [
        "The bars have 13 problem(s):",
        "- a: do b (12 case(s))",
        "    x",
        "    y",
        "    ... and 10 more",
        "- c: do d (1 case(s))",
        "    z",
    ]
