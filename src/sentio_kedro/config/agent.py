"""The sections that shape an agent, checked against each other."""

from __future__ import annotations

from dataclasses import dataclass

from sentio_kedro.config.network import NetworkParameters
from sentio_kedro.config.trading import TradingParameters
from sentio_kedro.config.training import TrainingParameters


@dataclass(frozen=True)
class AgentParameters:
    """The sections that shape an agent.

    Attributes:
        network: Size and parts of the network.
        training: Training.
        trading: Limits and costs of its accounts.
    """

    network: NetworkParameters
    training: TrainingParameters
    trading: TradingParameters

    def __post_init__(self) -> None:
        """Refuse half a learner, and stacked members whose layers are checkpointed.

        Raises:
            ValueError: If ``network.variant`` and ``training.variant`` differ, or if ``training.population`` is
                ``stacked`` while ``network.checkpoint_layers`` is on.
        """
        if self.network.variant != self.training.variant:
            raise ValueError(
                f"`network.variant` and `training.variant` must be the same learner, were {self.network.variant} and "
                f"{self.training.variant}; set both, and single keys where they should differ."
            )
        if self.training.population == "stacked" and self.network.checkpoint_layers:
            raise ValueError(
                "`training.population: stacked` cannot compute layers again for the gradient; set "
                "`network.checkpoint_layers: false` and raise `training.accumulation` to save memory, or set "
                "`training.population: alone`."
            )
