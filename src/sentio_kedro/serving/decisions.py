"""What agents say about the newest bar, from raw bars alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle, same_symbols
from sentio_kedro.agent.ensemble import agents_policy
from sentio_kedro.agent.losses import lower_tail_mean
from sentio_kedro.agent.update import value_scale
from sentio_kedro.config import SignalParameters
from sentio_kedro.market.bars import AlignedBars
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.regimes import market_return
from sentio_kedro.market.tensors import MarketTensors, market_tensors
from sentio_kedro.trading.accounts import AccountState, open_accounts
from sentio_kedro.trading.action_masks import legal_actions, require_choice
from sentio_kedro.trading.environment import account_features, reward_unit
from sentio_kedro.trading.market_facts import make_tape
from sentio_kedro.trading.orders import order_shares, whole_lots
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.view import View, look

TAIL = 0.05  # share of outcomes in the tail that `tail_risk` averages


def choose_agents(agents: Mapping[str, AgentBundle], fold: int | None) -> list[AgentBundle]:
    """Pick the agents of one fold, by default the latest.

    Raises:
        ValueError: If there is no agent of that fold.
    """
    folds = sorted({agent.spec.fold for agent in agents.values()})
    wanted = folds[-1] if fold is None and folds else fold
    chosen = [agent for agent in agents.values() if agent.spec.fold == wanted]
    if not chosen:
        raise ValueError(f"`signals.fold` must be one of {folds}, was {fold}; train first or name another fold.")
    return sorted(chosen, key=lambda agent: agent.spec.seed)


def newest_signals(agents: Sequence[AgentBundle], bars: AlignedBars, parameters: SignalParameters) -> pd.DataFrame:
    """Let agents decide at the newest bar.

    Each agent first trades the last ``replay_bars`` bars from flat, then decides at the newest one; its order would
    fill at the next open, or ``orders.latency_bars`` later. Equity is shared equally between the agents, so targets are
    their mean. Agents that abstain count as flat and risk nothing.

    Args:
        agents: Agents of one fold.
        bars: Aligned bars, the newest last.
        parameters: Equity and replay.

    Returns:
        One row per symbol: ``timestamp`` (end of the newest bar), ``symbol``, ``target`` (fraction of equity),
        ``shares`` (of the target, whole lots), ``regime`` (likeliest state, 0 is the calmest), ``tail_risk`` (expected
        loss of the worst 5 % of outcomes under the agent, fraction of equity, discounted by its gamma), ``agents``.

    Raises:
        ValueError: If the bars are too few or of other symbols.
    """
    same_symbols(agents, bars.symbols)
    needed = max(agent.spec.required_bars for agent in agents)
    count = len(bars.timestamps)
    if count < needed:
        raise ValueError(f"The agents need {needed} bars to decide, were given {count}; give {needed - count} more.")
    replay, equity = min(parameters.replay_bars, count - needed), parameters.equity / len(agents)
    verdicts = [_verdict(agent, bars, replay, equity) for agent in agents]
    target = np.mean([verdict[0] for verdict in verdicts], axis=0)
    shares = target * parameters.equity / bars.held_close()[-1]
    lot = max(agent.spec.trading.orders.lot_size for agent in agents)
    if lot:
        shares = whole_lots(torch.from_numpy(shares), lot).numpy()
    return pd.DataFrame(
        {
            "timestamp": pd.Timestamp(bars.timestamps[-1]).tz_localize("UTC"),
            "symbol": list(bars.symbols),
            "target": target,
            "shares": shares,
            "regime": int(np.argmax(np.mean([verdict[1] for verdict in verdicts], axis=0))),
            "tail_risk": np.mean([verdict[2] for verdict in verdicts], axis=0),
            "agents": len(agents),
        }
    )


def agent_market(agent: AgentBundle, bars: AlignedBars) -> MarketTensors:
    """Compute everything that ``agent`` reads from raw bars."""
    features = compute_features(bars, agent.spec.features)
    return market_tensors(bars, features, agent.regime_model().filter(market_return(bars)), agent.spec.trading)


@torch.no_grad()
def _verdict(
    agent: AgentBundle, bars: AlignedBars, replay: int, equity: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Target ``[A]``, regime probabilities ``[K]`` and tail risk ``[A]`` at the newest bar."""
    market, trading = agent_market(agent, bars), agent.spec.trading
    last = market.bars - 1
    policy = agents_policy([agent], market, [market.posterior], last - replay, last + 1)
    cash = torch.full((1,), equity, dtype=torch.float64)
    account = open_accounts(cash, market.assets, trading.orders.latency_bars)
    tape = make_tape(market, torch.arange(last - replay, last + 1)[:, None], trading)
    if replay:
        account, _ = simulate(tape.part(0, replay), policy, account, trading)
    row = tape.step(replay)  # nothing can be filled after it, but accounts can be looked at
    view = look(account, row, trading)
    legal = legal_actions(account, view, row, trading)
    require_choice(legal)
    decision, _ = policy.decide(tuple(x[replay] for x in policy.inputs), account, view, legal)
    orders = order_shares(account, view, decision, row, trading).shares
    target = (view.committed + orders) * row.close / account.equity[:, None]
    if agent.spec.abstains:  # what is never held cannot lose
        return target[0].numpy(), market.posterior[last].numpy(), np.zeros(market.assets)
    worst = _lower_tail(agent, policy.projected[replay, 0], account, view)
    unit = reward_unit(row, market.volatility[None, last], trading)[0] * value_scale(agent.spec.gamma)
    return target[0].numpy(), market.posterior[last].numpy(), (-worst * unit).clamp_min(0.0).numpy()


def _lower_tail(agent: AgentBundle, projected: Tensor, account: AccountState, view: View) -> Tensor:
    """Mean of the members' worst quantiles ``[A]``, in units of the critic; projections are ``[M, A, hidden]``."""
    seen = account_features(account, view, agent.spec.trading)[0]
    heads = [network.head for network in agent.networks(account.equity.dtype)]
    tails = [
        lower_tail_mean(head.quantiles(head.hidden(x, seen)), TAIL) for head, x in zip(heads, projected, strict=True)
    ]
    return torch.stack(tails).mean(0)
