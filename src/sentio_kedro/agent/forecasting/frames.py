"""Forecasts and their evidence as frames for files."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sentio_kedro.agent.forecasting.dictionary import usable
from sentio_kedro.agent.forecasting.fold import FoldForecasts, complete_rows
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.agent.forecasting.sleeves import Sleeve
from sentio_kedro.agent.forecasting.targets import Horizon, segment_targets
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats, utc_timestamps

EVIDENCE = (
    *("fold", "sleeve", "segment", "expert", "t", "correlation", "validation_correlation", "weight", "combined_t"),
    *("gate_t", "gate_sharpe", "sleeve_weight"),
)
OUT_OF_FOLD, LATER = "out_of_fold", "later"


def segment_title(part: Horizon) -> str:
    """Title of a segment: its bars after the decision."""
    return f"{part.first}" if part.bars == 1 else f"{part.first}-{part.last}"


def forecast_frame(bars: AlignedBars, market: ForecastMarket, fold: FoldForecasts) -> pd.DataFrame:
    """Forecasts of a fold, one row per bar, asset and sleeve.

    Returns:
        ``fold sleeve part timestamp symbol``, a column ``bars_<segment>`` per segment (mean return per bar, in
        volatilities of a bar), and ``units``, the position of the rule of all sleeves together, from -1 to 1, in units
        of risk; ``part`` is ``out_of_fold`` (train rows; no positions) or ``later``.
    """
    columns = ["fold", "sleeve", "part", "timestamp", "symbol"]
    columns += [*(f"bars_{segment_title(segment)}" for segment in market.segments), "units"]
    frames = [pd.DataFrame(columns=columns)] if not fold.sleeves else []
    for sleeve in fold.sleeves:
        for part, rows in ((OUT_OF_FOLD, fold.train_rows), (LATER, fold.later_rows)):
            assets = len(bars.symbols)
            values = fold.forecasts[sleeve.name][rows].reshape(len(rows) * assets, -1).astype(np.float32)
            frames.append(
                pd.DataFrame(
                    {
                        "fold": fold.fold.number,
                        "sleeve": sleeve.name,
                        "part": part,
                        "timestamp": pd.to_datetime(np.repeat(bars.timestamps[rows], assets), utc=True),
                        "symbol": np.tile(np.array(bars.symbols, dtype=object), len(rows)),
                        **{
                            f"bars_{segment_title(segment)}": values[:, index]
                            for index, segment in enumerate(market.segments)
                        },
                        "units": fold.units[rows].ravel() if part == LATER else np.nan,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def out_of_fold_forecasts(frame: pd.DataFrame, bars: AlignedBars, fold: int) -> tuple[dict[str, Floats], np.ndarray]:
    """Read each sleeve's forecasts ``[n, A, segments]`` of train rows from ``forecast_frame``, and the rows ``[n]``."""
    part = frame[(frame["fold"] == fold) & (frame["part"] == OUT_OF_FOLD)]
    columns = [name for name in frame.columns if name.startswith("bars_")]
    forecasts: dict[str, Floats] = {}
    rows = np.zeros(0, np.int64)
    for sleeve, own in part.groupby("sleeve", sort=False):
        ends = utc_timestamps(own["timestamp"])
        rows = np.unique(np.searchsorted(bars.timestamps, ends))
        values = own[columns].to_numpy(dtype=np.float64)
        forecasts[str(sleeve)] = values.reshape(len(rows), len(bars.symbols), -1)
    return forecasts, rows


def units_from_frame(frame: pd.DataFrame, bars: AlignedBars, fold: int) -> Floats:
    """Read the positions ``[T, A]`` of a fold's rule from ``forecast_frame``; 0 on rows without one."""
    units = np.zeros((len(bars.timestamps), len(bars.symbols)))
    part = frame[(frame["fold"] == fold) & (frame["part"] == LATER)]
    part = part[part["sleeve"] == part["sleeve"].iloc[0]] if len(part) else part
    if part.empty:
        return units
    ends = utc_timestamps(part["timestamp"])
    rows = np.searchsorted(bars.timestamps, ends)
    units[rows, pd.Index(bars.symbols).get_indexer(pd.Index(part["symbol"]))] = part["units"].to_numpy(dtype=np.float64)
    return units


def evidence_frame(market: ForecastMarket, fold: FoldForecasts) -> pd.DataFrame:
    """Evidence of a fold, one row per sleeve, segment and expert.

    Returns:
        ``fold sleeve segment expert``; ``t`` (block-robust, out of fold on train rows), ``correlation`` of forecast and
        target there and ``validation_correlation`` on the validation rows whose targets end there (how it decays),
        ``weight``; of the segment
        ``combined_t``; of the sleeve ``gate_t``, ``gate_sharpe`` and ``sleeve_weight``.
    """
    rows = np.concatenate([np.arange(part.start, part.stop) for part in fold.fold.validation] or [np.zeros(0, int)])
    records = [record for sleeve in fold.sleeves for record in _records(market, fold, sleeve, rows)]
    return pd.DataFrame(records, columns=list(EVIDENCE))


def _records(market: ForecastMarket, fold: FoldForecasts, sleeve: Sleeve, rows: np.ndarray) -> list[dict[str, object]]:
    targets = segment_targets(market.targets, market.segments, sleeve.name, fold.train_rows)
    known = usable(market.inputs, rows) if rows.size else np.zeros((0, targets.shape[1]), bool)
    matrix = sleeve.forecaster.dictionary.matrix(market.inputs, rows)[known] if rows.size else np.zeros((0, 1))
    records: list[dict[str, object]] = []
    for index, (segment, evidence) in enumerate(zip(market.segments, sleeve.forecaster.evidence, strict=True)):
        complete = complete_rows(fold.fold.validation, market.purge - market.segments[-1].last + segment.last)
        inside = np.isin(rows, complete)  # of the others the target ends in the test rows
        target = np.where(inside[:, None], targets[rows][:, :, index], np.nan)[known]
        for place, (name, expert) in enumerate(sleeve.forecaster.experts[index].items()):
            records.append(
                {
                    "fold": fold.fold.number,
                    "sleeve": sleeve.name,
                    "segment": segment_title(segment),
                    "expert": name,
                    "t": evidence.t[place],
                    "correlation": evidence.correlation[place],
                    "validation_correlation": _correlation(expert.predict(matrix), target) if len(matrix) else np.nan,
                    "weight": evidence.weights[place],
                    "combined_t": evidence.combined_t,
                    "gate_t": sleeve.gate_t,
                    "gate_sharpe": sleeve.sharpe,
                    "sleeve_weight": sleeve.weight,
                }
            )
    return records


def _correlation(forecasts: Floats, targets: Floats) -> float:
    """Uncentred correlation over the examples that have a target; NaN without one."""
    known = np.isfinite(targets)
    scale = float(np.sqrt((forecasts[known] ** 2).sum() * (targets[known] ** 2).sum()))
    return float((forecasts[known] * targets[known]).sum()) / scale if scale > 0.0 else float("nan")
