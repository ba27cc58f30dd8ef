"""Tables of the accounts, regimes, years, folds, seeds and symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sentio_kedro.evaluation.labels import ALWAYS_DRAWN, LINE_TITLES, TITLES, regime_title
from sentio_kedro.evaluation.report.columns import (
    COMPARISON_COLUMNS,
    FOLD_COLUMNS,
    GROUPS,
    REGIME_COLUMNS,
    SEED_COLUMNS,
    SYMBOL_COLUMNS,
    YEAR_COLUMNS,
    Columns,
)
from sentio_kedro.evaluation.report.tables import Table, formatted, interval_title, table_of
from sentio_kedro.evaluation.run_frames import ENSEMBLE, LINES, SEED_PREFIX

AGENT = "agent"


def accounts(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys of the accounts in ``metrics``, the agent first."""
    return (AGENT, *metrics["baselines"])


def account_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Metrics of all accounts, one table per group."""
    entries = [
        (
            _traded(name, metrics[name]),
            metrics[name] | {"interval": (metrics[name]["sharpe_low"], metrics[name]["sharpe_high"])},
        )
        for name in accounts(metrics)
    ]
    tables = [table_of("Account", entries, columns, title, note) for title, note, columns in GROUPS]
    interval = interval_title(metrics["confidence"])
    return [
        table._replace(heads=[interval if head == "Interval" else head for head in table.heads]) for table in tables
    ]


def _traded(name: str, of: Mapping[str, Any]) -> str:
    """Title of an account, which says of one that never traded whether it wanted to."""
    if of["turnover_per_bar"] > 0.0:
        return TITLES[name]
    return f"{TITLES[name]} ({'no order was filled' if of['ordered'] > 0.0 else 'sent no order'})"


def comparison_table(metrics: Mapping[str, Any]) -> Table:
    """Differences between the agent and each baseline."""
    entries = []
    for name in metrics["baselines"]:
        compared = metrics["comparisons"][name]
        result = "better" if compared["low"] > 0.0 else "worse" if compared["high"] < 0.0 else "not distinguishable"
        entry = compared | {"interval": (compared["low"], compared["high"]), "result": result}
        entries.append((TITLES[name], entry))
    note = (
        "Differences of Sharpe ratios on the same resampled bars, so that market moves common to both cancel. The "
        "information ratio is the annualised mean over the standard deviation of the difference of returns."
    )
    return table_of("Baseline", entries, COMPARISON_COLUMNS, "Agent minus baseline", note)


def cost_table(metrics: Mapping[str, Any]) -> Table:
    """Signed ledger lines and their sum, one row per account."""
    costs = {name: metrics[name]["costs"] for name in accounts(metrics)}
    lines = [
        line for line in LINES if line in (*ALWAYS_DRAWN, "impact") or any(of[line] != 0.0 for of in costs.values())
    ]
    columns: Columns = (*((line, LINE_TITLES[line], "percent") for line in lines), ("net", "Net result", "percent"))
    entries = ((TITLES[name], of | {line: LINES[line] * of[line] for line in lines}) for name, of in costs.items())
    absent = [LINE_TITLES[line].lower() for line in LINES if line not in lines]
    note = f"Zero for all accounts: {', '.join(absent)}." if absent else ""
    return table_of("Account", entries, columns, note=note)


def regime_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Metrics of the agent by regime, and Sharpe ratios of all accounts by regime."""
    regimes = 1 + max(entry["regime"] for entry in metrics["regimes"])
    titles = {regime: regime_title(regime, regimes) for regime in range(regimes)}
    return _split_tables(metrics, "regime", titles, REGIME_COLUMNS, ("sharpe", "Sharpe ratio by regime", "number"))


def year_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Metrics of the agent by calendar year, and returns of all accounts by year."""
    titles = {entry["year"]: str(entry["year"]) for entry in metrics["years"]}
    return _split_tables(metrics, "year", titles, YEAR_COLUMNS, ("total_return", "Return by calendar year", "percent"))


def _split_tables(
    metrics: Mapping[str, Any], by: str, titles: Mapping[int, str], columns: Columns, compared: Any
) -> list[Table]:
    """Table of the agent with one row per part, and of one metric with one row per account."""
    entries = {(entry["account"], entry[by]): entry for entry in metrics[f"{by}s"]}
    agent = [(title, entries[AGENT, part]) for part, title in titles.items()]
    key, title, kind = compared
    rows = [
        [TITLES[name], *(formatted(entries[name, part][key], kind) for part in titles)] for name in accounts(metrics)
    ]
    return [
        table_of(by.capitalize(), agent, columns, note="Of the agent."),
        Table(["Account", *titles.values()], rows, title),
    ]


def fold_table(folds: Sequence[Mapping[str, Any]]) -> Table:
    """Every agent in every fold."""
    entries = []
    for entry in folds:
        period = f"{str(entry['first_timestamp'])[:10]} to {str(entry['last_timestamp'])[:10]}"
        gate = formatted(entry["validation_t"], "number") + _gate(entry)
        entries.append((f"Fold {entry['fold']}, seed {entry['seed']}", {**entry, "period": period, "gate": gate}))
    return table_of("Agent", entries, FOLD_COLUMNS)


def seed_table(metrics: Mapping[str, Any]) -> Table:
    """Every agent over all its test rows."""
    entries = ((f"Seed {entry['seed']}", entry) for entry in metrics["seeds"])
    return table_of("Agent", entries, SEED_COLUMNS, "Seeds", "Each seed's agent alone, over all test bars.")


def symbol_table(metrics: Mapping[str, Any]) -> Table:
    """Positions and round trips of the agent by symbol."""
    note = "Means over bars, fractions of equity."
    return table_of(
        "Symbol", ((entry["symbol"], entry) for entry in metrics["symbols"]), SYMBOL_COLUMNS, "By symbol", note
    )


def sharpe_path_table(metrics: Mapping[str, Any]) -> Table:
    """Sharpe ratio of the agent on each path or in each fold, range of the seeds, and two baselines."""
    kind, entries = metrics["paths"]["kind"].capitalize(), metrics["paths"]["entries"]
    baselines = ("buy_and_hold", "equal_weight")
    rows = []
    for number in sorted({entry["number"] for entry in entries}):
        ratios = {entry["account"]: entry["sharpe"] for entry in entries if entry["number"] == number}
        seeds = [value for name, value in ratios.items() if name.startswith(SEED_PREFIX)]
        values = [ratios.get(ENSEMBLE, seeds[0]), min(seeds), max(seeds), *(ratios[name] for name in baselines)]
        rows.append([f"{kind} {number}", *(formatted(value, "number") for value in values)])
    return Table([kind, TITLES[AGENT], "Lowest seed", "Highest seed", *(TITLES[name] for name in baselines)], rows)


def _gate(entry: Mapping[str, Any]) -> str:
    """What an agent does that abstains."""
    if not entry["abstains"]:
        return ""
    return " (stayed flat)" if entry["rule_sharpe"] is None else " (the rule decides)"
