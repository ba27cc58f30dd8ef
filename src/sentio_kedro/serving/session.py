"""A decision session: agents follow a feed bar by bar and return target positions.

Features, regimes, networks, masks, orders and the execution step are those of the backtest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle, same_symbols
from sentio_kedro.agent.ensemble import AgentNetworks, AgentsPolicy
from sentio_kedro.agent.ppo.losses import lower_tail_mean
from sentio_kedro.agent.ppo.update import value_scale
from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.aligned_bars import AlignedBars, hold
from sentio_kedro.market.bars import align_bars, whole_rows
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.serving.accounts import Account, account_report, account_states, for_agents
from sentio_kedro.serving.incoming_bars import RawBars, new_rows, of_symbols
from sentio_kedro.serving.live_market import LiveMarket
from sentio_kedro.serving.signal import Signal
from sentio_kedro.trading.accounts import AccountState, Decision
from sentio_kedro.trading.action_masks import legal_actions, objections, require_choice
from sentio_kedro.trading.execution import execute
from sentio_kedro.trading.observations import reward_unit
from sentio_kedro.trading.orders import order_shares, whole_lots
from sentio_kedro.trading.position_limits import position_limits
from sentio_kedro.trading.precompute import make_step_data
from sentio_kedro.trading.simulate import one_thread, simulate
from sentio_kedro.trading.step_data import StepData

TAIL = 0.05  # share of outcomes in the tail of `tail_risk`
GivenAccount = Account | Sequence[Account] | AccountState


class DecisionSession:
    """The agents of one fold, or one agent, on a feed.

    ``start`` takes a history, then ``decide`` takes each new bar. Each agent decides for an account of its own; a
    signal is the mean over the agents, as if each managed an equal part of the capital.
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
        self.agents = [agents] if isinstance(agents, AgentBundle) else list(agents)
        _require_alike(self.agents)
        self.longest_gap = longest_gap
        self._allowed_gap: np.timedelta64 = np.timedelta64(0, "ns")
        self.trading = self.agents[0].spec.trading
        self._drops_bars = self.agents[0].spec.missing == "drop_bar"
        self.symbols = tuple(self.agents[0].spec.symbols)
        self.required_bars = max(agent.spec.required_bars for agent in self.agents)
        self._networks = AgentNetworks(self.agents, torch.float64, traced=traced)
        self._abstaining = torch.tensor([agent.spec.abstains for agent in self.agents])
        self._market: LiveMarket | None = None
        self._accounts: AccountState | None = None  # [..., N] at the close of the newest bar
        self._pending: Decision | None = None  # decided for these accounts at that close

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
    def accounts(self) -> AccountState:
        """The accounts that the session keeps ``[..., N]``, one per agent, at the close of the newest bar.

        Raises:
            RuntimeError: If the session has not started.
        """
        if self._accounts is None:
            raise RuntimeError("The session keeps no account yet; call `start` with a history first.")
        return self._accounts

    def account(self, agent: int = 0) -> Account:
        """Return the account of one agent, if the session has one per agent."""
        return account_report(AccountState._make(x[agent] for x in self.accounts), self.symbols)

    @torch.inference_mode()
    def start(self, history: RawBars, account: GivenAccount | None = None, replay_bars: int = 0) -> Signal:
        """Take a history, and decide at its newest bar.

        Args:
            history: At least ``required_bars`` bars: aligned, or a long frame whose timestamps are ends of bars in UTC.
                An asset that was halted needs as many bars of its own; a symbol without any bar is halted.
            account: Accounts as in ``decide``; None opens one with ``trading.initial_cash`` per agent.
            replay_bars: Bars that each agent trades before the decision, so that it holds a position as in a backtest;
                the account is then that of so many bars before the newest.

        Returns:
            Target positions from the next open on.

        Raises:
            ValueError: If the bars are too few or of other symbols, or the account does not fit the agents. The session
                stays as it was.
            BarsError: If a bar is invalid.
        """
        bars = history if isinstance(history, AlignedBars) else align_bars(history, IngestionParameters())
        bars = of_symbols(bars, self.symbols)
        bars = whole_rows(bars) if self._drops_bars else bars
        count, needed = len(bars.timestamps), self.required_bars + replay_bars
        if count < needed:
            raise ValueError(
                f"The agents need {needed} bars to decide, were given {count}; give {needed - count} more."
            )
        with one_thread(), self._restored_on_error():
            self._allowed_gap = np.diff(bars.timestamps).max() if self.longest_gap is None else self.longest_gap
            self._market, self._pending = LiveMarket(self.agents, bars), None
            market, first = self._market.tensors(), count - 1 - replay_bars
            opening = Account(cash=self.trading.initial_cash) if account is None else account
            self._accounts = self._states(opening, torch.from_numpy(hold(bars.close[: first + 1])[-1]))
            if replay_bars:
                self._replay(market, first)
            return self._decide(market, None)

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
                without a bar is halted; agents trained with ``ingestion.missing: drop_bar`` drop the timestamp.
            account: The account at the close of the newest bar: one ``Account`` for all agents, a sequence of them (a
                batch), or the tensors of a batch ``[..., 1]`` or ``[..., N]`` for N agents. None takes the session's
                own accounts: the orders of its last decision fill at the next open by the execution step of the
                backtest, and the agents decide at every bar.
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
        rows = [] if new_bars is None else new_rows(new_bars, self.market.bars.grid, allowed, drop_bar=self._drops_bars)
        states = None if account is None else self._states(account, self.market.close_after(rows))
        signal: Signal | None = None
        with one_thread(), self._restored_on_error():
            for row in rows:
                self._market = self.market.with_bar(row)
                if states is None:
                    signal = self._decide(self.market.tensors(), self._pending)
            if signal is not None:
                return signal
            self._accounts = self._accounts if states is None else states
            return self._decide(self.market.tensors(), None)

    @contextmanager
    def _restored_on_error(self) -> Iterator[None]:
        """Restore the session if anything fails; its attributes are replaced, never changed in place."""
        before = self._market, self._accounts, self._pending, self._allowed_gap
        try:
            yield
        except BaseException:
            self._market, self._accounts, self._pending, self._allowed_gap = before
            raise

    def _states(self, account: GivenAccount, close: Tensor) -> AccountState:
        if not isinstance(account, AccountState):
            accounts = [account] if isinstance(account, Account) else list(account)
            states = account_states(accounts, self.symbols, close.nan_to_num(nan=1.0), self.trading)
            account = states if isinstance(account, Account) else AccountState._make(x[:, None] for x in states)
        states = for_agents(account, len(self.agents), len(self.symbols), self.trading.orders.latency_bars)
        held = (states.shares != 0.0).flatten(0, -2).any(0) & close.isnan()
        if held.any():
            names = [symbol for symbol, unpriced in zip(self.symbols, held.tolist(), strict=True) if unpriced]
            raise ValueError(
                f"`account.shares` holds {names}, of which there was no bar and so no price; start with a history that "
                "has bars of them, or leave them out and count what they are worth as cash."
            )
        return states

    def _replay(self, market: MarketTensors, first: int) -> None:
        """Simulate the agents from row ``first`` to the newest, as in the backtest."""
        last, posteriors = self.market.newest, self.market.posteriors
        policy = self._networks.policy(market.features, posteriors, first, last)
        regimes = torch.stack([posterior[first:last] for posterior in posteriors], dim=1)
        step_data = make_step_data(market, torch.arange(first, last)[:, None], self.trading, regimes)
        self._accounts, _ = simulate(step_data, policy, self.accounts, self.trading)

    def _decide(self, market: MarketTensors, pending: Decision | None) -> Signal:
        """Fill pending orders at the newest bar's open, then decide at its close."""
        last, posteriors = self.market.newest, self.market.posteriors
        first = last if pending is None else last - 1
        regimes = torch.stack([posterior[first : last + 1] for posterior in posteriors], dim=1)  # [S, N, K]
        step_data = make_step_data(market, torch.arange(first, last + 1)[:, None], self.trading, regimes)
        account = self.accounts
        if pending is not None:
            row = step_data.step(0)
            account, _ = execute(
                account, position_limits(account, row, self.trading), pending, row, self.trading, telemetry=False
            )
        policy = self._networks.policy(market.features, posteriors, last, last + 1)
        row = step_data.step(last - first)
        unit = reward_unit(row, market.volatility[last], self.trading)
        self._accounts = account
        signal, self._pending = self._signal(account, row, policy, unit)
        return signal

    def _signal(
        self, account: AccountState, row: StepData, policy: AgentsPolicy, unit: Tensor
    ) -> tuple[Signal, Decision]:
        """Decide at one row, and describe the decision; ``unit`` ``[A]`` is the unit of rewards."""
        trading = self.trading
        limits = position_limits(account, row, trading)
        legal = legal_actions(account, limits, row, trading)
        require_choice(legal)
        inputs = tuple(x[0] for x in policy.inputs)
        decision, (action, _) = policy.decide(inputs, account, limits, legal)
        orders = order_shares(account, limits, decision, row, trading).shares
        equity = account.equity[..., None]
        target = torch.where(equity > 0.0, (limits.committed + orders) * row.close / equity, 0.0)
        tail = lower_tail_mean(policy.quantiles(inputs, account, limits), TAIL).mean(-2)  # [..., N, A]
        risk = (-tail * unit * value_scale(self.agents[0].spec.gamma)).clamp_min(0.0)
        layers = objections(account.alive, account.equity, limits, row, trading).values()  # in the order of LAYERS
        unbound = torch.zeros_like(target, dtype=torch.bool)
        binding = torch.stack([unbound if layer is None else layer.any(-1) for layer in layers], dim=-1)
        mean_orders = orders.mean(-2)
        if trading.orders.lot_size is not None:
            lots = whole_lots(mean_orders, trading.orders.lot_size)
            mean_orders = torch.where((target == 0.0).all(-2), mean_orders, lots)
        signal = Signal(
            timestamp=self.market.bars.grid.timestamps[-1],
            symbols=self.symbols,
            target=target.mean(-2).numpy(),
            shares=(limits.committed.mean(-2) + mean_orders).numpy(),
            orders=mean_orders.numpy(),
            regime=inputs[1].mean(0).numpy(),
            tail_risk=risk.masked_fill(self._abstaining[:, None], 0.0).mean(-2).numpy(),
            actions=action.numpy(),
            legal=legal.numpy(),
            binding=binding.any(-3).numpy(),
            close=row.close[0].numpy(),
        )
        return signal, decision


def _require_alike(agents: Sequence[AgentBundle]) -> None:
    if not agents:
        raise ValueError("`agents` must hold at least one agent, was empty; train one first.")
    first = agents[0].spec
    same_symbols(agents, first.symbols)
    for name in ("fold", "members", "features", "network", "trading", "gamma", "missing"):
        values = [getattr(agent.spec, name) for agent in agents]
        if any(value != values[0] for value in values):
            raise ValueError(
                f"Agents of one session must be of one fold and alike, but their `{name}` differs: "
                f"{[agent.name for agent in agents]}; start a session for each."
            )
