"""Does gating by regime earn more than an equal-parameter network without it? Prints JSON, or writes it.

    python benchmarks/regime_gating.py                          # market seeds 0 to 4
    python benchmarks/regime_gating.py --output benchmarks/results/learning/regime_gating.json

On the planted market `regimes` an agent is trained with `network.regime_experts` and one without on each path. The 95 %
interval of the mean difference of their shares of the optimum is Student's, over paths: each is a pair.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from scipy.stats import t as student

from learning import measure, read_parameters, settings, summarise, write
from planted.catalogue import MARKETS
from planted.study import LearningResult
from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import build_network

NAME = "regimes"
GATED, UNGATED = "network.regime_experts=true", "network.regime_experts=false"
COVERAGE = 0.95


def compare(gated: Sequence[LearningResult], ungated: Sequence[LearningResult]) -> dict[str, Any]:
    """Summarise agents with and without gating on the same paths; ``share_of_optimum`` is that of the gated ones."""
    shares = [[result.share_of_optimum for result in results] for results in (gated, ungated)]
    difference = [first - second for first, second in zip(*shares, strict=True)]
    mean, reach = statistics.fmean(difference), half_interval(difference)
    return summarise(gated) | {
        "ungated_share_of_optimum": shares[1],
        "ungated_train_seconds": [round(result.seconds, 1) for result in ungated],
        "difference": difference,
        "mean_difference": mean,
        "interval": [mean - reach, mean + reach],
    }


def half_interval(values: Sequence[float]) -> float:
    """Half of Student's 95 % interval of the mean of independent values, at least two of them."""
    degrees = len(values) - 1
    return float(student.ppf(0.5 + COVERAGE / 2.0, degrees) * statistics.stdev(values) / len(values) ** 0.5)


def parameter_count(changes: Sequence[str]) -> int:
    """Parameters of one network, for as many regimes as `regimes.states` allows."""
    features, regimes, agent = read_parameters(MARKETS[NAME].cost_bps, changes)
    columns = [*features.columns, *MARKETS[NAME].columns]
    shape = NetworkShape(len(columns), MARKETS[NAME].law.assets, regimes.states, len(agent.trading.levels))
    return sum(weights.numel() for weights in build_network(agent.network, shape, torch.Generator()).parameters())


def main() -> None:
    """Parse arguments, measure, print or write."""
    parser = argparse.ArgumentParser(description="Gating by regime against an equal-parameter network without it.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="market seeds, at least two")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="changes of both sides' settings")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--output", type=Path, help="file to write; without it JSON is printed")
    arguments = parser.parse_args()
    if len(arguments.seeds) < 2:  # noqa: PLR2004 - one difference has no deviation
        parser.error(f"--seeds must name at least two, named {arguments.seeds}.")
    torch.set_num_threads(arguments.threads)
    sides = [[*arguments.set, side] for side in (GATED, UNGATED)]
    comparison = compare(*(measure(MARKETS[NAME], arguments.seeds, side) for side in sides))
    comparison["parameters"] = dict(zip(("gated", "ungated"), map(parameter_count, sides), strict=True))
    write({NAME: comparison, "settings": settings(arguments.seeds, arguments.set)}, arguments.output)


if __name__ == "__main__":
    main()
