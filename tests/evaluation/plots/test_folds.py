"""The picture of the folds: every row of every part where it belongs, gaps named by their reason."""

from itertools import pairwise

import numpy as np
import pytest

from sentio_kedro.config import CrossValidationParameters
from sentio_kedro.evaluation.plots.folds import fold_figure
from sentio_kedro.market.folds import Folds, lockbox_bars, make_folds
from sentio_kedro.market.purged_folds import Spans

BARS, MINUTE = 200, 60_000.0  # a bar a minute, in milliseconds
STAMPS = np.datetime64("2024-01-01T00:00", "ns") + np.arange(BARS) * np.timedelta64(1, "m")
SPANS = Spans(input=6, reward=2, episode=2)


def drawn(**given):
    """Rows ``(fold, start, stop)`` of each part, read back from the figure."""
    parameters = CrossValidationParameters(**given)
    locked = lockbox_bars(BARS, parameters)
    figure = fold_figure(Folds.of(make_folds(BARS, SPANS, parameters), SPANS, STAMPS, locked), STAMPS)
    found = {}
    for trace in figure.data:
        starts = [(np.datetime64(base.replace(" ", "T")) - STAMPS[0]) // np.timedelta64(1, "m") for base in trace.base]
        lengths = [round(width / MINUTE) for width in trace.x]
        rows = zip(trace.y, starts, lengths, strict=True)
        found[trace.name] = [(fold, int(start), int(start) + length) for fold, start, length in rows]
    return found, figure


def test_a_walk_forward_is_drawn_row_by_row() -> None:
    found, figure = drawn(folds=2, validation=0.2, lockbox=0.2)  # rows 5 to 157, the first test row is 81
    assert found == {
        "Train": [(0, 5, 65), (1, 5, 95)],
        "Purged": [(0, 65, 66), (0, 80, 81), (1, 95, 96), (1, 118, 119)],
        "Validation": [(0, 66, 80), (1, 96, 118)],
        "Test": [(0, 81, 119), (1, 119, 158)],
        "Lockbox": [(0, 160, 199), (1, 160, 199)],  # to the last bar's end
    }
    assert figure.data[1].customdata[0] == ["2024-01-01 01:05", "2024-01-01 01:05", "1"]


def test_rows_after_a_test_block_are_embargoed() -> None:
    found, _ = drawn(scheme="k_fold", folds=4, validation=0.2, lockbox=None)
    assert found["Test"] == [(0, 5, 53), (1, 53, 101), (2, 101, 149), (3, 149, 198)]
    gap = SPANS.input + SPANS.reward - 1
    assert found["Embargoed"] == [(0, 53, 53 + gap), (1, 101, 101 + gap), (2, 149, 149 + gap)]
    assert "Lockbox" not in found


@pytest.mark.parametrize("scheme", ["walk_forward", "k_fold", "combinatorial"])
def test_no_row_is_drawn_twice_and_none_between_the_parts_is_missing(scheme: str) -> None:
    found, figure = drawn(scheme=scheme, lockbox=0.1)
    for number in {fold for fold, _, _ in found["Train"]}:
        spans = sorted((start, stop) for rows in found.values() for fold, start, stop in rows if fold == number)
        inner = [span for span in spans if span[0] < BARS - round(0.1 * BARS)]
        assert all(first[1] == second[0] for first, second in pairwise(inner))
    assert figure.layout.height < 1_200


def test_many_folds_stay_on_one_page() -> None:
    _, figure = drawn(scheme="combinatorial", groups=9, test_groups=3, lockbox=None)
    assert len({fold for trace in figure.data for fold in trace.y}) == 84
    assert figure.layout.height < 1_200
