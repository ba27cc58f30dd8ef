"""Effect of the constraint on the worst episodes. Prints JSON.

    python benchmarks/tail.py                  # seeds 0, 1, 2
    python benchmarks/tail.py --seeds 0

Two assets earn 5 bps a bar on average; one of them falls by 3 % once in 100 bars. Net exposure is at most 1, so who
holds both holds half of each. An agent without the constraint is trained first; the limit is two thirds of the tail
(the mean of the worst 5 % of episodes of 64 bars, log return) that it has on fresh bars, and a second agent is trained
with it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

from learning import read_parameters
from planted.catalogue import PlantedMarket
from planted.crashes import CrashLaw
from planted.study import Forgetful, PlantedStudy, prepare_study
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.agent.ppo.losses import tail_of
from sentio_kedro.agent.training.population import train_agent
from sentio_kedro.agent.training.validation import account_returns
from sentio_kedro.config import AgentParameters, TailParameters, TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.regimes import market_return
from sentio_kedro.market.tensors import market_tensors

LAW = CrashLaw(drift=5e-4, sigma=2e-3, crash=0.03, chance=1 / 100)
MARKET = PlantedMarket(LAW, train_bars=24_000, test_bars=30_000)
TRADING = TradingParameters(
    preset="proportional",
    levels=[0.0, 0.5, 1.0],
    gross_limit=2.0,
    net_limit=1.0,
    costs={"commission_bps": 1, "half_spread_bps": 1},  # type: ignore[arg-type]
)
SETTINGS = [
    "training.total_steps=600000",
    "training.mirror_blocks=false",
    "training.block_bars=64",
    "training.gamma=0.95",
    "training.entropy=0.1",
]
EPISODE = 64


def episodes(study: PlantedStudy, parameters: AgentParameters) -> tuple[torch.Tensor, dict[str, Any]]:
    """Train an agent and return the log returns ``[n]`` of its episodes on the test rows, and what it did."""
    began = time.perf_counter()
    sink = Forgetful()
    agent, curve, _ = train_agent(study.training, 0, study.spans, parameters, sink, sink, {})
    seconds = time.perf_counter() - began
    posterior = study.training.regimes.filter(market_return(study.bars))
    market = market_tensors(study.bars, study.features, posterior, parameters.trading).to(
        torch.device("cpu"), torch.float32
    )
    networks = agent.networks(torch.float32)
    context = receptive_field(parameters.network) - 1
    episodes = [
        Segment(start, start + EPISODE)
        for part in study.fold.test
        for start in range(part.start, part.stop - EPISODE + 1, EPISODE)
    ]
    returns = account_returns(networks, market, episodes, context, parameters.trading)
    last = {name: value for name, value in curve[-1].items() if name in ("tail_price", "episode_tail", "reward")}
    return returns.log1p().view(-1, EPISODE).sum(1), {"train_seconds": seconds} | last


def compare(seed: int, changes: list[str]) -> dict[str, Any]:
    """Train without and with the constraint."""
    features, regimes, base = read_parameters(2.0, [*SETTINGS, *changes])
    free = AgentParameters(base.network, base.training, TRADING)
    study = prepare_study(MARKET, seed, features, regimes, free)
    without, row_without = episodes(study, free)
    alpha = base.training.tail.alpha
    tail = float(tail_of(without, alpha)[1])
    limit = TailParameters(**(vars(base.training.tail) | {"limit": max(-tail, 1e-4) * 2.0 / 3.0}))
    bound = replace(free, training=replace(base.training, tail=limit))
    within, row_within = episodes(study, bound)
    bounded = float(tail_of(within, alpha)[1])
    return {
        "unconstrained": {"mean": float(without.mean()), "tail": tail} | row_without,
        "constrained": {"mean": float(within.mean()), "tail": bounded, "limit": -float(limit.limit or 0.0)}
        | row_within,
        "tail_shrinks_by": 1.0 - bounded / tail,
        "mean_lost": 1.0 - float(within.mean() / without.mean()),
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="market seeds")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="changes of the settings")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    answer = {str(seed): compare(seed, arguments.set) for seed in arguments.seeds}
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")


if __name__ == "__main__":
    main()
