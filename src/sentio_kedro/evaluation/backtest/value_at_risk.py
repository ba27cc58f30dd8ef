"""The test of the value at risk that limits are set by: how often a session's return of an asset exceeds it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.run_frames import COLUMNS
from sentio_kedro.market.purged_folds import Segment


def value_at_risk_frame(context: BacktestContext, rows: Sequence[Segment]) -> pd.DataFrame:
    """Count the sessions in which an asset fell, or rose, by more than its value at risk at the close before.

    A forecast is the value at risk at the last decision row of a session, tested by the asset's simple total return of
    the whole next session. Sessions that the bars do not complete are left out, and assets that cannot be traded at the
    forecast or have no bar at the end of the session.

    Args:
        context: Market, and limits with ``masks.var_confidence``.
        rows: Decision rows of the forecasts; a row that is given twice counts once.

    Returns:
        Columns ``symbol``, ``side`` (``fall``, ``rise``), ``confidence``, ``sessions`` and ``exceedances``.
    """
    market, symbols = context.market, list(context.bars.symbols)
    if market.session is None or market.returns is None:
        return pd.DataFrame(columns=list(COLUMNS["value_at_risk"]))
    session = market.session.numpy()
    ends = np.flatnonzero(session[1:] != session[:-1])  # last rows of the sessions that are complete
    tested = np.zeros(market.bars, dtype=bool)
    for part in rows:
        tested[slice(*part)] = True
    decided = tested[ends[:-1]]
    first, last = ends[:-1][decided], ends[1:][decided]  # [D] rows of the forecasts, and of the closes that test them
    start, stop = min(part.start for part in rows), max(part.stop for part in rows)
    forecast = context.read_facts(Segment(start, stop), lambda facts: facts.value_at_risk)[first - start]
    total = market.returns.numpy().cumsum(axis=0)
    returns = np.expm1(total[last] - total[first])  # [D, A]
    present = market.tradable if market.present is None else market.present
    counted = market.tradable.numpy()[first] & present.numpy()[last]
    exceeded = {"fall": returns < -forecast, "rise": returns > forecast}
    return pd.DataFrame(
        {
            "symbol": symbols * len(exceeded),
            "side": np.repeat(list(exceeded), len(symbols)),
            "confidence": context.trading.masks.var_confidence,
            "sessions": np.tile(counted.sum(axis=0), len(exceeded)),
            "exceedances": np.concatenate([(beyond & counted).sum(axis=0) for beyond in exceeded.values()]),
        }
    )
