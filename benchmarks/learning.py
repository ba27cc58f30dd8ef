"""What the default agent earns on planted markets, as a share of the optimum. Prints JSON.

    python benchmarks/learning.py                     # default parameters, market seeds 0, 1, 2
    python benchmarks/learning.py --set training.total_steps=400000 --seeds 0 1 2 3 4

`ar1` is r[t+1] = 0.1 r[t] + 0.4 % e at 2 bps per side: 8,000 train and 4,000 test bars. `noise` is the same without the
autoregression: the pooled 95 % interval of gross profit must cover 0.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import TypeAdapter

from sentio_kedro.agent.trainer import AgentParameters
from sentio_kedro.config import (
    FeatureParameters,
    NetworkParameters,
    RegimeParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.evaluation.learning import Forgetful, LearningResult, PlantedMarket, measure_learning

CONFIGURATION = Path(__file__).parents[1] / "conf" / "base"
PLANTED_TRADING = {"preset": "proportional", "levels": [-1, 0, 1], "costs": {"commission_bps": 1, "half_spread_bps": 1}}


def read_parameters(changes: list[str]) -> tuple[FeatureParameters, RegimeParameters, AgentParameters]:
    """Read the project's defaults, with the planted market's costs, and apply ``name=value`` changes."""
    raw: dict[str, Any] = {}
    for name in ("features", "regimes", "training"):
        raw |= yaml.safe_load((CONFIGURATION / f"parameters_{name}.yml").read_text())
    raw["trading"] = PLANTED_TRADING
    for change in changes:
        path, _, value = change.partition("=")
        *sections, key = path.split(".")
        place = raw
        for section in sections:
            place = place[section]
        place[key] = yaml.safe_load(value)
    agent = AgentParameters(
        TypeAdapter(NetworkParameters).validate_python(raw["network"]),
        TypeAdapter(TrainingParameters).validate_python(raw["training"]),
        TypeAdapter(TradingParameters).validate_python(raw["trading"]),
    )
    features = TypeAdapter(FeatureParameters).validate_python(raw["features"])
    return features, TypeAdapter(RegimeParameters).validate_python(raw["regimes"]), agent


def judge_planted(results: list[LearningResult]) -> dict[str, Any]:
    """Summarise agents on a market that can be earned on."""
    shares = [result.share_of_optimum for result in results]
    return {
        "share_of_optimum": shares,
        "median": statistics.median(shares),
        "worst": min(shares),
        "realised_sharpe": [result.sharpe for result in results],
        "train_seconds": [result.seconds for result in results],
    }


def judge_noise(results: list[LearningResult]) -> dict[str, Any]:
    """Summarise agents on a market without anything to earn."""
    gross = np.concatenate([result.gross for result in results])
    error = 1.96 * gross.std(ddof=1) / len(gross) ** 0.5
    return {
        "mean_gross_per_bar": gross.mean(),
        "interval": [gross.mean() - error, gross.mean() + error],
        "covers_zero": bool(abs(gross.mean()) <= error),
        "realised_sharpe": [result.sharpe for result in results],
        "mean_turnover": [float(np.abs(np.diff(result.positions)).mean()) for result in results],
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description="Share of the optimum on planted markets.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="market seeds")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="changes of the defaults")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    features, regimes, agent = read_parameters(arguments.set)
    nobody = Forgetful()
    results = {
        phi: [
            measure_learning(PlantedMarket(phi=phi, seed=seed), features, regimes, agent, nobody, nobody)
            for seed in arguments.seeds
        ]
        for phi in (0.1, 0.0)
    }
    answer = {
        "ar1": judge_planted(results[0.1]),
        "noise": judge_noise(results[0.0]),
        "machine": {"threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")


if __name__ == "__main__":
    main()
