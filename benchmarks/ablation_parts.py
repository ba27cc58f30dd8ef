"""The parts of the recipe that benchmarks/ablation.py takes away and adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

Changes = tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """One part of the recipe.

    Attributes:
        meaning: What is switched, in a few words.
        off: Changes of the defaults that switch it off; empty if the defaults do without it.
        on: Changes that switch it on where the others are off; empty if it needs none.
        within: Changes of both sides, where a part acts only with something that the defaults do not have.
        assets: Whether it needs several assets to make a difference.
    """

    meaning: str
    off: Changes = ()
    on: Changes = ()
    within: Changes = ()
    assets: bool = False

    @property
    def default(self) -> bool:
        """Whether the defaults have it."""
        return bool(self.off)


class Sides(NamedTuple):
    """Changes of the defaults with a part, without it, and with it alone."""

    with_it: Changes
    without: Changes
    alone: Changes

    def after(self, changes: Sequence[str]) -> Sides:
        """Put ``changes`` in front of each."""
        return Sides(*((*changes, *side) for side in self))


TRANSFORMER = ("network.encoder=transformer",)  # what they are parts of
SAMPLED = ("training.advantages=sampled",)
PARTS = {
    # objective
    "all_action": Part("advantages of all actions against sampled ones", SAMPLED),
    "path_baseline": Part(
        "market-path baseline, advantages sampled", ("training.path_baseline=false",), within=SAMPLED
    ),
    "greedy_exponent": Part("later decisions valued as traded against as explored", ("training.greedy_exponent=1",)),
    "entropy": Part("strong entropy bonus against 0.003", ("training.entropy=0.003",)),
    "short_horizon": Part("gamma 0.9 against 0.99", ("training.gamma=0.99",)),
    "divergence": Part("penalty on divergence, coefficient 1", on=("training.divergence.coefficient=1.0",)),
    "trust_region": Part(
        "updates beyond a divergence of 0.03, or worse than before, halved or undone",
        on=("training.divergence.max_kl=0.03", "training.divergence.halvings=3"),
    ),
    "tail_limit": Part(
        "worst 5 % of episodes held to -3 %", on=("training.advantages=all_action", "training.tail.limit=0.03")
    ),
    # critic
    "quantiles": Part("critic of 51 quantiles against one value", ("network.quantiles=1",)),
    "distribution": Part(
        "quantiles of a single account's return against those of the mean, advantages sampled",
        on=("network.quantiles=51", "training.critic_target=distribution"), within=SAMPLED,
    ),
    # encoder and head
    "screening": Part("columns that a sparse regression keeps against all", ("training.screening=null",)),
    "transformer": Part("transformer against the current bar alone", ("network.encoder=mlp",)),
    "convolution": Part("four taps against one", ("network.convolution=1",), TRANSFORMER),
    "attention": Part("a window of 16 bars against 2", ("network.window=2",), TRANSFORMER),
    "regimes": Part("up to three volatility regimes against one", ("regimes.states=1",)),
    "regime_experts": Part(
        "a policy per regime against one of as many parameters",
        ("network.regime_experts=false",), ("regimes.states=3",),
    ),
    "asset_identity": Part("a gain and an offset per asset", on=("network.asset_identity=true",), assets=True),
    # paths and members
    "resampling": Part("resampled paths against the history", ("training.resampling.block_bars=null",)),
    "mirror_blocks": Part(
        "resampled blocks mirrored at random",
        ("training.resampling.mirror_blocks=false",), ("training.resampling.block_bars=128",),
    ),
    "flip_invariant": Part("invariant features flipped with blocks", ("training.resampling.flip_invariant=false",)),
    "detrended": Part("paths without the train rows' mean return", on=("training.resampling.detrended=true",)),
    "members": Part("four networks that vote against one", ("training.members=1",)),
    "two_members": Part("two networks that vote", on=("training.members=2",)),
    "eight_members": Part("eight networks that vote", on=("training.members=8",)),
    # weights
    "dropout": Part("consistent dropout of 0.1", on=("network.dropout=0.1",)),
    "weight_decay": Part("decoupled weight decay of 0.01", on=("training.weight_decay=0.01",)),
    "validation": Part("five validations against the last weights", ("training.validations=1",)),
    "selection_margin": Part(
        "latest weights unless clearly worse against the best score", ("training.selection_margin=0",)
    ),
    "abstention": Part("flat unless the validation rows' t exceeds 1", on=("training.abstention.threshold=1",)),
}  # fmt: skip


def nothing(but: str | None = None) -> Changes:
    """Changes that switch every part off, or every part but one."""
    return tuple(change for name, part in PARTS.items() if name != but for change in part.off)


def sides(name: str) -> Sides:
    """Changes of the defaults with a part, without it, and with it alone."""
    part = PARTS[name]
    alone = (*nothing(name), *part.within, *part.on)
    if part.default:
        return Sides(part.within, (*part.within, *part.off), alone)
    return Sides((*part.within, *part.on), part.within, alone)
