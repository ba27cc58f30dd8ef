"""How large a run is: the numbers that decide what it needs, read from parameters and bars."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sentio_kedro.config import SearchParameters, TrainingParameters
from sentio_kedro.market.purged_folds import count_rows
from sentio_kedro.preflight.market import LEARNT, MarketPlan


@dataclass(frozen=True)
class Sizes:
    """Numbers that decide what a run needs. Those of ``PARAMETERS`` are values of parameters.

    Attributes:
        bars: Bars T of the grid.
        assets: Assets A.
        states: Regimes K.
        folds: Folds.
        validation: Validation rows of the largest fold.
        tested: Test rows of all folds.
        inputs: Feature columns F.
        workers: Agents that train at once.
        parts: Parts of a rollout whose loss is computed one after the other.
        sampled: Whether accounts sample actions, instead of all actions being valued.
        attends: Whether the encoder is a transformer.
        levels: Levels of a position.
        replicas: Accounts per window when actions are sampled.
        total_steps: Account-bars of a member.
        seeds: Agents of a fold.
        members: Networks of an agent.
        windows: Windows W of a rollout.
        episode_bars: Decisions of a window.
        width: Width of the embedding.
        layers: Layers of the encoder.
        heads: Attention heads.
        window: Bars that a layer sees.
        convolution: Taps of the convolution.
        hidden: Width of the account head.
        quantiles: Quantiles of the critic.
        drawdown_sessions: Sessions that an account remembers, 0 without a limit on drawdown.
        paths: Bootstrapped paths of the stress tests.
        bootstrap_samples: Resamples of the report.
        forecast_workers: Folds whose forecasts are fitted at once.
    """

    bars: int
    assets: int
    states: int
    folds: int
    validation: int
    tested: int
    inputs: int
    workers: int
    parts: int
    sampled: bool
    attends: bool
    levels: int
    replicas: int
    total_steps: int
    seeds: int
    members: int
    windows: int
    episode_bars: int
    width: int
    layers: int
    heads: int
    window: int
    convolution: int
    hidden: int
    quantiles: int
    drawdown_sessions: int
    paths: int
    bootstrap_samples: int
    forecast_workers: int

    @property
    def accounts(self) -> int:
        """Accounts per window of a rollout: the replicas, or one per level."""
        return self.replicas if self.sampled else self.levels

    @property
    def updates(self) -> int:
        """Updates of a member, as ``schedules.count_updates`` counts them."""
        return max(1, round(self.total_steps / (self.windows * self.accounts * self.episode_bars)))

    @property
    def agents(self) -> int:
        """Agents of all folds."""
        return self.folds * self.seeds

    @property
    def context(self) -> int:
        """Bars that an embedding reads before its own."""
        return self.layers * (self.window - 1) + self.convolution - 1 if self.attends else 0

    @property
    def weights(self) -> int:
        """Weights of one network, biases left out."""
        branches = (8 if self.assets > 1 else 4) if self.attends else 0
        encoder = self.width * (self.inputs + self.layers * self.width * (4 + branches))
        return encoder + self.hidden * (self.width + self.states * (1 + self.levels) + self.quantiles)


PARAMETERS = {
    "windows": "training.windows",
    "episode_bars": "training.episode_bars",
    "replicas": "training.replicas",
    "total_steps": "training.total_steps",
    "members": "training.members",
    "seeds": "training.seeds",
    "width": "network.width",
    "layers": "network.layers",
    "hidden": "network.hidden",
    "quantiles": "network.quantiles",
    "window": "network.window",
    "convolution": "network.convolution",
    "drawdown_sessions": "trading.drawdown_sessions",
    "paths": "backtest.robustness.paths",
    "bootstrap_samples": "reporting.bootstrap_samples",
}
"""Sizes that a user sets, and their names; the order is that in which remedies name them."""


OF_TRAINING = ("total_steps", "seeds", "members", "windows", "episode_bars", "replicas")
OF_NETWORK = ("width", "layers", "heads", "window", "convolution", "hidden", "quantiles")


def _largest_searched(search: SearchParameters) -> dict[str, int]:
    """Return the largest value of each size that a search may propose."""
    largest = {}
    for name, values in search.ranges.items():
        proposed = [value for value in (values.high, *(values.choices or ())) if isinstance(value, int | float)]
        field = name.partition(".")[2]
        if field in (*OF_TRAINING, *OF_NETWORK) and proposed:
            largest[field] = int(max(proposed))
    return largest


def sizes_of(parameters: Mapping[str, Any], plan: MarketPlan, running: Collection[str]) -> Sizes:
    """Read the sizes of a run of the pipelines ``running`` from typed sections and the plan of its bars.

    Raises:
        ValueError: If agents are to be trained on a device that is not there.
    """
    network, training, trading = (parameters[name] for name in ("network", "training", "trading"))
    searched = _largest_searched(parameters["search"]) if "search" in running else {}
    bars, folds = plan.bars, plan.folds.folds if plan.folds is not None else ()
    return Sizes(
        bars=len(bars.timestamps),
        assets=len(bars.symbols),
        states=parameters["regimes"].states,
        folds=len(folds),
        validation=max((count_rows(fold.validation) for fold in folds), default=0),
        tested=sum(count_rows(fold.test) for fold in folds),
        inputs=len(parameters["features"].columns),
        workers=0 if LEARNT.isdisjoint(running) else _workers(training, max(1, len(folds) * training.seeds)),
        parts=training.minibatches * training.accumulation,
        sampled=training.advantages == "sampled",
        attends=network.encoder == "transformer",
        levels=len(trading.levels),
        **{name: searched.get(name, getattr(training, name)) for name in OF_TRAINING},
        **{name: searched.get(name, getattr(network, name)) for name in OF_NETWORK},
        drawdown_sessions=(trading.drawdown_sessions or 0) if trading.max_drawdown is not None else 0,
        paths=parameters["backtest"].robustness.paths or 0,
        bootstrap_samples=parameters["reporting"].bootstrap_samples,
        forecast_workers=parameters["forecasting"].workers,
    )


def _workers(training: TrainingParameters, agents: int) -> int:
    from sentio_kedro.agent.training.population import count_workers  # noqa: PLC0415 - torch; only training needs it

    return count_workers(training, agents)
