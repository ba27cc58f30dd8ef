"""Design matrix of the experts: standardised inputs, their products with states, and the place in the day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sentio_kedro.agent.forecasting.inputs.history import DIRECTIONS, LIMIT, RELATIVE, STATES, ForecastInputs
from sentio_kedro.market.ingestion.timestamps import Floats

MIN_DEVIATION = 1e-6


@dataclass(frozen=True)
class Dictionary:
    """Columns of the design matrix, scaled by the mean and deviation of a fold's train rows.

    The matrix has, in this order, the F inputs, products of directions with tanh of states, a dummy per place in the
    day, and, unscaled, the place in the day and the number of the asset.

    Attributes:
        names: Names of the columns, P of them.
        plain: Number F of inputs.
        places: Places in the day, 0 or more than one.
        state_mean: ``[states]`` on the train rows.
        state_deviation: ``[states]`` likewise.
        mean: ``[P - 2]`` likewise.
        deviation: ``[P - 2]`` likewise; infinite where a column is constant.
    """

    names: tuple[str, ...]
    plain: int
    places: int
    state_mean: Floats
    state_deviation: Floats
    mean: Floats
    deviation: Floats

    @classmethod
    def fit(cls, inputs: ForecastInputs, rows: np.ndarray) -> Dictionary:
        """Scale the columns by the examples of ``rows`` ``[n]``."""
        known = usable(inputs, rows)
        states = inputs.values[rows][known][:, [inputs.names.index(name) for name in STATES]]
        directions = [name for name in (*DIRECTIONS, *RELATIVE) if name in inputs.names]
        places = int(inputs.place.max()) + 1
        places = 0 if places == 1 else places
        names = (
            *inputs.names,
            *(f"{direction} x {state}" for direction in directions for state in STATES),
            *(f"place_{place}" for place in range(places)),
            "place",
            "asset",
        )
        empty = np.zeros(0)
        draft = cls(names, len(inputs.names), places, states.mean(0), _deviation(states), empty, empty)
        columns = draft._columns(inputs, rows)[known]
        deviation = np.where((found := _deviation(columns)) > MIN_DEVIATION, found, np.inf)
        return cls(names, draft.plain, places, draft.state_mean, draft.state_deviation, columns.mean(0), deviation)

    def matrix(self, inputs: ForecastInputs, rows: np.ndarray) -> Floats:
        """Design matrix ``[n, A, P]`` of ``rows`` ``[n]``, NaN where an input is."""
        scaled = (self._columns(inputs, rows) - self.mean) / self.deviation
        assets = inputs.values.shape[1]
        place = np.broadcast_to(inputs.place[rows, None, None], (len(rows), assets, 1))
        asset = np.broadcast_to(np.arange(assets)[:, None], (len(rows), assets, 1))
        return np.concatenate([np.clip(scaled, -LIMIT, LIMIT), place, asset], axis=-1).astype(np.float32)

    def _columns(self, inputs: ForecastInputs, rows: np.ndarray) -> Floats:
        values = inputs.values[rows]  # [n, A, F]
        index = {name: place for place, name in enumerate(inputs.names)}
        states = values[..., [index[name] for name in STATES]]
        bounded = np.tanh((states - self.state_mean) / np.maximum(self.state_deviation, MIN_DEVIATION))
        directions = values[..., [index[name] for name in (*DIRECTIONS, *RELATIVE) if name in index]]
        products = (directions[..., :, None] * bounded[..., None, :]).reshape(*values.shape[:2], -1)
        dummies = inputs.place[rows, None, None] == np.arange(self.places)
        dummies = np.broadcast_to(dummies, (*values.shape[:2], self.places))
        return np.concatenate([values, products, dummies], axis=-1).astype(np.float32)


def usable(inputs: ForecastInputs, rows: np.ndarray) -> np.ndarray:
    """Whether all inputs of ``rows`` ``[n]`` are known ``[n, A]``."""
    return np.asarray(np.isfinite(inputs.values[rows]).all(axis=-1))


def _deviation(values: Floats) -> Floats:
    return np.asarray(values.std(axis=0, dtype=np.float64))
