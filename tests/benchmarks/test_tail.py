"""A limit on the worst episodes leaves most of the profit: an agent with and one without it on a planted market."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from learning import measure
from planted.catalogue import MARKETS
from sentio_kedro.agent.ppo.losses import tail_of

MARKET = replace(MARKETS["ar1"], test_bars=16_384)
COST, EPISODE, LIMIT = 2e-4, 64, 0.03
SMALL = [
    "features.columns=[{name: return_1, indicator: log_return, bars: 1}]",  # of more, a small agent learns coincidences
    *("training.members=1", "training.total_steps=250000", "trading.levels=[-1, -0.5, 0, 0.5, 1]"),
]


def profit_and_tail(*changes: str) -> tuple[float, float]:
    """Share of the optimum's expected profit, and CVaR of the worst 5 % of episodes of test rows, log return."""
    (result,) = measure(MARKET, [0], [*SMALL, *changes])
    held = result.positions[:, 0]
    bars = MARKET.train_bars + MARKET.test_bars
    returns = np.expm1(MARKET.law.draw(bars, 0).returns[:, 0])[-len(held) :]  # the last row's next return is the last
    growth = np.cumsum(np.log1p(held * returns - COST * np.abs(np.diff(held, prepend=0.0))))
    episodes = torch.from_numpy(growth[EPISODE:] - growth[:-EPISODE])  # of every start
    return result.share_of_optimum, tail_of(episodes, 0.05)[1].item()


@pytest.mark.slow
def test_worst_episodes_are_limited_at_a_third_of_the_profit() -> None:
    free_profit, free_tail = profit_and_tail()
    profit, tail = profit_and_tail(f"training.tail.limit={LIMIT}")
    assert free_tail < -1.6 * LIMIT
    assert tail > -1.15 * LIMIT  # train rows promise a little more than fresh ones keep
    assert profit > 0.6 * free_profit
