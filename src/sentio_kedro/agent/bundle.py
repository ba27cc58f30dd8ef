"""An agent as a folder: weights as safetensors, everything else as JSON. Enough to trade from raw bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as pydantic_dataclass
from safetensors.torch import load_file, save_file
from torch import Tensor

from sentio_kedro.agent.forecasting.inputs.history import forecast_inputs
from sentio_kedro.agent.forecasting.rule import ARRAYS, ForecastRule
from sentio_kedro.agent.forecasting.rule import DESCRIPTION as RULE_DESCRIPTION
from sentio_kedro.agent.forecasting.rule_inputs import input_names
from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import PolicyNetwork, build_network, load_network
from sentio_kedro.agent.saving import (
    indexed_folders,
    read_description,
    refuse_non_finite,
    write_description,
    write_index,
)
from sentio_kedro.config import FeatureColumn, NetworkParameters, TradingParameters
from sentio_kedro.config.symbols import unknown_symbols
from sentio_kedro.damage import reading
from sentio_kedro.market.indicators import column_times, compute_features
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.regimes import RegimeModel

FORMAT = 5  # of the description and of the names of the weights
WEIGHTS, DESCRIPTION = "weights.safetensors", "agent.json"
RULE_FILES = (ARRAYS, RULE_DESCRIPTION)
REMEDY = "train the agent again"


@pydantic_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AgentSpec:
    """Description of an agent without its weights.

    Attributes:
        fold: Fold that it was trained on.
        seed: Number of the agent within the fold.
        members: Networks in the ensemble.
        symbols: Assets, in the order of the network.
        periods_per_year: Bars a year of the bars that it was trained on.
        gamma: Discount per bar of the critic's returns.
        required_bars: Bars that reproduce its decision at the last of them (input span I).
        train_start: First bar of its train span, ISO 8601.
        train_end: Last bar of its train or validation span, ISO 8601.
        features: Feature columns in the order of the network; empty if its inputs are those of a forecast rule.
        network: Sizes of the networks.
        trading: Actions, limits and costs.
        regimes: Regime model.
        train_sharpe: Annualised net Sharpe ratio of the ensemble on its latest train rows.
        validation_sharpe: The same on its validation rows.
        hashes: Hashes of ``bars``, ``parameters``, ``code`` and the training code, ``learner``.
        validation_t: t statistic of its mean net return per bar on its validation rows, less the rule's if levels are
            multiples of its position; NaN if unknown.
        rule_sharpe: Annualised net Sharpe ratio of the rule on these rows; NaN without a rule.
        abstains: Whether it follows the rule, or stays flat without one, since ``validation_t`` is not above the
            threshold.
        bars_per_session: Bars a session of the bars that it was trained on; null if unknown.
        own_bars_per_session: The same by calendar, if symbols have calendars of their own.
        missing: ``ingestion.missing`` of the bars that it was trained on: ``halt`` keeps a bar that a symbol lacks,
            ``drop_bar`` drops it for all.
        outside_session: ``ingestion.outside_session`` of these bars: what becomes of a bar outside of all sessions.
        untested: Whether its rule was fitted on all bars, so that none is left that tests it.
        source: Source of these bars, as a store names it; empty if unknown, or if there were several.
        format: Version of this description.
    """

    fold: int
    seed: int
    members: int
    symbols: list[str]
    periods_per_year: float
    gamma: float
    required_bars: int
    train_start: str
    train_end: str
    features: list[FeatureColumn]
    network: NetworkParameters
    trading: TradingParameters
    regimes: dict[str, Any]
    train_sharpe: float
    validation_sharpe: float
    hashes: dict[str, str]
    validation_t: float = math.nan
    rule_sharpe: float = math.nan
    abstains: bool = False
    bars_per_session: float | None = None
    own_bars_per_session: dict[str, float] = Field(default_factory=dict, exclude_if=lambda counts: not counts)
    missing: Literal["drop_bar", "halt"] = "halt"
    outside_session: Literal["refuse", "drop", "keep"] = "refuse"
    untested: bool = False
    source: str = Field(default="", exclude_if=lambda source: not source)
    format: int = FORMAT

    @property
    def fixed_level(self) -> float:
        """Level that it takes at every bar: of the rule or flat if it abstains; NaN lets its networks decide."""
        if not self.abstains:
            return math.nan
        return 1.0 if self.trading.unit == "rule" else 0.0


SPEC = TypeAdapter(AgentSpec)


@dataclass(frozen=True)
class AgentBundle:
    """A trained agent.

    Attributes:
        spec: Its description.
        weights: One state dict per member.
        rule: The forecast rule whose position its levels are multiples of; null without one.
    """

    spec: AgentSpec
    weights: tuple[dict[str, Tensor], ...]
    rule: ForecastRule | None = None

    @property
    def name(self) -> str:
        """Key of the agent in the catalog."""
        return f"fold_{self.spec.fold}/seed_{self.spec.seed}"

    def inputs(self, bars: AlignedBars) -> Floats:
        """Compute its features ``[T, A, F]`` of bars T x A, or the columns that its rule forecasts from."""
        if self.rule is None:
            times = column_times(bars.timestamps, self.spec.features, self.spec.trading.calendar)
            return compute_features(bars, self.spec.features, times)
        return np.asarray(forecast_inputs(bars, self.rule.minutes).values, np.float64)

    def regime_model(self) -> RegimeModel:
        """Return the regime model."""
        return RegimeModel.from_dict(self.spec.regimes)

    def shape(self) -> NetworkShape:
        """Return the network sizes that the data fix."""
        return NetworkShape(
            features=len(self.spec.features if self.rule is None else input_names(self.rule.segments)),
            assets=len(self.spec.symbols),
            regimes=self.regime_model().states,
            actions=len(self.spec.trading.levels),
            followed=self.spec.trading.levels.index(1.0) if self.spec.trading.unit == "rule" else None,
        )

    def networks(self, dtype: torch.dtype) -> list[PolicyNetwork]:
        """Return the members' networks in evaluation mode."""
        members = []
        for weights in self.weights:
            network = load_network(self.spec.network, self.shape(), weights)
            members.append(network.to(dtype).eval().requires_grad_(requires_grad=False))
        return members

    def save(self, folder: Path) -> None:
        """Write the bundle into ``folder``.

        Raises:
            DamagedFileError: If a weight is not finite.
        """
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"member_{index}.{name}": value.detach().cpu().contiguous()
            for index, weights in enumerate(self.weights)
            for name, value in weights.items()
        }
        refuse_non_finite(f"The weights of agent `{self.name}`", _non_finite(tensors), "lower `training.learning_rate`")
        save_file(tensors, folder / WEIGHTS)
        if self.rule is not None:
            self.rule.save(folder)
        files = [WEIGHTS, *(RULE_FILES if self.rule is not None else ())]
        write_description(folder / DESCRIPTION, SPEC.dump_python(self.spec, mode="json"), files)

    @classmethod
    def load(cls, folder: Path) -> AgentBundle:
        """Read a bundle.

        Raises:
            FileNotFoundError: If ``folder`` is not an agent.
            DamagedFileError: If the agent was written in another format, or a file is not the one that was saved.
        """
        missing = [name for name in (DESCRIPTION, WEIGHTS) if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"`{folder}` is not an agent: {' and '.join(missing)} missing; name a folder like "
                "06_models/agents/fold_0/seed_0."
            )
        description = read_description(folder / DESCRIPTION, FORMAT, [WEIGHTS], REMEDY)
        with reading(folder / DESCRIPTION, REMEDY):
            spec = SPEC.validate_python(description)
            RegimeModel.from_dict(spec.regimes)
        rule = ForecastRule.load(folder) if spec.trading.unit == "rule" else None
        with reading(folder / WEIGHTS, REMEDY):
            tensors = load_file(folder / WEIGHTS)
            refuse_non_finite(f"`{folder / WEIGHTS}`", _non_finite(tensors), REMEDY)
            bundle = cls(spec, tuple(_of_member(tensors, member) for member in range(spec.members)), rule)
            bundle.refuse_other_weights()
        return bundle

    def refuse_other_weights(self) -> None:
        """Refuse weights that are not those of its networks.

        Raises:
            ValueError: With the first names whose weights are missing, too many or of another shape.
        """
        network = build_network(self.spec.network, self.shape(), torch.Generator().manual_seed(0))
        expected = {name: value.shape for name, value in network.state_dict().items()}
        for member, weights in enumerate(self.weights):
            shapes = {name: value.shape for name, value in weights.items()}
            other = [name for name in sorted(expected | shapes) if expected.get(name) != shapes.get(name)]
            if other:
                raise ValueError(f"weights of member {member} are not those of the network: {', '.join(other[:3])}")


