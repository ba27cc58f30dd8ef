"""Writes what the default agent earns on planted markets into docs/learning.md.

    python benchmarks/learning.py --markets ar1 --seeds 0 1 2 3 4 --output benchmarks/results/learning/ar1.json
    python benchmarks/learning_report.py

Every file of benchmarks/results/learning is read. ROWS names the lines of the table and what is asked of each; a line
that no file has measured says so.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "learning"
PAGE = ROOT / "docs" / "learning.md"
BEGIN, END = "<!-- begin: written by benchmarks/learning_report.py -->", "<!-- end -->"
BPS = 1e4
COLUMNS = (
    *("market", "seeds", "share of the optimum by seed", "median", "worst", "ridge, median", "seconds per agent"),
    *("settings changed", "target", "outcome"),
)
Measured = Mapping[str, Any]
"""What was measured on one market: its entry of a file, and the file's ``settings``."""


@dataclass(frozen=True)
class Demand:
    """One thing that is asked of a measurement.

    Attributes:
        words: What is asked.
        met: Tells whether a measurement meets it.
    """

    words: str
    met: Callable[[Measured], bool]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        market: Planted market.
        variant: What was changed to ask something else of the market; empty for the market itself.
        demands: What is asked.
        seeds: Market seeds that the demands are about.
    """

    market: str
    variant: str = ""
    demands: tuple[Demand, ...] = ()
    seeds: int = 5


def median_at_least(bound: float) -> Demand:
    """Ask for a median share."""
    return Demand(f"median at least {bound:.2f}", lambda measured: statistics.median(shown_shares(measured)) >= bound)


BLIND, GATING, GATED = "without attention across assets", "gain of regime experts", "with the abstention gate"
CHOSEN = "options chosen on validation rows"
ROWS = (
    Row(
        "ar1",
        demands=(
            median_at_least(0.93),
            Demand("worst at least 0.85", lambda measured: min(shown_shares(measured)) >= 0.85),  # noqa: PLR2004
            Demand("within 120 s", lambda measured: max(measured["train_seconds"]) <= 120.0),  # noqa: PLR2004
        ),
    ),
    Row("reversal", demands=(median_at_least(0.93),)),
    Row("lag3", demands=(median_at_least(0.85),)),
    Row("signal", demands=(median_at_least(0.85),)),
    Row("signal", CHOSEN),
    Row("size", demands=(median_at_least(0.80),)),
    Row("size", CHOSEN, (median_at_least(0.80),)),
    Row("drift", demands=(median_at_least(0.80),)),
    Row("drift", CHOSEN, (median_at_least(0.80),)),
    Row("lead_lag", demands=(median_at_least(0.80),)),
    Row(
        "lead_lag",
        BLIND,
        (Demand("median under 0.20", lambda measured: statistics.median(shown_shares(measured)) < 0.2),),  # noqa: PLR2004
    ),
    Row("regimes"),
    Row("regimes", GATING, (Demand("interval above 0", lambda measured: measured["interval"][0] > 0.0),)),
    Row(
        "assets20",
        demands=(
            median_at_least(0.70),
            Demand("median of every asset at least 0.30", lambda measured: measured["lowest_asset_median"] >= 0.3),  # noqa: PLR2004
        ),
    ),
    Row(
        "noise",
        demands=(
            Demand("interval covers 0", lambda measured: measured["covers_zero"]),
            Demand(
                "at most 3 of 20 significant alone",
                lambda measured: measured["seeds_significant_alone"] <= 0.15 * measured["seeds"],
            ),
        ),
        seeds=20,
    ),
    Row(
        "noise",
        GATED,
        (Demand("at least 15 of 20 stay flat", lambda measured: measured["seeds_flat"] >= 0.75 * measured["seeds"]),),
        seeds=20,
    ),
)


def variant_of(market: str, measured: Measured) -> str:
    """Say which question about a market was measured."""
    changes = measured["settings"]["changes"]
    if "difference" in measured:
        return GATING
    if "chosen" in measured:
        return CHOSEN
    if market == "lead_lag" and "network.asset_attention=false" in changes:
        return BLIND
    if market == "noise" and any(change.startswith("training.abstention.threshold=") for change in changes):
        return GATED
    return ""


def read_results(files: Iterable[Path]) -> dict[tuple[str, str], Measured]:
    """Read all measurements by market and variant.

    Raises:
        ValueError: If two files measured the same: nobody should choose the better one.
    """
    entries: dict[tuple[str, str], Measured] = {}
    places: dict[tuple[str, str], Path] = {}
    for path in sorted(files):
        answer = json.loads(path.read_text())
        settings = answer.pop("settings")
        for market, entry in answer.items():
            measured = {**entry, "settings": settings}
            key = market, variant_of(market, measured)
            if key in entries:
                raise ValueError(
                    f"`{path.name}` and `{places[key].name}` both measured {' '.join(key).strip()}; delete one of them."
                )
            entries[key], places[key] = measured, path
    if ("regimes", GATING) in entries:  # half of it is the market itself
        entries.setdefault(("regimes", ""), {**entries["regimes", GATING], "difference": None})
    return entries


def shown_shares(measured: Measured) -> Sequence[float]:
    """Shares by seed, or differences of shares where that is the question; none on a market without a signal."""
    shares: Sequence[float] = measured.get("difference") or measured.get("share_of_optimum") or ()
    return shares


def cells(row: Row, measured: Measured | None) -> list[str]:
    """Write one line of the table, as many cells as ``COLUMNS``."""
    name = f"`{row.market}`" + (f" {row.variant}" if row.variant else "")
    target = "; ".join(demand.words for demand in row.demands)
    if measured is None:
        return [name, *([""] * (len(COLUMNS) - 3)), target, "not measured"]
    shares, settings = shown_shares(measured), measured["settings"]
    ridge = measured.get("ridge_share")
    return [
        name,
        span(settings["seeds"]),
        " ".join(f"{share:.2f}" for share in shares) + remark(row, measured),
        f"{statistics.median(shares):.3f}" if shares else "",
        f"{min(shares):.3f}" if shares else "",
        f"{statistics.median(ridge):.2f}" if ridge and row.variant != GATING else "",
        f"{statistics.median(measured['train_seconds']):.0f}",
        ", ".join(f"`{change}`" for change in settings["changes"]) or "none",
        target,
        outcome(row, measured),
    ]


def remark(row: Row, measured: Measured) -> str:
    """Say what is asked for beside the shares, if anything."""
    if row.variant == GATING:
        low, high = measured["interval"]
        return f"; mean {measured['mean_difference']:.3f}, 95 % interval {low:.3f} to {high:.3f}"
    if row.variant == GATED:
        return f"{measured['seeds_flat']} of {measured['seeds']} flat"
    if row.market == "noise":
        low, high = (BPS * bound for bound in measured["interval"])
        alone = f"{measured['seeds_significant_alone']} of {measured['seeds']} significant alone"
        return f"gross profit {low:.2f} to {high:.2f} bps a bar; {alone}"
    if "lowest_asset_median" in measured:
        median, worst = measured["lowest_asset_median"], measured["lowest_asset_worst"]
        return f"; lowest asset {median:.2f} (median), {worst:.2f} (worst)"
    return ""


def outcome(row: Row, measured: Measured) -> str:
    """Say which demands were met, and on how many seeds where these are fewer than asked for."""
    if not row.demands:
        return ""
    missed = [demand.words for demand in row.demands if not demand.met(measured)]
    words = f"**missed**: {'; '.join(missed)}" if missed else "met"
    seeds = len(measured["settings"]["seeds"])
    return words if seeds >= row.seeds else f"{words} ({seeds} of {row.seeds} seeds)"


def span(seeds: Sequence[int]) -> str:
    """Write seeds down, shorter where they follow each other."""
    follow = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))  # noqa: PLR2004
    return f"{seeds[0]} to {seeds[-1]}" if follow else " ".join(map(str, seeds))


def render(entries: Mapping[tuple[str, str], Measured]) -> str:
    """Lay all rows out as the table of the page."""
    lines = [list(COLUMNS), ["---"] * len(COLUMNS)]
    lines += [cells(row, entries.get((row.market, row.variant))) for row in ROWS]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def written(page: str, table: str) -> str:
    """Put ``table`` between the marks of ``page``.

    Raises:
        ValueError: If the page has not both marks, once each.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(
            f"`{PAGE.name}` must hold `{BEGIN}` and `{END}` once each; put them back where the table stood."
        )
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Write the page anew."""
    PAGE.write_text(written(PAGE.read_text(), render(read_results(RESULTS.glob("*.json")))))


if __name__ == "__main__":
    main()
