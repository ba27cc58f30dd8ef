"""What each part of the recipe brings: alone off, and alone on. Writes docs/ablation.md.

    python benchmarks/ablation.py                                  # all parts on ar1, market seeds 0, 1, 2
    python benchmarks/ablation.py --parts entropy members --seeds 0 1 --output data/ablation.md

A part is a row of PARTS: changes that switch it off if the defaults have it, and changes that switch it on if they do
not, or if it needs another part to act. Each part is taken from the defaults or added to them ("alone off"), and added
to nothing, where all parts are off ("alone on"). Parts whose keys the project does not have are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from learning import measure
from sentio_kedro.config import NetworkParameters, TrainingParameters
from sentio_kedro.evaluation.planted import MARKETS, PlantedMarket

OUTPUT = Path(__file__).parents[1] / "docs" / "ablation.md"
SECTIONS = {"network": NetworkParameters, "training": TrainingParameters}


@dataclass(frozen=True)
class Part:
    """One part of the recipe.

    Attributes:
        meaning: What is switched, in a few words.
        off: Changes of the defaults that switch it off; empty if the defaults do without it.
        on: Changes that switch it on where the others are off; empty if it needs none.
    """

    meaning: str
    off: tuple[str, ...] = ()
    on: tuple[str, ...] = ()

    @property
    def default(self) -> bool:
        """Whether the defaults have it."""
        return bool(self.off)


TRANSFORMER = ("network.encoder=transformer",)  # what they are parts of
PARTS = {
    "entropy": Part("strong entropy bonus against 0.003", ("training.entropy=0.003",)),
    "all_action": Part("advantages of all actions against sampled ones", ("training.advantages=sampled",)),
    "resampling": Part("resampled paths against the history", ("training.resampling.block_bars=0",)),
    "random_signs": Part(
        "resampled blocks mirrored at random",
        ("training.resampling.random_signs=false",),
        ("training.resampling.block_bars=128",),
    ),
    "members": Part("two networks that vote against one", ("training.members=1",)),
    "validation": Part("best of five checkpoints against the last", ("training.validations=1",)),
    "convolution": Part("four taps against one", ("network.convolution=1",), TRANSFORMER),
    "attention": Part("a window of 16 bars against 2", ("network.window=2",), TRANSFORMER),
    "regimes": Part("up to three volatility regimes against one", ("regimes.states=1",)),
    "short_horizon": Part("gamma 0.95 against 0.99", ("training.gamma=0.99",)),
    "transformer": Part("transformer against the current bar alone", ("network.encoder=mlp",)),
    "dropout": Part("consistent dropout of 0.1", on=("network.dropout=0.1",)),
    "averaging": Part("moving average of weights, decay 0.9", on=("training.averaging=0.9",)),
    "mirrored": Part("whole paths mirrored at random", on=("training.resampling.mirrored=true",)),
    "noise": Part("noise of a tenth of the volatility on returns", on=("training.resampling.noise=0.1",)),
    "divergence": Part("penalty on divergence, coefficient 1", on=("training.divergence.coefficient=1.0",)),
    "weight_decay": Part("decoupled weight decay of 0.01", on=("training.weight_decay=0.01",)),
}


@dataclass(frozen=True)
class Cell:
    """Shares of the optimum over market seeds, and seconds of training each."""

    shares: tuple[float, ...]
    seconds: float

    def __str__(self) -> str:
        """Median, and worst and best in brackets."""
        return f"{statistics.median(self.shares):.2f} [{min(self.shares):.2f}, {max(self.shares):.2f}]"


def known(part: Part) -> bool:
    """Whether the project has all keys of a part."""
    return all(_has_key(change.partition("=")[0].split(".")) for change in (*part.off, *part.on))


def _has_key(path: Sequence[str]) -> bool:
    """Follow a dotted name through the parameter classes; sections without a class here are taken as given."""
    section = SECTIONS.get(path[0])
    for name in path[1:]:
        if section is None:
            return True
        fields = {field.name for field in dataclasses.fields(section)}
        if name not in fields:
            return False
        section = type(getattr(section(), name)) if dataclasses.is_dataclass(getattr(section(), name)) else None
    return True


def settings(parts: dict[str, Part]) -> dict[str, tuple[str, ...]]:
    """Changes of the defaults by setting: all, none, and each part alone off and alone on."""
    nothing = tuple(change for part in parts.values() for change in part.off)
    table = {"defaults": (), "nothing": nothing}
    for name, part in parts.items():
        others = tuple(change for other, its in parts.items() if other != name for change in its.off)
        table[f"{name} off"] = part.off
        table[f"{name} on"] = (*others, *part.on)
        if not part.default:
            table[f"{name} added"] = part.on
    return table


def cell(market: PlantedMarket, seeds: Sequence[int], changes: Sequence[str]) -> Cell:
    """Measure one setting."""
    results = measure(market, seeds, changes)
    return Cell(
        tuple(result.share_of_optimum for result in results),
        statistics.median(result.seconds for result in results),
    )


def markdown(parts: dict[str, Part], cells: dict[str, Cell], about: str) -> str:
    """Lay the cells out as a document."""
    lines = [
        "# What each part of the recipe brings",
        "",
        f"Generated by `{about}`; do not edit. Cells are the share of the optimum's expected profit on unseen bars:",
        "median [worst, best] over market seeds. `with` and `without` are the defaults with and without the part.",
        "`alone` is the part with all others off. Differences of a few hundredths are luck.",
        "",
        f"All defaults: {cells['defaults']}, {cells['defaults'].seconds:.0f} s of training an agent. "
        f"Every part off: {cells['nothing']}, {cells['nothing'].seconds:.0f} s.",
        "",
        "| part | what it is | with | without | alone | in the defaults |",
        "|---|---|---|---|---|---|",
    ]
    for name, part in parts.items():
        whole = cells["defaults" if part.default else f"{name} added"]
        default = "yes" if part.default else "no"
        without, alone = cells[f"{name} off"], cells[f"{name} on"]
        lines.append(f"| {name} | {part.meaning} | {whole} | {without} | {alone} | {default} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse arguments, measure, write the document."""
    parser = argparse.ArgumentParser(description="Each part of the recipe alone off and alone on.")
    parser.add_argument(
        "--market", default="ar1", choices=[name for name in MARKETS if name != "noise"], help="planted market"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="market seeds")
    parser.add_argument("--parts", nargs="+", default=[*PARTS], choices=[*PARTS], metavar="NAME", help="rows")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="changes of all settings")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="document to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    parts = {name: PARTS[name] for name in arguments.parts if known(PARTS[name])}
    measured: dict[frozenset[str], Cell] = {}
    cells = {}
    for name, changes in settings(parts).items():
        key = frozenset(changes)
        if key not in measured:
            measured[key] = cell(MARKETS[arguments.market], arguments.seeds, (*arguments.set, *changes))
            sys.stderr.write(f"{name}: {measured[key]}\n")
        cells[name] = measured[key]
    about = shlex.join(["python", "benchmarks/ablation.py", *sys.argv[1:]])
    arguments.output.write_text(markdown(parts, cells, about))


if __name__ == "__main__":
    main()