def _non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    return [name for name, value in tensors.items() if not bool(value.isfinite().all())]


def _of_member(tensors: Mapping[str, Tensor], member: int) -> dict[str, Tensor]:
    prefix = f"member_{member}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def save_agents(agents: Mapping[str, AgentBundle], root: Path) -> None:
    """Write agents into the folders of ``root`` that their names say, with an index."""
    for name, agent in agents.items():
        agent.save(root / name)
    write_index(root, DESCRIPTION)


def load_agents(root: Path) -> dict[str, AgentBundle]:
    """Read what ``save_agents`` wrote, ordered by name.

    Raises:
        DamagedFileError: If an agent is missing, was added or changed.
    """
    return {name: AgentBundle.load(folder) for name, folder in indexed_folders(root, DESCRIPTION, REMEDY).items()}


def refuse_seen_bars(spec: AgentSpec, first: str, last: str) -> None:
    """Refuse to test an agent on bars of its train span.

    Args:
        spec: The agent.
        first: First bar to be traded, ISO 8601 in UTC.
        last: Last bar to be traded.

    Raises:
        ValueError: If [first, last] overlaps the agent's train span.
    """
    if first <= spec.train_end and last >= spec.train_start:
        raise ValueError(
            f"Agent fold_{spec.fold}/seed_{spec.seed} was trained on bars from {spec.train_start} to {spec.train_end}; "
            f"the rows to test run from {first} to {last} and overlap them. Give bars that begin after "
            f"{spec.train_end}, with {spec.required_bars} earlier bars for its features at most."
        )


def same_symbols(bundles: Sequence[AgentBundle], symbols: Sequence[str]) -> None:
    """Refuse bars whose symbols are not the agents'.

    Raises:
        ValueError: If an agent trades other symbols.
    """
    for bundle in bundles:
        if list(symbols) != bundle.spec.symbols:
            unknown = unknown_symbols(symbols, bundle.spec.symbols)
            raise ValueError(
                f"Agent {bundle.name} trades {bundle.spec.symbols}, the bars hold "
                f"{f'{unknown} too' if unknown else list(symbols)}; give bars of the same symbols."
            )
