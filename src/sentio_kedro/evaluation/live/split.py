"""Live less backtest, split into causes by putting them in one after the other.

The order is: the backtest on the dataset's bars; its bars as seen live; without those missed; with the trades that were
made, at the prices and costs of the execution step; with the prices, the fees and the cash of the account. Each part is
what the money changes by at its step, so that the parts add up to the difference.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from sentio_kedro.config import TradingParameters
from sentio_kedro.evaluation.live.account import Fills, LiveAccount
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps
from sentio_kedro.trading.accounts import terms_of
from sentio_kedro.trading.records import FILL, Integers, Records, records
from sentio_kedro.trading.step.trades import trade_costs

PARTS = ("bars_revised", "missed_bars", "decisions", "slippage", "fees", "cash", "unexplained")
"""Causes, in the order in which they are put in. ``unexplained`` is what no fill and no cash accounts for."""

NEGLIGIBLE = 1e-9  # of equity: differences below it are rounding


class Replay(NamedTuple):
    """A backtest of R steps from the journal's first account.

    Attributes:
        timestamps: ``[R + 1]`` ends of the bars.
        equity: ``[R + 1]``.
        shares: ``[R + 1, A]``.
        actions: ``[R, A]`` index of the level; -1 without one.
        facts: ``[R, A]`` records ``FACTS``.
        years: ``[R]`` time to the next close.
        value: ``[R, A]`` sum of shares times price of the trades of a step.
        costs: ``[R, A]`` what they and the position cost, less dividends.
    """

    timestamps: Timestamps
    equity: Floats
    shares: Floats
    actions: Integers
    facts: Records
    years: Floats
    value: Floats
    costs: Floats

    def equity_at(self, stamps: Timestamps) -> Floats:
        """Equity at the ends of bars ``[T + 1]``."""
        return self.equity[np.searchsorted(self.timestamps, stamps)]


class Modelled(NamedTuple):
    """What the execution step says of the trades that were made, by row.

    Attributes:
        shares: ``[R + 1, A]`` positions.
        profit: ``[R]`` of prices, with fills at the step's prices.
        commission: ``[R]``.
        spread: ``[R]`` with impact.
        carry: ``[R]`` dividends and interest, less borrow fees, funding and financing.
        slipped: ``[R]`` what fills at other prices than the step's cost.
    """

    shares: Floats
    profit: Floats
    commission: Floats
    spread: Floats
    carry: Floats
    slipped: Floats


def model_account(account: LiveAccount, replay: Replay, trading: TradingParameters) -> Modelled:
    """Value a live account's trades by the market and the costs of the execution step.

    An order is filled at the open of the bar after its decision; a simulated exit at its own price and costs.

    Args:
        account: The live account.
        replay: Backtest on the journaled bars, for their facts.
        trading: Costs of the agents.
    """
    facts, ordered, exits = replay.facts, account.ordered, account.exits
    traded = ordered.shares + exits.shares
    shares = np.empty((len(facts) + 1, facts.shape[1]))
    shares[0] = account.opening
    for row in range(len(facts)):
        shares[row + 1] = shares[row] * facts.split[row] + traded[row]
    held = shares[:-1] * facts.split
    profit = held * (facts.next_close - facts.close / facts.split) + ordered.shares * (facts.next_close - facts.open)
    profit += exits.shares * facts.next_close - exits.value
    commission, spread = _modelled_costs(ordered, facts, trading)
    commission, spread = commission + exits.fee, spread + exits.spread
    return Modelled(
        shares=shares,
        profit=profit.sum(axis=1),
        commission=commission.sum(axis=1),
        spread=spread.sum(axis=1),
        carry=_carry(account, shares, replay, trading),
        slipped=(ordered.value - ordered.shares * facts.open).sum(axis=1),
    )


def _modelled_costs(fills: Fills, facts: Records, trading: TradingParameters) -> tuple[Floats, Floats]:
    """Commission, and spread with impact, ``[R, A]`` each, of orders filled at the open."""
    terms = terms_of(trading, facts.shape[1])
    commission, spread = np.zeros(fills.shares.shape), np.zeros(fills.shares.shape)
    for row, asset in np.argwhere(fills.shares != 0.0):
        fill, fact = records((1,), FILL)[0], facts[row, asset]
        charge, most = terms.charges[asset], terms.rules[0].max_impact
        trade_costs(fills.shares[row, asset], fact.open, fact, 1.0, charge, most, fill)
        commission[row, asset], spread[row, asset] = fill.commission, fill.spread + fill.impact
    return commission, spread


def _carry(account: LiveAccount, shares: Floats, replay: Replay, trading: TradingParameters) -> Floats:
    """Cash ``[R]`` that the step books without a trade, at the positions and the cash of the account."""
    facts, years, terms = replay.facts, replay.years[:, None], terms_of(trading, shares.shape[1])
    rules, held = terms.rules[0], shares[:-1] * facts.split
    cash = account.cash[np.searchsorted(account.rows, np.arange(len(facts)), side="right") - 1]
    borrow = np.maximum(-held, 0.0) * facts.close / facts.split * years * terms.charges.borrow_rate
    by_asset = held * facts.dividend - borrow - facts.funding * shares[1:] * facts.next_close
    financing = rules.financing_rate * np.maximum(-cash, 0.0) - rules.interest_rate * np.maximum(cash, 0.0)
    return np.asarray(by_asset.sum(axis=1) - replay.years * financing)


def split_difference(
    account: LiveAccount, model: Modelled, delivered: Replay, seen: Replay, journaled: Replay
) -> pd.DataFrame:
    """Split the difference between live and backtest from each decision to the next.

    Args:
        account: The live account.
        model: Its trades by the execution step.
        delivered: Backtest on the dataset's bars.
        seen: On the bars as seen live, where they were seen.
        journaled: On the journaled bars alone, without orders where no decision was made.

    Returns:
        One row per decision but the first: ``stamp``, ``live`` and ``backtest`` (change of equity), ``difference``, and
        ``PARTS``; quote currency.
    """
    live = np.diff(account.equity)
    changes = [np.diff(replay.equity_at(account.stamps)) for replay in (delivered, seen, journaled)]
    profit, commission, spread, carry, slipped = map(account.between, model[1:])
    value, fee, paid = (
        account.between((ordered + exits).sum(axis=1))
        for ordered, exits in zip(account.ordered[1:], account.exits[1:], strict=True)
    )
    flow = np.diff(account.cash) + value + fee + paid
    made = profit - commission - spread + carry
    parts = {
        "bars_revised": changes[1] - changes[0],
        "missed_bars": changes[2] - changes[1],
        "decisions": made - changes[2],
        "slippage": spread - paid - slipped,
        "fees": commission - fee,
        "cash": flow - carry,
    }
    explained = made + parts["slippage"] + parts["fees"] + parts["cash"]
    table = {"stamp": account.stamps[1:], "live": live, "backtest": changes[0], "difference": live - changes[0]}
    return pd.DataFrame(table | parts | {"unexplained": live - explained})


def by_day(steps: pd.DataFrame) -> pd.DataFrame:
    """Sum the rows of ``split_difference`` by UTC day of the bar's end: column ``day`` in the place of ``stamp``."""
    day = pd.DatetimeIndex(steps["stamp"]).tz_localize("UTC").floor("D").rename("day")
    return steps.drop(columns="stamp").groupby(day).sum().reset_index()
