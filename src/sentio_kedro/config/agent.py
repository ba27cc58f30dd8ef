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
        """Refuse half a learner, and orders that a learner cannot value.

        Raises:
            ValueError: If ``network.variant`` and ``training.variant`` differ, or if ``training.advantages`` is
                ``all_action`` while a stop or target is set: they depend on entry prices, which its positions lack.
        """
        if self.network.variant != self.training.variant:
            raise ValueError(
                f"`network.variant` and `training.variant` must be the same learner, were {self.network.variant} and "
                f"{self.training.variant}; set both, and single keys where they should differ."
            )
        orders = self.trading.orders
        exits = {
            f"trading.orders.{name}": value
            for name, value in (("stop_loss", orders.stop_loss), ("take_profit", orders.take_profit))
            if value is not None
        }
        if exits and self.training.advantages == "all_action":
            given = " and ".join(f"`{name}` = {value:g}" for name, value in exits.items())
            raise ValueError(
                f"`training.advantages: all_action` cannot value {given}: such exits depend on the entry price, and "
                "its positions have none; set `training.advantages: sampled`, or switch them off."
            )
