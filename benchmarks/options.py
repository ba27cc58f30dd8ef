"""Choice between options of resampling by validation rows. Trains each option, keeps one per path. Prints JSON.

    python benchmarks/options.py                                # signal, size and drift, market seed 0
    python benchmarks/options.py --seeds 0 1 2 3 4 --output benchmarks/results/learning/options.json

The best option depends on the market: mirrored blocks remove drift, and signals of mirror-invariant features that are
not flipped; detrended paths remove drift alone. On real bars the right one is unknown. On each path an agent is trained
with every set of OPTIONS, and the one with the highest Sharpe ratio on validation rows is chosen; of equals, the first.
Only then are test rows evaluated. The share of the optimum is that of the chosen agents, followed by the shares of all.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from learning import chosen_markets, measure, settings, summarise, write
from planted.catalogue import MARKETS
from planted.study import LearningResult

SIGNS, TREND = "training.resampling.mirror_blocks", "training.resampling.detrended"
OPTIONS: Mapping[str, tuple[str, ...]] = {  # the defaults first
    f"{SIGNS}={signs} {TREND}={trend}": (f"{SIGNS}={signs}", f"{TREND}={trend}")
    for signs in ("true", "false")
    for trend in ("false", "true")
}


def choose(results: Mapping[str, LearningResult]) -> str:
    """Name the option whose agent did best on validation rows, before any test."""

    def score(name: str) -> float:
        sharpe = results[name].validation_sharpe
        return -math.inf if math.isnan(sharpe) else sharpe

    return max(results, key=score)  # the first of equals


def compare(by_option: Mapping[str, Sequence[LearningResult]]) -> dict[str, Any]:
    """Summarise the agents that validation rows choose, one per path, and list the shares of all options.

    Args:
        by_option: Results by option, one per path, in the same order of paths.
    """
    paths = [dict(zip(by_option, results, strict=True)) for results in zip(*by_option.values(), strict=True)]
    chosen = [choose(path) for path in paths]
    answer = summarise([path[name] for path, name in zip(paths, chosen, strict=True)])
    return answer | {
        "train_seconds": [round(sum(result.seconds for result in path.values()), 1) for path in paths],  # of all
        "chosen": chosen,
        "validation_sharpe": {name: [r.validation_sharpe for r in results] for name, results in by_option.items()},
        "share_by_option": {name: [r.share_of_optimum for r in results] for name, results in by_option.items()},
    }


def main() -> None:
    """Parse arguments, measure, print or write; a file is written anew after each market."""
    parser = argparse.ArgumentParser(description="Options of resampling, chosen on validation rows.")
    names = ["signal", "size", "drift"]
    parser.add_argument("--markets", nargs="+", default=names, choices=[*MARKETS, "all"], metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="market seeds")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="changes of all options' settings")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--output", type=Path, help="file to write; without it JSON is printed")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run_settings = settings(arguments.seeds, arguments.set)
    answer: dict[str, Any] = {}
    for name, market in chosen_markets(arguments.markets).items():
        trained = {
            option: measure(market, arguments.seeds, [*arguments.set, *changes]) for option, changes in OPTIONS.items()
        }
        answer[name] = compare(trained)
        if arguments.output is not None:
            write(answer | {"settings": run_settings}, arguments.output)
    if arguments.output is None:
        write(answer | {"settings": run_settings}, None)


if __name__ == "__main__":
    main()
