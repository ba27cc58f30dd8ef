"""The result block of README.md, written from the metrics of a run: ``.venv/bin/python docs/readme_results.py``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentio_kedro.evaluation.labels import TITLES
from sentio_kedro.evaluation.report.verdict import verdict

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
METRICS = ROOT / "data" / "08_reporting" / "metrics.json"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
HEAD = (
    "| account | Sharpe | 95% interval | return a year | drawdown | round trips won | round trips |",
    "|---|---|---|---|---|---|---|",
)
UNDEFINED = "-"


def account_line(name: str, account: Mapping[str, Any]) -> str:
    """Format the row of one account.

    Args:
        name: Title of the account.
        account: Its metrics, fractions and ratios; an undefined one is None.
    """
    cells = (
        name,
        _ratio(account["sharpe"]),
        f"{_ratio(account['sharpe_low'])} to {_ratio(account['sharpe_high'])}",
        _percent(account["annual_return"], 1),
        _percent(account["max_drawdown"], 1),
        _percent(account["win_rate"], 0),
        f"{account['trades']:,.0f}",
    )
    return f"| {' | '.join(cells)} |"


def table(metrics: Mapping[str, Any]) -> list[str]:
    """Format the agent and its baselines as lines of a Markdown table."""
    agent = metrics["agent"]
    title = TITLES["agent"]
    if agent["seeds"] > 1:
        low, high = _ratio(agent["sharpe_seed_min"]), _ratio(agent["sharpe_seed_max"])
        title += f": {agent['seeds']} seeds as one (alone {low} to {high})"
    baselines = [account_line(TITLES[name], metrics[name]) for name in metrics["baselines"]]
    return [*HEAD, account_line(title, agent), *baselines]


def quoted(sentences: list[str]) -> list[str]:
    """Quote the verdict's sentences up to the one that begins with "Verdict:", and the last, on the targets."""
    end = next((place for place, text in enumerate(sentences) if text.startswith("Verdict:")), 0)
    return [f"> {text}" for text in [*sentences[: end + 1], sentences[-1]]]


def block(metrics: Mapping[str, Any]) -> str:
    """Write the block between the marks: the table, and what the report says first."""
    return "\n".join([*table(metrics), "", *quoted(verdict(metrics))])


def rewritten(page: str, text: str) -> str:
    """Put ``text`` between the marks of ``page``.

    Raises:
        ValueError: If the page has not both marks, once each.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(
            f"`{README.name}` must hold `{BEGIN}` and `{END}` once each; put them around the result table."
        )
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}"


def _ratio(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.2f}"


def _percent(value: float | None, digits: int) -> str:
    return UNDEFINED if value is None else f"{value:.{digits}%}"


def main() -> None:
    """Rewrite the block from ``metrics.json``, or from the file that the command names."""
    metrics = Path(sys.argv[1]) if sys.argv[1:] else METRICS
    README.write_text(rewritten(README.read_text(), block(json.loads(metrics.read_text()))))


if __name__ == "__main__":
    main()
