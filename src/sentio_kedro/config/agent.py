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
            ValueError: If ``network.variant``, ``training.variant`` and ``trading.unit`` do not fit each other, a key
                does not fit levels of the rule, or if ``training.advantages`` is ``all_action`` while a stop or target
                is set: they depend on entry prices, which its positions lack.
        """
        if self.network.variant != self.training.variant:
            raise ValueError(
                f"`network.variant` and `training.variant` must be the same learner, were {self.network.variant} and "
                f"{self.training.variant}; set both, and single keys where they should differ."
            )
        if (self.trading.unit == "rule") != (self.training.variant == "forecasts"):
            raise ValueError(
                f"`trading.unit` must be rule with `training.variant: forecasts` and allocation without it, was "
                f"{self.trading.unit} with {self.training.variant}; set `trading.unit`, `network.variant` and "
                "`training.variant` together."
            )
        if self.trading.unit == "rule":
            _require_rule_learner(self.network, self.training)
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


def _require_rule_learner(network: NetworkParameters, training: TrainingParameters) -> None:
    """Refuse settings that need features of their own, or paths on which there are no forecasts."""
    checks = (
        ("network.encoder", network.encoder, "mlp", "forecasts hold what is known of the past"),
        (
            "training.advantages",
            training.advantages,
            "all_action",
            "sampled accounts open at levels of the allocation",
        ),
        ("training.block_bars", training.block_bars, None, "resampled paths have no forecasts"),
    )
    for name, value, needed, reason in checks:
        if value != needed:
            text = "null" if needed is None else str(needed).lower()
            raise ValueError(
                f"`{name}` must be {text} with `trading.unit: rule` ({reason}), was {value}; set it, or "
                "`trading.unit: allocation`."
            )
