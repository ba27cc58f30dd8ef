"""The agents' side of the trader: a decision session that follows bars and executes what was sent, or takes a venue's.

A decision is the backtest's, and a simulated fill is the backtest's fill: both are made by the one compiled step, and
this module only tells what the step did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.market.ingestion.aligned_bars import NEUTRAL, AlignedBars
from sentio_kedro.market.ingestion.bar_checks import OPTIONAL_COLUMNS, VALUE_COLUMNS
from sentio_kedro.market.ingestion.timestamps import moment
from sentio_kedro.serving.accounts import ACCOUNT, Account
from sentio_kedro.serving.following.session import FollowingSession
from sentio_kedro.serving.following.state import SessionState, stamp_of, state_from_json, state_to_json
from sentio_kedro.serving.signal import Signal
from sentio_kedro.trader.brokers.executed import charges_of, fills_of, ruin_of, splits_of
from sentio_kedro.trader.contract import BarRow, Charge, Decision, Settled, Simulated
from sentio_kedro.trader.identity import order_id
from sentio_kedro.trader.orders import Fill
from sentio_kedro.trading.records import Floats
from sentio_kedro.trading.step.settlement import Booked

ANY_GAP = np.timedelta64(36_500, "D")  # a feed knows which bars it missed


class SessionDecider:
    """Agents of one fold that decide as one for one account; a ``Decider``."""

    def __init__(self, agents: Sequence[AgentBundle], trader: str, model: str = "", *, traced: bool = True) -> None:
        """Rebuild the agents' networks.

        Args:
            agents: Agents of one fold.
            trader: Name of the trader, a part of ids of orders.
            model: Name and version, for the journal.
            traced: Trace the networks, which takes about a second and makes decisions faster.
        """
        self._session = FollowingSession(agents, ANY_GAP, traced=traced)
        self._trader, self._begun, self._ordered = trader, "", dict[str, float]()
        self.symbols, self.model, self.source = self._session.symbols, model, agents[0].spec.source

    @property
    def required_bars(self) -> int:
        """Stamps of history that they need: with fewer a restart may change the last bits."""
        return self._session.followed_bars

    def start(
        self,
        history: pd.DataFrame | AlignedBars,
        account: Mapping[str, Any] | None = None,
        sent: frozenset[str] = frozenset(),
    ) -> Decision:
        """Take a history and decide at its newest bar.

        Args:
            history: Long frame, or aligned bars, whose newest stamp is that of the account.
            account: ``Decision.account`` of an earlier decision at that stamp, or an account as of
                ``account_states.json``; null opens one.
            sent: Not needed: what was not sent is withheld by ``advance``, which is told as well.

        Raises:
            ValueError: If the account stands at another bar, was changed, or does not fit the agents.
            BarsError: If a bar is invalid.
        """
        del sent
        state: SessionState | Account | None = None
        if account is not None:
            kept = "digest" in account
            trading = self._session.trading
            state = state_from_json(account, self.symbols, trading) if kept else ACCOUNT.validate_python(account)
        signal = self._session.resume(history, state)
        begun = {} if account is None else account
        self._begun = str(begun.get("begun") or stamp_of(signal.timestamp))
        return self._decision(signal, (), (), {})

    def advance(self, row: BarRow, execution: Simulated | Settled) -> Decision:
        """Execute what was decided before, then decide at the close of the next bar.

        Raises:
            ValueError: If the agents decide at no such bar: too old, outside of sessions, lacking a symbol that they do
                not do without. They stay as they were.
            BarsError: If a value is invalid.
        """
        before, bar = stamp_of(self._session.market.bars.grid.timestamps[-1]), self._aligned(row)
        if isinstance(execution, Settled):
            signal = self._session.follow(bar, self._booked(execution), closing=row.closing)
            return self._decision(signal, (), (), {})
        ids = {symbol: order_id(self._trader, before, symbol) for symbol in self.symbols}
        withheld = np.array([s in self._ordered and ids[s] not in execution.sent for s in self.symbols])
        signal = self._session.follow(bar, withheld, closing=row.closing)
        executed, account = self._session.executed, self._session.accounts.account[0]
        if executed is None:
            raise RuntimeError("A session that fills orders must say what it did.")
        called = {symbol: key for symbol, key in ids.items() if key in execution.sent}
        fills = fills_of(executed, self.symbols, row.stamp, called if executed.called[0] else self._arrived())
        charges = charges_of(executed, self.symbols)
        if executed.before.account.alive[0] and not account.alive:
            charges.append(ruin_of(executed, fills, charges, float(account.cash)))
        return self._decision(signal, fills, charges, splits_of(executed, self.symbols))

    def _arrived(self) -> dict[str, str]:
        """Ids of the orders that reached the market at the newest bar's open; those before the trader began have none.

        What was withheld never arrives.
        """
        stamps, latency = self._session.market.bars.grid.timestamps, self._session.trading.orders.latency_bars
        decided = stamp_of(stamps[-2 - latency])
        if decided < self._begun:
            return {}
        return {symbol: order_id(self._trader, decided, symbol) for symbol in self.symbols}

    def _aligned(self, row: BarRow) -> AlignedBars:
        """Return a row as bars of the columns that the session reads; a symbol without a bar is halted."""
        unknown = sorted(set(row.bars) - set(self.symbols))
        if unknown:
            raise ValueError(f"The agents trade {list(self.symbols)}, the row at {row.stamp} has {unknown} too.")
        given = {name for values in row.bars.values() for name in values}
        names = [*VALUE_COLUMNS, *(name for name in (*OPTIONAL_COLUMNS, *self._session.own) if name in given)]
        columns = {
            name: np.array(
                [
                    [row.bars[symbol].get(name, NEUTRAL.get(name, math.nan)) if symbol in row.bars else math.nan]
                    for symbol in self.symbols
                ]
            ).T
            for name in dict.fromkeys(names)
        }
        return AlignedBars.of(np.array([moment(row.stamp)], "datetime64[ns]"), self.symbols, columns)

    def _booked(self, settled: Settled) -> Booked:
        """Return what a venue says of the agents' symbols as arrays of one account."""
        traded = [settled.traded.get(symbol, (0.0, 0.0)) for symbol in self.symbols]
        shares = [float(settled.shares.get(symbol, 0.0)) for symbol in self.symbols]
        amounts, prices = np.array(traded, np.float64).T
        return Booked(np.array([settled.cash]), np.array([shares]), amounts[None], prices[None])

    def _decision(
        self, signal: Signal, fills: Sequence[Fill], charges: Sequence[Charge], splits: Mapping[str, float]
    ) -> Decision:
        """Describe a decision of the session at its newest bar."""
        account = self._session.accounts.part(0)
        closes = self.by_symbol(self._session.market.close_after([]))
        self._ordered = {symbol: shares for symbol, shares in self.by_symbol(signal.orders).items() if shares}
        return Decision(
            bar=stamp_of(signal.timestamp),
            orders=self._ordered,
            targets=self.by_symbol(signal.target),
            actions=self.by_symbol(signal.actions),
            legal=self.by_symbol(signal.legal),
            closes={symbol: close for symbol, close in closes.items() if math.isfinite(close)},
            equity=float(account.account.equity),
            shares=self.by_symbol(account.holdings.shares),
            cash=float(account.account.cash),
            account=state_to_json(self._session.state(), self.symbols, begun=self._begun),
            fills=fills,
            charges=charges,
            splits=splits,
            model={
                "regime": signal.regime.tolist(),
                "tail_risk": self.by_symbol(signal.tail_risk),
                "binding": {s: names for s, names in zip(self.symbols, signal.binding_layers(), strict=True) if names},
                "untested": signal.untested,
            },
        )

    def by_symbol(self, values: Floats | np.ndarray) -> dict[str, Any]:
        """Return values ``[A, ...]`` as plain data by symbol."""
        return dict(zip(self.symbols, values.tolist(), strict=True))
