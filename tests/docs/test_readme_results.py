"""The result block of README.md comes from a run's metrics and from nowhere else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import readme_results as results

INTERVAL = {"sharpe_low": -0.5, "sharpe_high": 1.25}


def account(**changed: Any) -> dict[str, Any]:
    values = {"sharpe": 0.4, "annual_return": 0.1234, "max_drawdown": 0.051, "win_rate": 0.5, "trades": 1472}
    return values | INTERVAL | changed


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Metrics of two seeds and two baselines, and a report that says six sentences of them."""
    told = ["It earned 12 %.", "It changes a position on 3 % of the bars.", "It may be chance."]
    sentences = [*told, "Verdict: skill not shown.", "Few bars.", "1 of 2 targets was met."]
    monkeypatch.setattr(results, "verdict", lambda _: sentences)
    return {
        "agent": account(seeds=2, sharpe_seed_min=-0.1, sharpe_seed_max=0.9),
        "baselines": ["buy_and_hold", "ridge"],
        "buy_and_hold": account(sharpe=-8.494, trades=5),
        "ridge": account(sharpe=0.0, win_rate=None, trades=0),
    }


def test_the_block_has_a_row_per_account_and_the_verdicts_first_sentences(metrics: dict[str, Any]) -> None:
    assert results.block(metrics).splitlines() == [
        "| account | Sharpe | 95% interval | return a year | drawdown | round trips won | round trips |",
        "|---|---|---|---|---|---|---|",
        "| Agent: 2 seeds as one (alone -0.10 to 0.90) | 0.40 | -0.50 to 1.25 | 12.3% | 5.1% | 50% | 1,472 |",
        "| Buy and hold | -8.49 | -0.50 to 1.25 | 12.3% | 5.1% | 50% | 5 |",
        "| Ridge signal | 0.00 | -0.50 to 1.25 | 12.3% | 5.1% | - | 0 |",
        "",
        "> It earned 12 %.",
        "> It changes a position on 3 % of the bars.",
        "> It may be chance.",
        "> Verdict: skill not shown.",
        "> 1 of 2 targets was met.",
    ]


def test_the_command_rewrites_the_block_and_nothing_else(
    metrics: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, numbers = tmp_path / "README.md", tmp_path / "metrics.json"
    page.write_text(f"above\n{results.BEGIN}\nold\n{results.END}\nbelow\n")
    numbers.write_text(json.dumps(metrics))
    monkeypatch.setattr(results, "README", page)
    monkeypatch.setattr(sys, "argv", ["readme_results.py", str(numbers)])
    for _ in range(2):
        results.main()
        assert page.read_text() == f"above\n{results.BEGIN}\n\n{results.block(metrics)}\n\n{results.END}\nbelow\n"


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="once each"):
        results.rewritten(f"{results.BEGIN}\n", "table")


def number(cell: str) -> float | None:
    if cell == results.UNDEFINED:
        return None
    value = float(cell.replace(",", "").rstrip("%"))
    return value / 100.0 if cell.endswith("%") else value


def test_the_committed_block_is_what_the_script_writes_from_its_numbers() -> None:
    page = results.README.read_text()
    text = page.partition(results.BEGIN)[2].partition(results.END)[0].strip()
    assert results.rewritten(page, text) == page
    lines, quoted = (part.splitlines() for part in text.split("\n\n"))
    assert tuple(lines[:2]) == results.HEAD
    keys = ("sharpe", "sharpe_low", "sharpe_high", "annual_return", "max_drawdown", "win_rate", "trades")
    titles = dict(line.strip("| ").replace(" to ", " | ").split(" | ", 1) for line in lines[3:])
    assert set(titles) <= set(results.TITLES.values())
    for line in lines[2:]:
        name, *cells = line.strip("| ").split(" | ")
        numbers = map(number, [cells[0], *cells[1].split(" to "), *cells[2:]])
        assert results.account_line(name, dict(zip(keys, numbers, strict=True))) == line
    sharpe, low, high = re.search(r"\| (\S+) \| (\S+) to (\S+) \|", lines[2]).groups()  # type: ignore[union-attr]
    said = quoted[0].replace("\u2212", "-").replace("\u00a0", " ")
    assert said.endswith(f"a Sharpe ratio of {sharpe} (95 % interval {low} to {high}).")
    assert sum(line.startswith("> Verdict:") for line in quoted) == 1
