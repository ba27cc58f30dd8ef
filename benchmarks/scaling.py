"""Cost of an update as the workload grows: bars, replicas, attention window, layers. Prints JSON.

Each size is doubled while the others stay: 4 windows of 512 bars, 16 replicas, window 64, 2 layers, the rest as in the
standard workload of `workload.py`, one pass, eager, on one thread. Processor seconds count, the minimum of some runs,
of a rollout, of an update, and of encoding a path of 8 windows' bars. The exponent is the slope of a straight line
through the logarithms of sizes and seconds: 1 is linear. The second exponent is that of the last doubling, where fixed
costs weigh least.

    python benchmarks/scaling.py                                   # JSON alone
    python benchmarks/scaling.py --json figures.json --docs docs   # and the page docs/scaling.md with its plot
    python benchmarks/scaling.py --from figures.json --docs docs   # the page from figures measured before
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

from log_plot import log_plot
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.agent.ppo.learners import make_learner
from sentio_kedro.agent.ppo.update import Coefficients, update
from sentio_kedro.agent.training.allocator import keep_freed_memory
from sentio_kedro.config import AgentParameters
from workload import LearningRun, Workload, standard_workload

BASE = {"bars": 512, "replicas": 16, "window": 64, "layers": 2}
SIZES = {
    "bars": (128, 256, 512, 1024),
    "replicas": (16, 32, 64, 128),
    "window": (16, 32, 64, 128),
    "layers": (1, 2, 4, 8),
}
PARTS = ("rollout", "update", "path")


def workload(bars: int, replicas: int, window: int, layers: int) -> Workload:
    """The standard workload in other sizes."""
    start = standard_workload("enhanced", replicas)
    training = replace(start.parameters.training, windows=4, episode_bars=bars, epochs=1)
    network = replace(start.parameters.network, window=window, layers=layers)
    return start._replace(parameters=AgentParameters(network, training, start.parameters.trading))


def _seconds(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    began = time.process_time()
    result = function(*arguments)
    return time.process_time() - began, result


def once(run: LearningRun) -> dict[str, float]:
    """Processor seconds of one rollout, one update, and one encoding of a path 8 times as long as a window."""
    network, training, learner = run.member.network, run.parameters.training, make_learner(run.parameters)
    weights = Coefficients(run.member.penalty, run.member.penalty)
    windows = run.windows()
    draws = learner.draw(windows, run.generator)
    path = run.market.features[None, : 8 * training.episode_bars]
    with torch.no_grad():
        encoding, _ = _seconds(network.encoder, path, path.shape[1])
    rollout, experience = _seconds(learner.collect, network, windows, draws)
    targets = learner.estimate(network, windows, experience, draws, None).targets

    def loss(index: torch.Tensor) -> Any:
        return learner.loss(network, windows, experience, targets, index, weights)

    learning, _ = _seconds(update, network, run.member.optimiser, loss, training.windows, training, run.generator)
    return {"rollout": rollout, "update": learning, "path": encoding}


def cost(sizes: dict[str, int], runs: int) -> dict[str, float]:
    """Least processor seconds of each part over ``runs`` runs behind a first one."""
    run = LearningRun(workload(**sizes), torch.device("cpu"))
    rows = [once(run) for _ in range(runs + 1)][1:]
    minimum = {part: min(row[part] for row in rows) for part in PARTS}
    return {**minimum, "context_bars": float(receptive_field(run.parameters.network) - 1)}


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Least-squares slope of log seconds over log sizes."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in seconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    products = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return products / sum((a - mean_x) ** 2 for a in x)


def measure(runs: int) -> dict[str, Any]:
    """Costs of all sizes, and their exponents."""
    results: dict[str, Any] = {}
    for name, sizes in SIZES.items():
        rows = [{"size": size, **cost(BASE | {name: size}, runs)} for size in sizes]
        ends = {part: [row[part] for row in rows] for part in PARTS}
        results[name] = {
            "rows": rows,
            "exponent": {part: slope(list(sizes), ends[part]) for part in PARTS},
            "last_doubling": {part: slope(list(sizes[-2:]), ends[part][-2:]) for part in PARTS},
        }
    return results


TEXT = """# What an update costs as it grows

Written by `.venv/bin/python benchmarks/scaling.py --json scaling.json --docs docs`. Processor seconds on one thread,
not compiled, of the learner `enhanced` at realistic costs and masks: a rollout, one pass of the update, and an
encoding of a path of 8 windows without gradient. One size grows while the others stay at {bars} bars, {replicas}
replicas, window {window} and {layers} layers, in 4 windows. An exponent of 1 is linear; below it, fixed costs are
shared. The second exponent of the update is that of the last doubling.

![Seconds of an update over its sizes](images/scaling.svg)

| grows | sizes | rollout, s | update, s | path, s | exponents: rollout | update | path |
|---|---|---|---|---|---|---|---|
{rows}

The encoder's cost of a bar is linear in layers and window. In training every window also encodes the context of its
embeddings, L (W - 1) + k - 1 bars. A deep network on short windows pays for that context; longer windows
(`training.episode_bars`) share it.
"""


def page(results: dict[str, Any]) -> str:
    """The page docs/scaling.md."""
    rows = []
    for name, of in results.items():
        columns = [", ".join(f"{row[part]:.3f}" for row in of["rows"]) for part in PARTS]
        exponents, last = of["exponent"], of["last_doubling"]["update"]
        sizes = ", ".join(str(row["size"]) for row in of["rows"])
        slopes = f"{exponents['rollout']:.2f} | {exponents['update']:.2f}, {last:.2f} | {exponents['path']:.2f}"
        rows.append(f"| {name} | {sizes} | {' | '.join(columns)} | {slopes} |")
    return TEXT.format(rows="\n".join(rows), **BASE)


def write_page(results: dict[str, Any], docs: Path) -> None:
    """Write the page and its plot."""
    curves = {
        name: [(row["size"] / of["rows"][0]["size"], row["update"] / of["rows"][0]["update"]) for row in of["rows"]]
        for name, of in results.items()
    }
    (docs / "images" / "scaling.svg").write_text(
        log_plot(curves, "size, multiple of the smallest", "seconds of the update, multiple of the first")
    )
    (docs / "scaling.md").write_text(page(results))


def main() -> None:
    """Parse arguments, measure or read, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3, help="timed runs per size")
    parser.add_argument("--json", type=Path, help="file of the results")
    parser.add_argument("--from", type=Path, dest="source", help="results measured before")
    parser.add_argument("--docs", type=Path, help="folder of the page to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    results = json.loads(arguments.source.read_text()) if arguments.source else measure(arguments.runs)
    text = json.dumps(results, indent=2) + "\n"
    if arguments.json:
        arguments.json.write_text(text)
    if arguments.docs:
        write_page(results, arguments.docs)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
