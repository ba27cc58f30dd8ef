"""Forecasts of a fold: experts fitted forward in time on train rows, weighed by evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from sentio_kedro.agent.forecasting.dictionary import Dictionary, usable
from sentio_kedro.agent.forecasting.evidence import Evidence, block_length, filled, supported, weigh
from sentio_kedro.agent.forecasting.experts import Expert, make_experts
from sentio_kedro.agent.forecasting.inputs.history import ForecastInputs
from sentio_kedro.agent.forecasting.targets import Horizon
from sentio_kedro.market.ingestion.timestamps import Floats

FORWARD_BLOCKS = 6  # of the train rows
FIRST_FORECAST = 2  # number of the first block that is forecast, from the blocks before it
CHUNK = 8_192  # rows of a design matrix


@dataclass(frozen=True)
class SleeveForecaster:
    """Experts of one sleeve and their weights.

    Attributes:
        segments: Segments forecast.
        dictionary: Scaling of the design matrix.
        experts: By name, for each segment.
        evidence: For each segment.
    """

    segments: Sequence[Horizon]
    dictionary: Dictionary
    experts: Sequence[Mapping[str, Expert]]
    evidence: Sequence[Evidence]

    @property
    def supported(self) -> list[bool]:
        """Whether each segment's forecast has evidence."""
        return [bool(part.weights.any()) for part in self.evidence]

    def predict(self, inputs: ForecastInputs, rows: np.ndarray) -> Floats:
        """Forecast per bar of each segment ``[n, A, segments]``, in volatilities; 0 where inputs are unknown."""
        found = np.zeros((len(rows), inputs.values.shape[1], len(self.segments)))
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            known = usable(inputs, part)
            if not known.any():
                continue
            matrix = self.dictionary.matrix(inputs, part)[known]
            for index, (experts, evidence) in enumerate(zip(self.experts, self.evidence, strict=True)):
                total = np.zeros(len(matrix))
                for weight, expert in zip(evidence.weights, experts.values(), strict=True):
                    total += weight * expert.predict(matrix) if weight > 0.0 else 0.0
                slopes = np.broadcast_to(evidence.slopes, known.shape)[known]
                found[start : start + CHUNK, :, index][known] = total * slopes
        return filled(found, self.supported, self.segments)


def forecast_rows(rows: np.ndarray) -> np.ndarray:
    """Train rows that are forecast out of fold."""
    return rows[len(rows) * FIRST_FORECAST // FORWARD_BLOCKS :]


def forward_blocks(rows: np.ndarray, purge: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut train ``rows`` ``[n]`` into blocks; yield the rows before a block, purged, and the block, in order of time.

    Args:
        rows: In order of time.
        purge: Bars after a decision that its longest target needs.
    """
    edges = [len(rows) * part // FORWARD_BLOCKS for part in range(FORWARD_BLOCKS + 1)]
    for first, last in zip(edges[FIRST_FORECAST:], edges[FIRST_FORECAST + 1 :], strict=False):
        block = rows[first:last]
        yield rows[:first][rows[:first] + purge <= block[0]], block


def fit_sleeve(
    inputs: ForecastInputs, targets: Floats, segments: Sequence[Horizon], rows: np.ndarray, purge: int, sleeve: str
) -> tuple[SleeveForecaster, Floats]:
    """Fit a sleeve's experts on train rows, and weigh them by forecasts of later rows than they were fitted on.

    Args:
        inputs: Inputs of all rows.
        targets: ``[T, A, segments]`` of the sleeve.
        segments: Segments of the targets.
        rows: Train rows, in order of time.
        purge: Bars after a decision that its longest target needs.
        sleeve: Its name.

    Returns:
        The forecaster, and its out-of-fold forecasts per bar ``[T, A, segments]``: 0 on rows that no block forecasts.
    """
    dictionary = Dictionary.fit(inputs, rows)
    experts, evidence = [], []
    found = np.zeros(targets.shape)
    matrix, known = dictionary.matrix(inputs, rows), usable(inputs, rows)
    with threadpool_limits(limits=1, user_api="openmp"):  # of this thread alone; folds are fitted side by side
        for index, part in enumerate(segments):
            sample = SegmentSample(matrix, known, rows, targets[:, :, index], part)
            forecasts = sample.forward(partial(make_experts, sleeve, dictionary, part), purge)
            weighed, found[rows, :, index] = sample.evidence(forecasts)
            evidence.append(weighed)
            experts.append(sample.fit(make_experts(sleeve, dictionary, part), rows))
    forecaster = SleeveForecaster(segments, dictionary, experts, supported(evidence))
    return forecaster, filled(found * forecaster.supported, forecaster.supported, segments)


class SegmentSample:
    """Examples of one segment on the train rows."""

    def __init__(self, matrix: Floats, known: np.ndarray, rows: np.ndarray, targets: Floats, part: Horizon) -> None:
        """Cut the targets to the rows.

        Args:
            matrix: ``[n, A, P]`` design matrix of the rows.
            known: ``[n, A]`` whether all inputs are known.
            rows: ``[n]`` train rows, in order of time.
            targets: ``[T, A]`` of the segment.
            part: The segment.
        """
        self.matrix, self.known, self.rows, self.targets = matrix, known, rows, targets[rows]
        self.blocks = np.broadcast_to(((rows - rows[0]) // block_length(len(rows), part))[:, None], known.shape)
        every = np.arange(len(rows)) % part.stride == 0
        self.examples = known & np.isfinite(self.targets) & every[:, None]

    def fit(self, experts: Mapping[str, Expert], rows: np.ndarray) -> Mapping[str, Expert]:
        """Fit experts on some of the rows."""
        use = self.examples & np.isin(self.rows, rows)[:, None]
        for expert in experts.values():
            expert.fit(self.matrix[use], self.targets[use], self.blocks[use])
        return experts

    def forward(self, make: Callable[[], Mapping[str, Expert]], purge: int) -> Floats:
        """Forecast blocks by fresh experts fitted on the blocks before ``[n, A, E]``; 0 on the first rows."""
        found = np.zeros((*self.known.shape, len(make())))
        for before, block in forward_blocks(self.rows, purge):
            use = self.known & np.isin(self.rows, block)[:, None]
            experts = self.fit(make(), before).values()
            found[use] = np.stack([expert.predict(self.matrix[use]) for expert in experts], axis=-1)
        return found

    def evidence(self, forecasts: Floats) -> tuple[Evidence, Floats]:
        """Weigh the experts by their forecasts from ``forward``; return that and the combined forecasts ``[n, A]``."""
        use = self.examples & np.isin(self.rows, forecast_rows(self.rows))[:, None]
        assets = np.broadcast_to(np.arange(use.shape[1]), use.shape)[use]
        found = weigh(forecasts[use], self.targets[use], self.blocks[use], assets, use.shape[1])
        return found, np.asarray((forecasts @ found.weights) * found.slopes)
