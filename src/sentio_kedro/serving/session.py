"""A decision session: agents follow a feed bar by bar and return target positions.

Features, regimes, networks, masks, orders and the execution step are those of the backtest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace

import numpy as np
import torch

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.ensemble import AgentNetworks, as_one
from sentio_kedro.agent.ppo.losses import lower_tail_mean
from sentio_kedro.agent.ppo.update import value_scale
from sentio_kedro.config import IngestionParameters
from sentio_kedro.evaluation.backtest.walk import final_accounts, simulate_rows
from sentio_kedro.market.indicators import own_columns
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars, acts
from sentio_kedro.market.ingestion.bars import whole_rows
from sentio_kedro.market.ingestion.session_checks import outside_bars, placed_in_sessions
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.serving.accounts import (
    Account,
    GivenAccount,
    account_records,
    account_report,
    in_agent_shape,
    require_history,
    row_of,
)
from sentio_kedro.serving.decision import Executed, decide_all, fill_orders
from sentio_kedro.serving.incoming_bars import GapBounds, RawBars, new_rows, of_symbols, read_history, with_own
from sentio_kedro.serving.live_market import LiveMarket
from sentio_kedro.serving.rolling_bars import appended
from sentio_kedro.serving.signal import Signal
from sentio_kedro.trading.accounts import terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.records import LAYERS, Accounts, Floats, Market, Mask, Records, Scratch
from sentio_kedro.trading.simulate import make_scratch, one_thread
from sentio_kedro.trading.step.limits import MIN_EQUITY
from sentio_kedro.trading.step.policies import HEADS, NEVER, Heads, Policies, make_policies, with_heads
from sentio_kedro.trading.step.settlement import Booked, settle

KNOWN = 64  # newest bars that tell the length of a bar
TAIL = 0.05  # share of outcomes in the tail of `tail_risk`


class DecisionSession:
    """The agents of one fold, or one agent, on a feed.

    ``start`` takes a history, then ``decide`` takes each new bar. The agents decide as one, see ``ensemble.as_one``,
    for one account: that of the backtest's account ``ensemble``.
    """

    def __init__(
        self,
        agents: AgentBundle | Sequence[AgentBundle],
        longest_gap: np.timedelta64 | None = None,
        *,
        traced: bool = True,
    ) -> None:
        """Rebuild the agents' networks.

        Args:
            agents: One agent, or agents of one fold (same features, network, limits and costs).
            longest_gap: Longest time from one bar to the next before bars count as lost; None takes the longest of the
                history.
            traced: Trace the networks, which takes about a second and makes decisions faster.

        Raises:
            ValueError: If there is no agent, or they are not of one fold.
        """
        several = [agents] if isinstance(agents, AgentBundle) else list(agents)
        self.agent, self.agents = as_one(several), len(several)
        self.longest_gap = longest_gap
        self._allowed_gap: np.timedelta64 = np.timedelta64(0, "ns")
        self._shortest_gap: np.timedelta64 = np.timedelta64(0, "ns")
        self.trading = self.agent.spec.trading
        self._drops_bars = self.agent.spec.missing == "drop_bar"
        self.symbols = tuple(self.agent.spec.symbols)
        self.own = own_columns(self.agent.spec.features)
        self.required_bars = self.agent.spec.required_bars
        self._networks = AgentNetworks([self.agent], torch.float64, traced=traced)
        self._terms = terms_of(self.trading, len(self.symbols))
        self._market: LiveMarket | None = None
        self._accounts: Accounts | None = None  # [..., 1] at the close of the newest bar
        self._pending: Floats | None = None  # [accounts, A] positions that they asked for at that close
        self._closed: np.datetime64 | None = None  # bar from which on all positions are closed
        self.executed: Executed | None = None  # how the newest bar was executed, if the session did it

    @property
    def market(self) -> LiveMarket:
        """Bars, features and regimes up to the newest bar.

        Raises:
            RuntimeError: If the session has not started.
        """
        if self._market is None:
            raise RuntimeError("The session has no bars yet; call `start` with a history first.")
        return self._market

    @property
    def accounts(self) -> Accounts:
        """The accounts that the session keeps ``[..., 1]``, at the close of the newest bar.

        Raises:
            RuntimeError: If the session has not started.
        """
        if self._accounts is None:
            raise RuntimeError("The session keeps no account yet; call `start` with a history first.")
        return self._accounts

    def account(self) -> Account:
        """Return the account, if the session keeps a single one."""
        return account_report(self.accounts.part(0), self.symbols, self.market.bars.grid.timestamps[-1])

    def begun_at(self, bar: np.datetime64) -> DecisionSession:
        """Return a session of the same agents without bars yet, whose rule is followed from flat from ``bar`` on."""
        later = copy(self)
        later._market = later._accounts = later._pending = None
        if self.agent.rule is not None:
            later.agent = replace(self.agent, rule=self.agent.rule.begun_at(bar))
        return later

    @torch.inference_mode()
    def start(self, history: RawBars, account: GivenAccount | None = None) -> Signal:
        """Take a history, and decide at its newest bar.

        From an account of an earlier bar the agents first trade the bars since, as in the backtest.

        Args:
            history: At least ``required_bars`` bars: aligned, or a long frame whose timestamps are ends of bars in UTC.
                An asset that was halted needs as many bars of its own; a symbol without any bar is halted. Own columns
                that the agents read hold what was known at each bar's end, whatever ``known_at`` was in training.
            account: Accounts as in ``decide``, all of one bar; None opens one with ``trading.initial_cash``.

        Returns:
            Target positions from the next open on.

        Raises:
            ValueError: If the bars are too few or of other symbols, or the account does not fit the agents. The session
                stays as it was.
            BarsError: If a bar is invalid.
        """
        bars = self._read(history)
        opening = Account(cash=self.trading.initial_cash) if account is None else account
        first, last = row_of(opening, bars.timestamps), len(bars.timestamps) - 1
        require_history(self.required_bars, first, len(bars.timestamps))
        with one_thread(), self._restored_on_error():
            self._begin(bars, len(bars.timestamps))
            self._accounts = self._records(opening, bars.rows(slice(0, first + 1)).traded_close()[-1])
            if first < last:
                self._replay(Segment(first, last))
            return self._decide(None)

    def _read(self, history: RawBars) -> AlignedBars:
        """Return a history on the grid that agents decide at."""
        bars = history if isinstance(history, AlignedBars) else read_history(history, self.own)
        bars = self._in_sessions(with_own(of_symbols(bars, self.symbols), self.own))
        return whole_rows(bars) if self._drops_bars else bars

    def _begin(self, bars: AlignedBars, at_once: int) -> None:
        """Take the bars of a history, the first ``at_once`` of them at once and the others one by one."""
        gaps, count = np.diff(bars.timestamps), len(bars.timestamps)
        self._allowed_gap = gaps.max() if self.longest_gap is None else self.longest_gap
        self._shortest_gap, self._closed, self._pending = gaps.min(), None, None
        self._market = LiveMarket([self.agent], bars.rows(slice(0, at_once)) if at_once < count else bars)
        for row in range(at_once, count):
            self._market = self._market.with_bar(bars.rows(slice(row, row + 1)))

    @torch.inference_mode()
    def decide(
        self,
        new_bars: RawBars | None = None,
        account: GivenAccount | None = None,
        *,
        longest_gap: np.timedelta64 | None = None,
    ) -> Signal:
        """Take new bars, and decide at the newest one.

        Args:
            new_bars: One bar per symbol, or several timestamps in order; None decides again at the newest bar. A symbol
                without a bar is halted; agents trained with ``ingestion.missing: drop_bar`` drop the timestamp. An own
                column without a value keeps its last one.
            account: The account at the close of the newest bar: one ``Account``, a sequence of them (a batch), or the
                records of a batch ``[..., 1]``. None takes the session's own accounts: the orders of its last decision
                fill at the next open by the execution step of the backtest, and the agents decide at every bar.
            longest_gap: Longest time from one bar to the next in this call, for a feed that was out; None is the
                session's.

        Returns:
            Target positions from the next open on.

        Raises:
            ValueError: If bars are of other symbols, not later than the newest bar, leave a gap or end outside the
                exchange's sessions, a dividend is not below the price, or the account does not fit the agents. The
                session stays as it was.
            BarsError: If a bar is invalid.
        """
        allowed = self._allowed_gap if longest_gap is None else longest_gap
        rows = [] if new_bars is None else self._new_rows(new_bars, GapBounds(self._shortest_gap, allowed))
        if account is not None:
            row_of(account, (rows[-1] if rows else self.market.bars.grid).timestamps[-1:])
        given = None if account is None else self._records(account, self.market.close_after(rows))
        signal: Signal | None = None
        with one_thread(), self._restored_on_error():
            for row in rows:
                self._market = self.market.with_bar(row)
                if given is None:
                    signal = self._decide(self._pending)
            if signal is not None:
                return signal
            self._accounts = self._accounts if given is None else given
            return self._decide(None)

    def _in_sessions(self, bars: AlignedBars) -> AlignedBars:
        """Return the bars that end in sessions, or refuse others, as the agents' ``ingestion.outside_session`` says."""
        placed = IngestionParameters(outside_session=self.agent.spec.outside_session)
        return placed_in_sessions(bars, placed, self.trading)

    def _new_rows(self, new_bars: RawBars, bounds: GapBounds) -> list[AlignedBars]:
        """Return the new rows of the grid that agents decide at, checked."""
        rows = new_rows(new_bars, self.market.bars.grid, bounds, drop_bar=self._drops_bars, own=self.own)
        policy = self.agent.spec.outside_session
        if policy == "keep" or not rows:
            return rows
        known = self.market.bars.grid.rows(slice(-KNOWN, None))
        for row in rows:
            known = appended(known, row)
        outside = outside_bars(known, self.trading, self.market.schedule, refused=policy == "refuse")[-len(rows) :]
        for row, out in zip(rows, outside, strict=True):
            if (acts(row)[0] & out).any():
                lost = np.array(self.symbols)[acts(row)[0] & out].tolist()
                raise ValueError(
                    f"The bar at {row.timestamps[0]}Z is outside of the sessions of {lost} and is dropped, but has "
                    "their dividend or split; give it with the symbol's next bar in a session."
                )
        kept = [(row, out) for row, out in zip(rows, outside, strict=True) if (row.present[0] & ~out).any()]
        return [row.without(out[None]) for row, out in kept]

    @contextmanager
    def _restored_on_error(self) -> Iterator[None]:
        """Restore the session if anything fails; its attributes are replaced, never changed in place."""
        before = vars(self).copy()
        try:
            yield
        except BaseException:
            vars(self).update(before)
            raise

    def _records(self, account: GivenAccount, close: Floats) -> Accounts:
        if not isinstance(account, Accounts):
            accounts = [account] if isinstance(account, Account) else list(account)
            records = account_records(accounts, self.symbols, np.nan_to_num(close, nan=1.0), self.trading)
            account = records if isinstance(account, Account) else records.part(np.s_[:, None])
        records = in_agent_shape(account, len(self.symbols), self.trading)
        held = (records.holdings.shares != 0.0).reshape(-1, len(self.symbols)).any(axis=0) & np.isnan(close)
        if held.any():
            names = [symbol for symbol, unpriced in zip(self.symbols, held.tolist(), strict=True) if unpriced]
            raise ValueError(
                f"`account.shares` holds {names}, of which there was no bar and so no price; start with a history that "
                "has bars of them, or leave them out and count what they are worth as cash."
            )
        return records

    def _policies(self, heads: Heads, accounts: Accounts, first_row: int = 0) -> Policies:
        """Policies of the agents for their accounts; the first row of ``heads`` is ``first_row`` of the facts."""
        assets, levels, size = len(self.symbols), len(self._terms.levels), accounts.size
        closes = np.full(size, NEVER if self._closed is None else 0)
        policies = make_policies(np.full(size, HEADS), assets, levels, closes=closes)
        return with_heads(policies, heads, first_row)

    def _replay(self, rows: Segment) -> None:
        """Let the agents trade rows of the history, by the walk of the backtest."""
        (market, posteriors, _), accounts = self.market.rows(), _flat(self.accounts)

        def of_rows(part: Segment) -> Policies:
            return self._policies(self._networks.heads(market.features, posteriors, *part), accounts)

        chunks = simulate_rows(market, rows, of_rows, accounts, self.trading, posteriors)
        self._accounts = _shaped(final_accounts(chunks), self.accounts.account.shape)

    def _decide(self, pending: Floats | None, execution: Mask | Booked | None = None) -> Signal:
        """Fill pending orders at the newest bar's open, or take what a venue booked, then decide at its close."""
        (market, posteriors, last), accounts = self.market.decision_rows(), _flat(self.accounts)
        first = last if pending is None else last - 1
        facts = market_facts(market, first, last + 1, self.trading, posteriors)
        heads = self._networks.heads(market.features, posteriors, last, last + 1)
        policies = self._policies(heads, accounts, last - first)
        scratch = make_scratch(accounts, len(self._terms.levels), policies.projected.shape[-1])
        self.executed = None
        if isinstance(execution, Booked):
            settle(0, facts, accounts, execution, scratch)
        elif pending is not None:
            withheld = np.zeros(pending.shape, np.bool_) if execution is None else execution[None]
            self.executed = self._fill(pending, withheld, facts, accounts, scratch)
        if pending is not None:
            self._accounts = _shaped(accounts, self.accounts.account.shape)
        requested = np.empty(accounts.holdings.shape)
        layers = np.empty((*requested.shape, len(LAYERS)))
        decide_all(last - first, policies.source, facts, accounts, self._terms, policies, scratch, requested, layers)
        self._pending = requested
        return self._signal(facts.facts[-1], scratch, layers, heads)

    def _fill(self, pending: Floats, withheld: Mask, facts: Market, accounts: Accounts, scratch: Scratch) -> Executed:
        """Fill pending orders of rows ``[N]`` at the newest bar's open, in place."""
        before, models = accounts.copy(), np.zeros(accounts.size, np.int64)
        fill_orders(pending, withheld, 0, models, facts, accounts, self._terms, scratch)
        orders, called = scratch.limits.order.copy(), scratch.bounds.called.copy()
        return Executed(facts.facts[0], self._terms, before, scratch.fills, scratch.total, orders, called)

    def _signal(self, facts: Records, scratch: Scratch, layers: Floats, heads: Heads) -> Signal:
        """Describe a decision at ``facts`` ``[A]``."""
        shape = (*self.accounts.account.shape[:-1], len(self.symbols))  # [..., A]
        committed, orders = scratch.limits.committed.reshape(shape), scratch.limits.order.reshape(shape)
        equity = self.accounts.account.equity  # [..., 1]
        target = np.where(equity > 0.0, (committed + orders) * facts.close / np.maximum(equity, MIN_EQUITY), 0.0)
        return Signal(
            timestamp=self.market.bars.grid.timestamps[-1],
            symbols=self.symbols,
            agents=self.agents,
            target=target,
            shares=committed + orders,
            orders=orders + 0.0,  # without a sign where it is 0
            regime=self.market.posteriors[0][-1].numpy(),
            tail_risk=self._tail_risk(heads, scratch.features.reshape(*shape, -1), facts.reward_unit),
            actions=scratch.actions.reshape(shape),
            legal=scratch.legal.reshape(*shape, -1),
            binding=(layers > 0.0).reshape(*shape, -1),
            close=facts.close.copy(),
            largest=facts.full.copy(),
            untested=self.agent.spec.untested,
        )

    def _tail_risk(self, heads: Heads, features: Floats, unit: Floats) -> Floats:
        """Mean over members of the tail ``[..., A]``; ``features`` ``[..., A, G]``, ``unit`` of rewards ``[A]``."""
        if heads.fixed_level[0] == 0.0:
            return np.zeros(features.shape[:-1])
        quantiles = self._networks.quantiles(heads, features[..., None, :, :])[..., 0, :, :, :]  # [..., M, A, Q]
        tail = lower_tail_mean(quantiles, TAIL).mean(-2).numpy()
        return np.asarray(np.maximum(-tail * unit * value_scale(self.agent.spec.gamma), 0.0))


def _flat(accounts: Accounts) -> Accounts:
    """Copy accounts ``[..., 1]`` to rows, which a step may change."""
    size, leading = accounts.account.size, accounts.account.ndim
    return Accounts._make(part.reshape(size, *part.shape[leading:]).copy() for part in accounts)


def _shaped(accounts: Accounts, leading: tuple[int, ...]) -> Accounts:
    return Accounts._make(part.reshape(*leading, *part.shape[1:]) for part in accounts)
