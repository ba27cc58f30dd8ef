"""What each part of the recipe brings: alone off, and alone on. Writes docs/ablation.md.

    python benchmarks/ablation.py --jobs 2                         # all parts on ar1, market seeds 0, 1, 2
    python benchmarks/ablation.py --parts entropy members          # some of them
    python benchmarks/ablation.py --market assets20 --parts asset_identity
    python benchmarks/ablation.py --render                         # the document alone, from what has been measured

A part is a row of PARTS: changes that switch it off if the defaults have it, and changes that switch it on if they do
not, or if it needs another part to act. Each part is taken from the defaults or added to them ("alone off"), and added
to nothing, where all parts are off ("alone on").

Every agent that was trained is a line of benchmarks/results/ablation.jsonl, identified by market, seed and all of its
settings. What is there is not trained again, so that a run can be stopped and typed again. Lines of other settings stay
in the file and are left out of the document: a changed default measures anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

import sentio_kedro
from ablation_page import page
from ablation_parts import PARTS, Sides, nothing, sides
from learning import measure, read_parameters
from planted.catalogue import MARKETS
from sentio_kedro.manifests import code_hash

ROOT = Path(__file__).parents[1]
RESULTS, OUTPUT = ROOT / "benchmarks" / "results" / "ablation.jsonl", ROOT / "docs" / "ablation.md"
CODE = code_hash(Path(sentio_kedro.__file__).parent)
Key = tuple[str, str, int]
"""Market, digest of the settings, market seed."""


@dataclass(frozen=True)
class Training:
    """One agent to train.

    Attributes:
        market: Planted market.
        changes: Changes of the defaults.
        seed: Market seed.
    """

    market: str
    changes: tuple[str, ...]
    seed: int

    @property
    def key(self) -> Key:
        """Market, digest of the settings, market seed."""
        return self.market, digest(self.market, self.changes), self.seed


@cache
def digest(market: str, changes: tuple[str, ...]) -> str:
    """SHA-256 of all parameters, defaults filled in, so that it follows what is trained and not how it was named."""
    features, regimes, agent = read_parameters(MARKETS[market].cost_bps, changes)
    sections = (features, regimes, agent.network, agent.training, agent.trading)
    plain = [TypeAdapter(type(section)).dump_python(section, mode="json") for section in sections]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def train(training: Training) -> dict[str, Any]:
    """Train one agent and return its share of the optimum."""
    (result,) = measure(MARKETS[training.market], [training.seed], training.changes)
    market, settings, seed = training.key
    record = {"market": market, "settings": settings, "seed": seed, "changes": list(training.changes)}
    return record | {"share": result.share_of_optimum, "seconds": round(result.seconds, 1), "code": CODE}


def read(path: Path) -> dict[Key, dict[str, Any]]:
    """Read what has been measured; of the same training measured twice the last line counts."""
    lines = path.read_text().splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines]
    return {(record["market"], record["settings"], record["seed"]): record for record in records}


def run(wanted: Sequence[Training], path: Path, jobs: int, threads: int) -> None:
    """Train what has not been measured, and append each result as it comes."""
    done = read(path)
    missing = list({training.key: training for training in wanted if training.key not in done}.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    for count, record in enumerate(_results(missing, jobs, threads), start=1):
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        result = f"{' '.join(record['changes']) or 'defaults'}, seed {record['seed']}: {record['share']:.3f}"
        sys.stderr.write(f"{count} of {len(missing)}, {record['seconds']:.0f} s, {result}\n")


def _results(missing: Sequence[Training], jobs: int, threads: int) -> Iterator[dict[str, Any]]:
    if jobs == 1:
        torch.set_num_threads(threads)
        yield from map(train, missing)
        return
    context = multiprocessing.get_context("spawn")  # a forked torch may hang
    pool = ProcessPoolExecutor(jobs, context, initializer=torch.set_num_threads, initargs=(threads,))
    try:
        for future in as_completed([pool.submit(train, training) for training in missing]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def settings(market: str, names: Sequence[str], changes: Sequence[str]) -> dict[str, Sides]:
    """Changes of the defaults by row, those that all settings share in front; parts that need assets only with them."""
    chosen = [name for name in names if MARKETS[market].law.assets > 1 or not PARTS[name].assets]
    return {name: sides(name).after(changes) for name in chosen}


def main() -> None:
    """Parse arguments, measure, write the document."""
    parser = argparse.ArgumentParser(description="Each part of the recipe alone off and alone on.")
    parser.add_argument(
        "--market", default="ar1", choices=[name for name in MARKETS if name != "noise"], help="planted market"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="market seeds")
    parser.add_argument("--parts", nargs="+", default=[*PARTS], choices=[*PARTS], metavar="NAME", help="rows")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="changes of all settings")
    parser.add_argument("--jobs", type=int, default=1, help="agents trained at once")
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of measurements")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="document to write")
    arguments = parser.parse_args()
    reference = {"defaults": tuple(arguments.set), "nothing": (*arguments.set, *nothing())}
    if not arguments.render:
        rows = settings(arguments.market, arguments.parts, arguments.set).values()
        requested = [*reference.values(), *(changes for row in rows for changes in row)]
        wanted = [Training(arguments.market, changes, seed) for changes in requested for seed in arguments.seeds]
        run(wanted, arguments.results, arguments.jobs, arguments.threads)
    arguments.output.write_text(document(read(arguments.results), arguments.seeds, arguments.set))


def document(done: Mapping[Key, dict[str, Any]], seeds: Sequence[int], changes: Sequence[str]) -> str:
    """Lay out what has been measured with the present settings, one table per market."""
    tables: dict[str, Any] = {}
    for market in MARKETS:
        if not any(key[0] == market for key in done):
            continue

        def cell(side: Sequence[str], market: str = market) -> list[dict[str, Any]]:
            keys = [Training(market, tuple(side), seed).key for seed in seeds]
            return [done[key] for key in keys if key in done]

        rows = {name: [cell(side) for side in row] for name, row in settings(market, [*PARTS], changes).items()}
        tables[market] = {"defaults": cell(changes), "nothing": cell([*changes, *nothing()]), "rows": rows}
    return page(tables, seeds, changes)


if __name__ == "__main__":
    main()
