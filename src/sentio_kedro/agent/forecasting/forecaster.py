"""Forecasts of a fold: experts fitted forward in time on train rows, weighed by evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from sentio_kedro.agent.forecasting.dictionary import Dictionary, usable
from sentio_kedro.agent.forecasting.evidence import Evidence, block_length, filled, weigh
from sentio_kedro.agent.forecasting.experts import Expert, make_experts
from sentio_kedro.agent.forecasting.inputs import ForecastInputs
from sentio_kedro.agent.forecasting.targets import Horizon
from sentio_kedro.market.timestamps import Floats

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
    forward = list(forward_blocks(rows, purge))
    experts, evidence = [], []
    found = np.zeros(targets.shape)
    matrix, known = dictionary.matrix(inputs, rows), usable(inputs, rows)
    with threadpool_limits(limits=1, user_api="openmp"):  # of this thread alone; folds are fitted side by side
        for index, part in enumerate(segments):
            sample = _Sample(matrix, known, rows, targets[:, :, index], part)
            forecasts = {}
            for before, block in forward:
                fitted = sample.fit(make_experts(sleeve, dictionary, part), before)
                forecasts.update(sample.forecast(fitted, block))
            weighed, combined = sample.evidence(forecasts)
            evidence.append(weighed)
            found[rows, :, index] = combined
            experts.append(sample.fit(make_experts(sleeve, dictionary, part), rows))
    forecaster = SleeveForecaster(segments, dictionary, experts, evidence)
    return forecaster, filled(found, forecaster.supported, segments)


class _Sample:
    """Examples of one segment on the train rows."""

    def __init__(self, matrix: Floats, known: np.ndarray, rows: np.ndarray, targets: Floats, part: Horizon) -> None:
        self.matrix, self.rows, self.part = matrix, rows, part
        self.targets = targets[rows]  # [n, A]
        self.known = known
        self.blocks = (rows - rows[0]) // block_length(len(rows), part)

    def _use(self, rows: np.ndarray, every: int) -> np.ndarray:
        """Which examples ``[n, A]`` of some of the train rows have a target, of every so many rows."""
        of_rows = np.isin(self.rows, rows) & (np.arange(len(self.rows)) % every == 0)
        return np.asarray(self.known & np.isfinite(self.targets) & of_rows[:, None])

    def fit(self, experts: Mapping[str, Expert], rows: np.ndarray) -> Mapping[str, Expert]:
        """Fit experts on rows."""
        use = self._use(rows, self.part.stride)
        blocks = np.broadcast_to(self.blocks[:, None], use.shape)[use]
        for expert in experts.values():
            expert.fit(self.matrix[use], self.targets[use], blocks)
        return experts

    def forecast(self, experts: Mapping[str, Expert], rows: np.ndarray) -> dict[int, Floats]:
        """Forecast all examples of rows: ``[A, E]`` by place among the train rows."""
        places = np.flatnonzero(np.isin(self.rows, rows))
        known = self.known[places]
        found = np.zeros((*known.shape, len(experts)))
        matrix = self.matrix[places][known]
        found[known] = np.stack([expert.predict(matrix) for expert in experts.values()], axis=-1)
        return dict(zip(places.tolist(), found, strict=True))

    def evidence(self, forecasts: Mapping[int, Floats]) -> tuple[Evidence, Floats]:
        """Weigh the experts by forecasts of later rows; return that and the combined forecasts ``[n, A]``."""
        places = np.array(sorted(forecasts))
        stacked = np.stack([forecasts[place] for place in places.tolist()])  # [m, A, E]
        use = self._use(self.rows[places], self.part.stride)[places]
        blocks = np.broadcast_to(self.blocks[places, None], use.shape)[use]
        assets = np.broadcast_to(np.arange(use.shape[1]), use.shape)[use]
        found = weigh(stacked[use], self.targets[places][use], blocks, assets, use.shape[1])
        combined = np.zeros(self.targets.shape)
        combined[places] = (stacked @ found.weights) * found.slopes
        return found, combined
