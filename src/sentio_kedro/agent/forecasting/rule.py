"""The rule of a fold: what its train rows taught, to be saved and applied to raw bars as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from safetensors.numpy import load_file, save_file

from sentio_kedro.agent.control import Control
from sentio_kedro.agent.forecasting.dictionary import Dictionary
from sentio_kedro.agent.forecasting.evidence import Evidence
from sentio_kedro.agent.forecasting.experts import EXPERTS
from sentio_kedro.agent.forecasting.forecaster import SleeveForecaster
from sentio_kedro.agent.forecasting.inputs.history import ForecastInputs, forecast_inputs
from sentio_kedro.agent.forecasting.market import unit_costs
from sentio_kedro.agent.forecasting.regressions import Trees
from sentio_kedro.agent.forecasting.sleeves import Sleeve
from sentio_kedro.agent.forecasting.targets import Horizon
from sentio_kedro.agent.saving import packed, read_description, refuse_non_finite, unpacked, write_description
from sentio_kedro.config import TradingParameters
from sentio_kedro.damage import reading
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps, moment

FORMAT = 3  # of the fields of ``KINDS`` and of what their numbers mean
ARRAYS, DESCRIPTION = "rule.safetensors", "rule.json"
REMEDY = "run `kedro run --pipeline forecasting` again"
KINDS = (*EXPERTS, Trees, Control, Dictionary, Evidence, Horizon, Sleeve, SleeveForecaster)
MOST_VALUE = 5.0  # costs at which a marginal value is clipped
MIN_COST = 1e-12


class RulePath(NamedTuple):
    """Forecasts and positions of a rule over rows.

    Attributes:
        forecasts: ``[T, A, segments]`` per bar, volatilities: weighted sum of the open sleeves; 0 on rows before the
            rule begins or without inputs.
        values: ``[T, A]`` marginal value of risk of a flat position, in units of the cost of trading it, likewise;
            clipped at ``MOST_VALUE``.
        units: ``[T, A]`` positions in units of risk, from -1 to 1; 0 on rows before the rule begins. An asset keeps its
            position on rows without inputs.
        costs: ``[T, A]`` cost of trading one unit of risk, volatilities; 0 on rows without inputs.
        volatility: ``[T, A]`` trailing deviation of the log return of a bar; 0 on rows without inputs.
    """

    forecasts: Floats
    values: Floats
    units: Floats
    costs: Floats
    volatility: Floats


@dataclass(frozen=True)
class ForecastRule:
    """Sleeves of a fold and the bar from which they are followed.

    Attributes:
        sleeves: With experts, evidence, control and weight; without one the rule stays flat.
        segments: Segments that they forecast.
        minutes: ``[places]`` minute of the UTC day of each place in the day.
        begin: End of the bar from which the rule is followed from flat, ISO 8601 in UTC: the first after train rows.
    """

    sleeves: Sequence[Sleeve]
    segments: Sequence[Horizon]
    minutes: np.ndarray
    begin: str

    @property
    def opened(self) -> list[Sleeve]:
        """Sleeves that trade."""
        return [sleeve for sleeve in self.sleeves if sleeve.weight > 0.0]

    def flat(self, assets: int) -> Floats:
        """Positions ``[sleeves, A]`` of the open sleeves before the rule begins."""
        return np.zeros((len(self.opened), assets))

    def begun_at(self, bar: np.datetime64) -> ForecastRule:
        """Return the rule followed from ``bar`` on."""
        return replace(self, begin=f"{np.datetime_as_string(bar, unit='s')}Z")

    def first_row(self, timestamps: Timestamps) -> int:
        """Row of the first of the bars ``[T]`` from which the rule is followed."""
        return int(np.searchsorted(timestamps, moment(self.begin, "begin")))

    def follow(
        self, bars: AlignedBars, posterior: Floats, trading: TradingParameters, begins: Sequence[int] | None = None
    ) -> RulePath:
        """Forecast bars T x A and follow the rule over them from flat, without fitting anything.

        Bars that start after ``begin`` are followed from their first row with inputs.

        Args:
            bars: Bars as traded, of the assets that the rule was fitted on.
            posterior: ``[T, K]`` filtered regimes.
            trading: Costs.
            begins: Rows from which the rule is followed, each time from flat; null is ``begin``.
        """
        return self.followed(bars, posterior, trading, begins)[0]

    def followed(
        self, bars: AlignedBars, posterior: Floats, trading: TradingParameters, begins: Sequence[int] | None = None
    ) -> tuple[RulePath, Floats]:
        """Return the path of ``follow``, and the positions ``[sleeves, A]`` of the open sleeves after it."""
        inputs = forecast_inputs(bars, self.minutes).with_regimes(posterior)
        costs = unit_costs(bars, inputs, trading)
        starts = [self.first_row(bars.timestamps)] if begins is None else begins
        edges = sorted({*starts, len(bars.timestamps)})
        parts, held = [self.unfollowed(costs[: edges[0]], inputs.volatility[: edges[0]])], self.flat(costs.shape[1])
        for first, stop in pairwise(edges):
            rows = slice(first, stop)
            forecasts = self.forecasts(inputs, np.arange(first, stop))
            part, held = self.positions(forecasts, costs[rows], inputs.volatility[rows], self.flat(costs.shape[1]))
            parts.append(part)
        return RulePath._make(np.concatenate(columns) for columns in zip(*parts, strict=True)), held

    def forecasts(self, inputs: ForecastInputs, rows: np.ndarray) -> dict[str, Floats]:
        """Forecast per bar ``[n, A, segments]`` by each open sleeve, volatilities; 0 where inputs are unknown."""
        return {sleeve.name: sleeve.forecaster.predict(inputs, rows) for sleeve in self.opened}

    def positions(
        self, forecasts: Mapping[str, Floats], costs: Floats, volatility: Floats, held: Floats
    ) -> tuple[RulePath, Floats]:
        """Follow the rule over rows ``[n, A]``.

        Args:
            forecasts: ``[n, A, segments]`` of each open sleeve.
            costs: ``[n, A]`` cost of trading one unit of risk, volatilities; infinite where an input is unknown.
            volatility: ``[n, A]``, NaN where unknown.
            held: ``[sleeves, A]`` positions of the open sleeves before the first row.

        Returns:
            The path, and the sleeves' positions after the last row.
        """
        path, after = self.unfollowed(costs, volatility), held.copy()
        for place, sleeve in enumerate(self.opened):
            own = forecasts[sleeve.name]
            units = sleeve.units(own, costs, held[place])
            value = sleeve.control.marginal_values(own, costs)[0] / np.maximum(costs, MIN_COST)
            path = path._replace(
                forecasts=path.forecasts + sleeve.weight * own,
                values=path.values + sleeve.weight * value,
                units=path.units + sleeve.weight * units,
            )
            after[place] = units[-1]
        values = np.clip(path.values, -MOST_VALUE, MOST_VALUE)
        return path._replace(values=values, units=np.clip(path.units, -1.0, 1.0)), after

    def unfollowed(self, costs: Floats, volatility: Floats) -> RulePath:
        """Path over rows ``[n, A]`` before the rule begins."""
        nothing, known = np.zeros(costs.shape), np.isfinite(costs)
        forecasts = np.zeros((*costs.shape, len(self.segments)))
        return RulePath(forecasts, nothing, nothing, np.where(known, costs, 0.0), np.where(known, volatility, 0.0))

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return arrays by name, and everything else as plain data."""
        arrays: dict[str, np.ndarray] = {}
        return arrays, {"format": FORMAT, "rule": packed(self, arrays, "rule")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> ForecastRule:
        """Read what ``to_arrays`` wrote.

        Raises:
            KeyError, TypeError, ValueError: If it is no rule.
        """
        rule = unpacked(description["rule"], arrays, (*KINDS, cls))
        parts = (rule.sleeves, Sleeve), (rule.segments, Horizon), ([rule.begin], str), ([rule.minutes], np.ndarray)
        for values, kind in parts:
            if not all(isinstance(value, kind) for value in values):
                raise TypeError(f"a rule must have a {kind.__name__} there, had {values!r}")
        return cast(ForecastRule, rule)

    def save(self, folder: Path) -> None:
        """Write the rule into ``folder``.

        Raises:
            DamagedFileError: If an array is not finite.
        """
        folder.mkdir(parents=True, exist_ok=True)
        arrays, description = self.to_arrays()
        refuse_non_finite("The forecast rule", _non_finite(arrays), "look for wild values in the bars")
        save_file(arrays, folder / ARRAYS)
        write_description(folder / DESCRIPTION, description, [ARRAYS])

    @classmethod
    def load(cls, folder: Path) -> ForecastRule:
        """Read a rule.

        Raises:
            DamagedFileError: If it was written in another format, or a file is not the one that was saved.
        """
        description = read_description(folder / DESCRIPTION, FORMAT, [ARRAYS], REMEDY)
        with reading(folder / ARRAYS, REMEDY):
            arrays = load_file(folder / ARRAYS)
            refuse_non_finite(f"`{folder / ARRAYS}`", _non_finite(arrays), REMEDY)
        with reading(folder / DESCRIPTION, REMEDY):
            return cls.from_arrays(arrays, description)


def _non_finite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Names of arrays that are not finite; constant columns are scaled by an infinite deviation, to nothing."""
    return [
        name
        for name, array in arrays.items()
        if not (np.isfinite(array) | (name.endswith(".deviation") & (array == np.inf))).all()
    ]
