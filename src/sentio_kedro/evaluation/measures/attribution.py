"""Attribution of an account's result to the lines of its ledger."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from sentio_kedro.evaluation.run_frames import LINES

Tables = Mapping[str, pd.DataFrame]
COSTS = tuple(line for line, sign in LINES.items() if sign < 0.0)
GROSS = ("price_pnl", "dividends")
TRADING_COSTS = ("commission", "spread", "impact")


def ledger_net(rows: pd.DataFrame) -> pd.Series:
    """Add up the lines of the ledger with their signs.

    Args:
        rows: Rows of ``accounts``; every line of ``LINES`` as a fraction of the equity at the decision.

    Returns:
        The return of each row by the ledger identity.
    """
    net = rows["price_pnl"] * 0.0
    for line, sign in LINES.items():
        net = net + sign * rows[line]
    return net


def ledger_sums(lines: Mapping[str, pd.Series] | pd.DataFrame) -> dict[str, float]:
    """Sum each line of an account's ledger over its bars.

    Args:
        lines: Every line of ``LINES`` of one account, a value per bar.

    Returns:
        Sums of fractions of the equity at each decision: every line, ``gross`` (price profit and dividends), ``costs``
        (commission to funding, less interest and funding earned) and ``net`` (gross - costs + shortfall, the sum of the
        returns).
    """
    sums = {line: float(lines[line].sum()) for line in LINES}
    gross, costs = sum(sums[line] for line in GROSS), sum(sums[line] for line in COSTS)
    return {**sums, "gross": gross, "costs": costs, "net": gross - costs + sums["shortfall"]}


def cost_share(sums: Mapping[str, float]) -> float | None:
    """All costs / absolute gross profit; above 1 costs exceed what prices gave or took. None without gross profit."""
    gross = abs(sums["gross"])
    return sums["costs"] / gross if gross > 0.0 else None
