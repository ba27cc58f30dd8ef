"""Peak memory of training against its estimate, which the check before a run compares with what is free. Prints JSON.

    python benchmarks/memory.py --symbols 2 --settings '{"windows": 2048, "network": {"width": 64}}'

Two updates of one member on daily bars, with validation, on one thread, after a small training that loads all code.
Linux alone: the peak is that of the resident memory since the training began, of `/proc`. `tests/preflight` holds
estimates to within a factor of two of what was measured so.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from sentio_kedro.agent.data.training_set import TrainingSet, visible_bars
from sentio_kedro.agent.training.member import MemberKey
from sentio_kedro.agent.training.schedules import steps_per_update
from sentio_kedro.agent.training.trainer import train_member
from sentio_kedro.config import AgentParameters, NetworkParameters, TradingParameters, TrainingParameters
from sentio_kedro.manifests import SECTIONS
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.regimes import fit_regimes, market_return
from sentio_kedro.preflight.market import MarketPlan, plan_market
from sentio_kedro.preflight.resources import training_bytes
from sentio_kedro.preflight.sizes import sizes_of

BARS = Path(__file__).parents[1] / "data" / "01_raw" / "equities_daily.parquet"
COLUMNS = [{"name": f"return_{bars}", "indicator": "log_return", "bars": bars} for bars in (1, 2, 4, 8, 12, 16, 20, 24)]
TRAINING = {"windows": 4, "minibatches": 2, "episode_bars": 16, "members": 1, "block_bars": 32, "validations": 1}
NETWORK = {"width": 8, "heads": 2, "window": 8, "convolution": 2, "hidden": 8, "quantiles": 11}


class Nothing:
    """Neither keeps checkpoints nor shows progress."""

    def load(self, key: str) -> None:
        """Find nothing."""

    def save(self, *_: Any) -> None:
        """Keep nothing."""

    def update(self, *_: Any) -> None:
        """Show nothing."""

    def stop(self) -> None:
        """Stop nothing."""


def parameters_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Typed sections of two updates with ``settings``: keys of training, and sections ``network`` and ``trading``."""
    own = {name: value for name, value in settings.items() if name not in ("network", "trading")}
    agent = AgentParameters(
        NetworkParameters(**{**NETWORK, **settings.get("network", {})}),
        TrainingParameters(**{**TRAINING, "device": "cpu", "seeds": 1, "workers": 1, **own}),
        TradingParameters(preset="realistic", **settings.get("trading", {})),
    )
    training = replace(agent.training, total_steps=2 * steps_per_update(agent))
    given: dict[str, Any] = {
        "features": {"columns": COLUMNS},
        "cross_validation": {"folds": 1, "first_test": 0.7},
        "regimes": {"states": 2, "memory": 48, "restarts": 1},
        "ingestion": {"sessions_per_year": 252},
    }
    sections = {name: kind(**given.get(name, {})) for name, kind in SECTIONS.items()}
    return sections | {"network": agent.network, "training": training, "trading": agent.trading}


def training_set(plan: MarketPlan, parameters: Mapping[str, Any]) -> TrainingSet:
    """Data of the only fold."""
    assert plan.folds is not None  # noqa: S101 - the bars are enough
    fold, columns = plan.folds.folds[0], parameters["features"].columns
    bars, values = visible_bars(plan.bars, compute_features(plan.bars, columns), fold, plan.folds.spans)
    returns = market_return(plan.bars)
    model = fit_regimes([returns[slice(*rows)] for rows in fold.train], parameters["regimes"], seed=0)
    return TrainingSet(fold, bars, values, columns, model, 252.0, parameters["trading"])


def train(frame: pd.DataFrame, settings: Mapping[str, Any]) -> dict[str, float]:
    """Train and measure, bytes."""
    parameters, problems = parameters_of(settings), []
    plan = plan_market(frame, parameters, {"training"}, problems)
    if plan is None or problems:
        raise SystemExit("\n".join(problems))
    data = training_set(plan, parameters)
    agent = AgentParameters(*(parameters[name] for name in ("network", "training", "trading")))
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    train_member(data, MemberKey(0, 0, 0), agent, Nothing(), Nothing())
    estimate = training_bytes(sizes_of(parameters, plan, {"training"}))
    return {"measured": status("VmHWM") - before, "estimated": estimate}


def status(name: str) -> float:
    """Read a line of the process's status, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * int(next(line for line in lines if line.startswith(name)).split()[1])


def main() -> None:
    """Print the peak of each setting and its estimate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=2)
    parser.add_argument("--settings", type=json.loads, nargs="+", default=[{"windows": 1024}, {"windows": 4096}])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    frame = pd.read_parquet(BARS)
    frame = frame[frame["symbol"].isin(sorted(frame["symbol"].unique())[: arguments.symbols])]
    train(frame, {})
    print(json.dumps([{"settings": given, **train(frame, given)} for given in arguments.settings], indent=2))


if __name__ == "__main__":
    main()
