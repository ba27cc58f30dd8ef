"""Profit of end-to-end agents on markets whose law is known, as a share of the optimum. Prints JSON, or writes it.

    python benchmarks/learning.py                               # ar1 and noise, market seeds 0, 1, 2
    python benchmarks/learning.py --markets all --seeds 0 1 2 3 4
    python benchmarks/learning.py --markets drift size --set training.mirror_blocks=false
    python benchmarks/learning.py --markets noise --set training.abstention=1  # how many stay flat?
    python benchmarks/learning.py --markets ar1 --output ar1.json

Agents are those of conf/end_to_end: the variant `enhanced`, which learns from features without forecasts.
`forecast_rule.py` measures the forecast rule. The markets are those of `planted.catalogue`; docs/learning.md says what
each one asks. Shares are of expected profit net of costs, on rows that no training saw. Where nothing can be
earned the pooled 95 % interval of gross profit must cover 0.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import TypeAdapter

from planted.catalogue import MARKETS, PlantedMarket
from planted.study import Forgetful, LearningResult, measure_learning
from sentio_kedro.config import (
    AgentParameters,
    FeatureParameters,
    NetworkParameters,
    RegimeParameters,
    TradingParameters,
    TrainingParameters,
)

CONFIGURATION = Path(__file__).parents[1] / "conf" / "base"
NORMAL_95 = 1.96
Parameters = tuple[FeatureParameters, RegimeParameters, AgentParameters]


def read_parameters(cost_bps: float, changes: Sequence[str]) -> Parameters:
    """Read the defaults of agents without forecasts, with a planted market's costs, and apply ``name=value`` changes.

    Args:
        cost_bps: Commission and half spread together, bps; each is half of it.
        changes: Changes of the defaults, by dotted name.
    """
    raw: dict[str, Any] = {}
    for name in ("features", "regimes", "training"):
        raw |= yaml.safe_load((CONFIGURATION / f"parameters_{name}.yml").read_text())
    for section in ("network", "training"):
        raw[section]["variant"] = "enhanced"
    costs = {"commission_bps": cost_bps / 2.0, "half_spread_bps": cost_bps / 2.0}
    raw["trading"] = {"preset": "proportional", "levels": [-1, 0, 1], "costs": costs}
    for change in changes:
        path, _, value = change.partition("=")
        *sections, key = path.split(".")
        place = raw
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = yaml.safe_load(value)
    agent = AgentParameters(
        TypeAdapter(NetworkParameters).validate_python(raw["network"]),
        TypeAdapter(TrainingParameters).validate_python(raw["training"]),
        TypeAdapter(TradingParameters).validate_python(raw["trading"]),
    )
    features = TypeAdapter(FeatureParameters).validate_python(raw["features"])
    return features, TypeAdapter(RegimeParameters).validate_python(raw["regimes"]), agent


def measure(market: PlantedMarket, seeds: Sequence[int], changes: Sequence[str]) -> list[LearningResult]:
    """Train one agent per market seed."""
    features, regimes, agent = read_parameters(market.cost_bps, changes)
    nobody = Forgetful()
    return [measure_learning(market, seed, features, regimes, agent, nobody, nobody) for seed in seeds]


def summarise(results: Sequence[LearningResult]) -> dict[str, Any]:
    """Summarise agents on one market."""
    seconds = {"train_seconds": [round(result.seconds, 1) for result in results]}
    if math.isnan(results[0].share_of_optimum):
        return summarise_noise(results) | seconds
    return summarise_planted(results) | seconds


def summarise_planted(results: Sequence[LearningResult]) -> dict[str, Any]:
    """Summarise agents on a market that can be earned on."""
    shares = [result.share_of_optimum for result in results]
    ridge = [result.ridge_share for result in results]
    per_asset = np.array([result.asset_shares for result in results])  # [seeds, A]
    answer: dict[str, Any] = {
        "share_of_optimum": shares,
        "median": statistics.median(shares),
        "worst": min(shares),
        "ridge_share": ridge,
        "ridge_median": statistics.median(ridge),
        "optimum_sharpe": [result.optimum_sharpe for result in results],
        "realised_sharpe": [result.sharpe for result in results],
    }
    if per_asset.shape[1] > 1:  # NaN where an asset cannot be earned on
        medians = np.median(per_asset, axis=0)
        answer["median_share_per_asset"] = [None if math.isnan(share) else share for share in medians.tolist()]
        answer["lowest_asset_median"] = float(np.nanmin(medians))
        answer["lowest_asset_worst"] = float(np.nanmin(per_asset))
    return answer


def summarise_noise(results: Sequence[LearningResult]) -> dict[str, Any]:
    """Summarise agents on a market without anything to earn."""
    gross = np.concatenate([result.gross for result in results])
    error = interval(gross)
    return {
        "mean_gross_per_bar": gross.mean(),
        "interval": [gross.mean() - error, gross.mean() + error],
        "covers_zero": bool(abs(gross.mean()) <= error),
        "seeds_significant_alone": sum(bool(abs(r.gross.mean()) > interval(r.gross)) for r in results),
        "seeds": len(results),
        "seeds_flat": sum(bool((result.positions == 0.0).all()) for result in results),
        "realised_sharpe": [result.sharpe for result in results],
        "mean_turnover": [float(np.abs(np.diff(result.positions, axis=0)).sum(-1).mean()) for result in results],
    }


def interval(gross: np.ndarray[Any, Any]) -> float:
    """Half of the 95 % interval of the mean of independent profits."""
    return float(NORMAL_95 * gross.std(ddof=1) / len(gross) ** 0.5)


def chosen_markets(names: Sequence[str]) -> dict[str, PlantedMarket]:
    """Look markets up; ``all`` is every one."""
    return MARKETS if "all" in names else {name: MARKETS[name] for name in names}


def settings(seeds: Sequence[int], changes: Sequence[str]) -> dict[str, Any]:
    """State how something was measured."""
    record = {"seeds": list(seeds), "changes": list(changes)}
    return record | {"threads": torch.get_num_threads(), "torch": torch.__version__}


def write(answer: dict[str, Any], output: Path | None) -> None:
    """Write JSON to ``output``, or print it."""
    text = json.dumps(answer, indent=2) + "\n"
    if output is None:
        sys.stdout.write(text)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text)


def main() -> None:
    """Parse arguments, measure, print or write; a file is written anew after each market."""
    parser = argparse.ArgumentParser(description="Share of the optimum on planted markets.")
    parser.add_argument("--markets", nargs="+", default=["ar1", "noise"], choices=[*MARKETS, "all"], metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="market seeds")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="changes of the defaults")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--output", type=Path, help="file to write; without it JSON is printed")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    record = settings(arguments.seeds, arguments.set)
    answer: dict[str, Any] = {}
    for name, market in chosen_markets(arguments.markets).items():
        answer[name] = summarise(measure(market, arguments.seeds, arguments.set))
        if arguments.output is not None:
            write(answer | {"settings": record}, arguments.output)
    if arguments.output is None:
        write(answer | {"settings": record}, None)


if __name__ == "__main__":
    main()
