"""Environment steps per second of rollout and update together, on a fixed workload. Prints JSON.

One asset, a path of 8,192 bars, 8 features, window 64, width 64, 2 layers, 4 heads, 3 actions, 32 quantiles; 16 windows
x R replicas x 128 steps a rollout, 4 epochs x 4 minibatches. R is 16, and 1 and 64 for comparison.

    python benchmarks/throughput.py                   # this project
    python benchmarks/throughput.py --peer            # and sb3-contrib's MaskablePPO (extra `bench`)
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from sentio_kedro.agent.memory import keep_freed_memory
from sentio_kedro.agent.networks import NetworkShape, PolicyNetwork, build_network, receptive_field
from sentio_kedro.agent.rollout import Rollout, Windows, collect, cut_windows, draw_rollout
from sentio_kedro.agent.update import Targets, UpdateReport, minibatch_loss, targets, update, value_scale
from sentio_kedro.config import NetworkParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors

BARS, FEATURES, STEPS, WINDOWS, SIGMA = 8192, 8, 128, 16, 0.004
NETWORK = NetworkParameters(width=64, layers=2, heads=4, window=64, quantiles=32, hidden=64)
TRADING = TradingParameters(levels=[0.0, 1.0])  # with HOLD: 3 actions
SHAPE = NetworkShape(features=FEATURES, assets=1, regimes=1, actions=3)


def random_market(device: torch.device) -> MarketTensors:
    """Random walk with random features."""
    generator = torch.Generator().manual_seed(0)
    close = (torch.randn(BARS, 1, generator=generator) * SIGMA).cumsum(0).exp()
    market = MarketTensors(
        features=torch.randn(BARS, 1, FEATURES, generator=generator),
        open=torch.cat([close[:1], close[:-1]]),
        close=close,
        tradable=torch.ones(BARS, 1, dtype=torch.bool),
        volatility=torch.full((BARS, 1), SIGMA),
        posterior=torch.ones(BARS, 1),
    )
    return market.to(device, torch.float32)


def _loss(
    network: PolicyNetwork, windows: Windows, rollout: Rollout, learned: Targets, training: TrainingParameters
) -> Callable[[Tensor], tuple[Tensor, UpdateReport]]:
    return lambda index: minibatch_loss(network, windows, rollout, learned, index, training)


def measure(replicas: int, rounds: int, device: torch.device) -> dict[str, float]:
    """Time ``rounds`` rollouts with their updates; the median counts."""
    training = TrainingParameters(
        windows=WINDOWS, replicas=replicas, episode_bars=STEPS, epochs=4, minibatches=4, path_baseline=replicas > 1
    )
    generator = torch.Generator(device).manual_seed(1)
    market = random_market(device)
    network = build_network(NETWORK, SHAPE, torch.Generator().manual_seed(2)).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, eps=1e-5, fused=True)
    context = receptive_field(NETWORK) - 1
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        starts = torch.randint(context, BARS - STEPS - 1, (WINDOWS,), generator=generator, device=device)
        windows = cut_windows(market, starts, STEPS, context, TRADING)
        draws = draw_rollout(windows, replicas, SHAPE.actions, generator)
        rollout = collect(network, windows, draws, value_scale(training.gamma), TRADING)
        learned = targets(rollout, training)
        update(network, optimiser, _loss(network, windows, rollout, learned, training), WINDOWS, training, generator)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    typical = statistics.median(seconds[1:])  # the first round warms up
    return {
        "env_steps_per_second": WINDOWS * replicas * STEPS / typical,
        "unique_bars_per_second": WINDOWS * STEPS / typical,
        "optimizer_steps_per_second": training.epochs * training.minibatches / typical,
        "seconds_per_update": typical,
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peer", action="store_true", help="also run sb3-contrib's MaskablePPO")
    parser.add_argument("--rounds", type=int, default=7, help="timed updates per figure")
    parser.add_argument("--threads", type=int, default=None, help="torch threads; default: torch's own choice")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    keep_freed_memory()
    result: dict[str, Any] = dict(measure(16, arguments.rounds, device))
    result["replicas"] = {str(count): measure(count, arguments.rounds, device) for count in (1, 64)}
    if arguments.peer:
        import throughput_peer  # noqa: PLC0415 - needs the extra

        result["peer"] = throughput_peer.measure(random_market(torch.device("cpu")), NETWORK, SHAPE)
        result["ratio_to_peer"] = result["env_steps_per_second"] / result["peer"]["env_steps_per_second"]
    result["machine"] = {"threads": torch.get_num_threads(), "torch": torch.__version__, "cpu": platform.machine()}
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
