"""Which agents trade: the environment's own, or a version of the registered model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sentio_kedro.config.live.trader import TraderParameters

if TYPE_CHECKING:
    from sentio_kedro.agent.bundle import AgentBundle


class ChosenAgents(NamedTuple):
    """Agents of one fold, which decide as one.

    Attributes:
        agents: In order of their seeds.
        name: For the journal: ``fold_3 of the environment`` or ``sentio_kedro/7 (champion)``.
        version: Version of the registered model; empty if they are the environment's own.
    """

    agents: list[AgentBundle]
    name: str
    version: str = ""


def require_source(trained: str, feed: str, named: str | None) -> str:
    """Refuse a feed of another source than that of the bars that agents were trained on.

    Args:
        trained: Source of those bars; empty if unknown.
        feed: The feed's own.
        named: What the feed counts as by ``trader.feed.source``; null is its own.

    Returns:
        What a person should know; empty if there is nothing.

    Raises:
        ValueError: If it is another.
    """
    if not trained and not named:
        return (
            f"The agents do not say which source they were trained on; the feed is {feed}. Volumes and prices of "
            "another venue are other features: download bars of the feed and train on them, or name the source of "
            "the agents' bars in `trader.feed.source` if they are the same."
        )
    if not trained:
        return ""
    if trained != (named or feed):
        raise ValueError(
            f"The agents were trained on bars of {trained}, the feed is {named or feed}: its volumes and prices are "
            f"other features. Train on bars of the feed, or set `trader.feed.source: {trained}` if they are the same."
        )
    return ""


def own_agents(agents: Mapping[str, AgentBundle], fold: int | None) -> ChosenAgents:
    """Take the agents of a fold of the environment, by default the last.

    Raises:
        ValueError: If there are none of that fold.
    """
    from sentio_kedro.serving.newest import choose_agents  # noqa: PLC0415 - torch

    chosen = choose_agents(agents, fold, "trader.fold")
    return ChosenAgents(chosen, f"fold_{chosen[0].spec.fold} of the environment")


def registered_agents(
    parameters: TraderParameters, model: str | None, ledger: Sequence[Mapping[str, Any]]
) -> ChosenAgents:
    """Load the agents of an alias or a version from MLflow.

    In mode ``live`` the champion must have been promoted by the gates: an alias that was moved by hand does not trade.

    Args:
        parameters: ``model`` names the alias or version.
        model: Name of the registered model.
        ledger: Decisions of promotion and rollback, in order.

    Raises:
        ValueError: If there is no such version, or it may not trade with money.
    """
    from sentio_kedro.tracking.candidates import load_agents  # noqa: PLC0415 - mlflow
    from sentio_kedro.tracking.registry import aliases, line_of_champions  # noqa: PLC0415
    from sentio_kedro.tracking.runs import readable_store  # noqa: PLC0415

    if model is None:
        raise ValueError("`registry.model` must name the registered model, was null; name it, then train and promote.")
    with readable_store("nothing was traded"):
        named = aliases(model)
        version = parameters.model if parameters.model.isdigit() else named.get(parameters.model)
        if version is None:
            raise ValueError(
                f"`trader.model` must be agents, an alias of `{model}` or a version's number, was "
                f"{parameters.model!r}; its aliases are {sorted(named) or 'none'}: `kedro run --pipeline promotion` "
                "makes a champion."
            )
        line = line_of_champions(ledger, model)
        if parameters.mode == "live" and (not line or line[-1] != version):
            raise ValueError(
                f"Version {version} of `{model}` must be promoted to trade in mode live; the record of promotions ends "
                f"with {line[-1] if line else 'none'}: `kedro run --pipeline promotion`."
            )
        agents = sorted(load_agents(model, version), key=lambda agent: agent.spec.seed)
    alias = "" if parameters.model.isdigit() else f" ({parameters.model})"
    return ChosenAgents(agents, f"{model}/{version}{alias}", version)
