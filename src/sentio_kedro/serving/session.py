"""A decision session: agents follow a feed bar by bar and say what they want to hold.

What is computed is what the backtest computes: the same features and regimes, the same networks, the same masks and
orders. An account that the session keeps is carried from bar to bar by the one execution step.
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

TAIL = 0.05  # share of outcomes in the tail that `tail_risk` averages
GivenAccount = Account | Sequence[Account] | AccountState


class DecisionSession:
    """The agents of one fold, or one agent, behind a feed.

    ``start`` takes a history, then ``decide`` takes each new bar. Several agents decide each by itself about an account
    that is theirs alone; what is told is the mean over them, as if each managed an equal part of the capital.
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
            longest_gap: Longest time that may pass from one bar to the next before bars count as lost; null takes the
                longest of the history.
            traced: Trace the networks, once a process, so that decisions are faster; takes about a second.

        Raises:
            ValueError: If there is no agent, or they are not of one fold.
        """
        self.agents = [agents] if isinstance(agents, AgentBundle) else list(agents)
        _require_alike(self.agents)
        self.longest_gap = longest_gap
        self._allowed_gap: np.timedelta64 = np.timedelta64(0, "ns")  # what it comes to once there is a history
        self.trading = self.agents[0].spec.trading
        self._drops = self.agents[0].spec.missing == "drop_bar"
        self.symbols = tuple(self.agents[0].spec.symbols)
        self.required_bars = max(agent.spec.required_bars for agent in self.agents)
        self._networks = AgentNetworks(self.agents, torch.float64, traced=traced)
        self._abstaining = torch.tensor([agent.spec.abstains for agent in self.agents])
        self._market: LiveMarket | None = None
        self._kept: AccountState | None = None  # [..., N] accounts at the close of the newest bar
        self._pending: Decision | None = None  # what the agents decided for them there

    @property
    def market(self) -> LiveMarket:
        """Bars, features and regimes so far.

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
        if self._kept is None:
            raise RuntimeError("The session keeps no account yet; call `start` with a history first.")
        return self._kept

    def account(self, agent: int = 0) -> Account:
        """Tell the account of one agent in plain numbers, if the session keeps one per agent."""
        return account_report(AccountState._make(x[agent] for x in self.accounts), self.symbols)

    @torch.inference_mode()
    def start(self, history: RawBars, account: GivenAccount | None = None, replay_bars: int = 0) -> Signal:
        """Take a history, and decide at its newest bar.

        Args:
            history: At least ``required_bars`` bars: aligned, or a long frame whose stamps are ends of bars in UTC. An
                asset that was halted needs as many bars of its own; a symbol without any bar, such as a delisted one,
                is halted.
            account: Accounts at the newest bar, see ``decide``; null opens one with ``trading.initial_cash`` per agent.
            replay_bars: Bars that each agent trades first, from the account on, so that it decides on a position as it
                would have in a backtest; then the account stands that many bars before the newest.

        Returns:
            What the agents want to hold from the next open on.

        Raises:
            ValueError: If the bars are too few or of other symbols, or the account is not theirs. A session that had
                started before then goes on as it was.
            BarsError: If a bar makes no sense.
        """
        bars = history if isinstance(history, AlignedBars) else align_bars(history, IngestionParameters())
        bars = of_symbols(bars, self.symbols)
        bars = whole_rows(bars) if self._drops else bars
        count, needed = len(bars.timestamps), self.required_bars + replay_bars
        if count < needed:
            raise ValueError(
                f"The agents need {needed} bars to decide, were given {count}; give {needed - count} more."
            )
        with one_thread(), self._as_before_if_refused():
            self._allowed_gap = np.diff(bars.timestamps).max() if self.longest_gap is None else self.longest_gap
            self._market, self._pending = LiveMarket(self.agents, bars), None
            market, first = self._market.tensors(), count - 1 - replay_bars
            given = Account(cash=self.trading.initial_cash) if account is None else account
            self._kept = self._states(given, torch.from_numpy(hold(bars.close[: first + 1])[-1]))
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
            new_bars: One bar per symbol, or several stamps in order; null decides again at the newest bar. A symbol
                without a bar is halted; agents that were trained with ``ingestion.missing: drop_bar`` drop the stamp.
            account: The account at the close of the newest bar: one ``Account`` that all agents look at, a sequence of
                them (a batch), or the tensors of a batch ``[..., 1]`` or ``[..., N]`` for N agents. Null takes the
                accounts that the session keeps: the orders of its last decision are filled at the next open by the
                execution step of the backtest, and the agents decide at every bar.
            longest_gap: Longest time that may pass from one bar to the next in this call, for a feed that was out; null
                is the session's.

        Returns:
            What the agents want to hold from the next open on.

        Raises:
            ValueError: If bars are of other symbols, not later than those known, leave a gap or end outside the
                exchange's sessions, a dividend is not below the price, or the account is not the agents'. After any
                error the session is as it was before.
            BarsError: If a bar makes no sense.
        """
        allowed = self._allowed_gap if longest_gap is None else longest_gap
        rows = [] if new_bars is None else new_rows(new_bars, self.market.bars.grid, allowed, drop_bar=self._drops)
        given = None if account is None else self._states(account, self.market.close_after(rows))
        signal: Signal | None = None
        with one_thread(), self._as_before_if_refused():
            for row in rows:
                self._market = self.market.with_bar(row)
                if given is None:
                    signal = self._decide(self.market.tensors(), self._pending)
            if signal is not None:
                return signal
            self._kept = self._kept if given is None else given
            return self._decide(self.market.tensors(), None)

    @contextmanager
    def _as_before_if_refused(self) -> Iterator[None]:
        """Put the session back as it was if anything fails on the way; what it holds is replaced, never changed."""
        before = self._market, self._kept, self._pending, self._allowed_gap
        try:
            yield
        except BaseException:
            self._market, self._kept, self._pending, self._allowed_gap = before
            raise

    def _states(self, account: GivenAccount, close: Tensor) -> AccountState:
        if not isinstance(account, AccountState):
            several = [account] if isinstance(account, Account) else list(account)
            states = account_states(several, self.symbols, close.nan_to_num(nan=1.0), self.trading)
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
        """Let the agents trade from row ``first`` to the newest, as in the backtest."""
        last, posteriors = self.market.newest, self.market.posteriors
        policy = self._networks.policy(market.features, posteriors, first, last)
        known = torch.stack([posterior[first:last] for posterior in posteriors], dim=1)
        step_data = make_step_data(market, torch.arange(first, last)[:, None], self.trading, known)
        self._kept, _ = simulate(step_data, policy, self.accounts, self.trading)

    def _decide(self, market: MarketTensors, pending: Decision | None) -> Signal:
        """Fill what is pending at the newest bar's open, then decide at its close."""
        last, posteriors = self.market.newest, self.market.posteriors
        first = last if pending is None else last - 1
        known = torch.stack([posterior[first : last + 1] for posterior in posteriors], dim=1)  # [S, N, K]
        step_data = make_step_data(market, torch.arange(first, last + 1)[:, None], self.trading, known)
        account = self.accounts
        if pending is not None:
            row = step_data.step(0)
            account, _ = execute(
                account, position_limits(account, row, self.trading), pending, row, self.trading, telemetry=False
            )
        policy = self._networks.policy(market.features, posteriors, last, last + 1)
        row = step_data.step(last - first)
        unit = reward_unit(row, market.volatility[last], self.trading)
        self._kept = account
        signal, self._pending = self._judge(account, row, policy, unit)
        return signal

    def _judge(
        self, account: AccountState, row: StepData, policy: AgentsPolicy, unit: Tensor
    ) -> tuple[Signal, Decision]:
        """Decide at one row, and say what follows from it; ``unit`` ``[A]`` is what rewards are measured in."""
        trading = self.trading
        view = position_limits(account, row, trading)
        legal = legal_actions(account, view, row, trading)
        require_choice(legal)
        inputs = tuple(x[0] for x in policy.inputs)
        decision, (action, _) = policy.decide(inputs, account, view, legal)
        orders = order_shares(account, view, decision, row, trading).shares
        equity = account.equity[..., None]
        target = torch.where(equity > 0.0, (view.committed + orders) * row.close / equity, 0.0)
        worst = lower_tail_mean(policy.quantiles(inputs, account, view), TAIL).mean(-2)  # [..., N, A]
        risk = (-worst * unit * value_scale(self.agents[0].spec.gamma)).clamp_min(0.0)
        found = objections(account.alive, account.equity, view, row, trading).values()  # in the order of LAYERS
        nothing = torch.zeros_like(target, dtype=torch.bool)
        binding = torch.stack([nothing if cut is None else cut.any(-1) for cut in found], dim=-1)
        mean_orders = orders.mean(-2)
        if trading.orders.lot_size is not None:
            lots = whole_lots(mean_orders, trading.orders.lot_size)
            mean_orders = torch.where((target == 0.0).all(-2), mean_orders, lots)
        signal = Signal(
            timestamp=self.market.bars.grid.timestamps[-1],
            symbols=self.symbols,
            target=target.mean(-2).numpy(),
            shares=(view.committed.mean(-2) + mean_orders).numpy(),
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
