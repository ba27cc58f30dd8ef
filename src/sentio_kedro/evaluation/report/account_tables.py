"""Tables of the accounts, the folds, the seeds and the years: accounts are rows, so that many of them stay readable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sentio_kedro.evaluation.labels import ALWAYS_DRAWN, LINE_TITLES, TITLES, regime_title
from sentio_kedro.evaluation.report.columns import FOLD_COLUMNS, GROUPS, SEED_COLUMNS, SYMBOL_COLUMNS, Columns
from sentio_kedro.evaluation.report.tables import MISSING, Kind, Row, formatted
from sentio_kedro.evaluation.run_frames import LINES
from sentio_kedro.evaluation.statistics.bootstrap import confidence_percent

AGENT = "agent"


class Table(NamedTuple):
    """A table of the report.

    Attributes:
        title: Heading; empty is none.
        note: What the columns mean.
        heads: Column titles.
        rows: Cells, the first one names the row.
    """

    title: str
    note: str
    heads: list[str]
    rows: list[Row]


EVIDENCE = [key for key, *_ in FOLD_COLUMNS].index("validation_t")


def accounts(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys of the accounts in ``metrics``, the agents' medians first."""
    return (AGENT, *metrics["baselines"])


def account_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Figures of all accounts, a table per group."""
    return [_account_table(metrics, title, note, columns) for title, note, columns in GROUPS]


def _account_table(metrics: Mapping[str, Any], title: str, note: str, columns: Columns) -> Table:
    rows = [
        [TITLES[name], *(_cell(metrics[name], key, kind) for key, _, kind in columns)] for name in accounts(metrics)
    ]
    heads = [
        head if key != "interval" else f"{confidence_percent(metrics['confidence'])} interval"
        for key, head, _ in columns
    ]
    return Table(title, note, ["Account", *heads], rows)


def _cell(figures: Mapping[str, Any], key: str, kind: Kind) -> str:
    return span(figures, "sharpe_low", "sharpe_high") if key == "interval" else formatted(figures[key], kind)


def span(figures: Mapping[str, Any], low: str, high: str) -> str:
    """Write two figures as ``low to high``."""
    return f"{formatted(figures[low], 'number')} to {formatted(figures[high], 'number')}"


def comparison_table(metrics: Mapping[str, Any]) -> Table:
    """The agent minus each baseline."""
    rows = []
    for name in metrics["baselines"]:
        compared = metrics["comparisons"][name]
        judged = "better" if compared["low"] > 0.0 else "worse" if compared["high"] < 0.0 else "cannot be told apart"
        numbers = [formatted(compared["sharpe_difference"], "number"), span(compared, "low", "high")]
        numbers += [formatted(compared["information_ratio"], "number")]
        rows.append([TITLES[name], *numbers, formatted(compared["annual_return_difference"], "percent"), judged])
    heads = ["Baseline", "Sharpe difference", "Interval", "Information ratio", "Difference of return a year"]
    note = (
        "Differences of Sharpe ratios on the same resampled bars, so that the luck of the market, common to both, "
        "cancels. The information ratio is the mean over the deviation of the difference of returns, annualised."
    )
    return Table("Agent minus baseline", note, [*heads, "The agent is"], rows)


def cost_table(metrics: Mapping[str, Any]) -> Table:
    """Lines of the ledger with the sign with which they enter the result, one row per account, and their sum."""
    costs = {name: metrics[name]["costs"] for name in accounts(metrics)}
    lines = [
        line for line in LINES if line in (*ALWAYS_DRAWN, "impact") or any(of[line] != 0.0 for of in costs.values())
    ]
    rows = [
        [
            TITLES[name],
            *(formatted(LINES[line] * of[line] + 0.0, "percent") for line in lines),
            formatted(of["net"], "percent"),
        ]
        for name, of in costs.items()
    ]
    absent = [LINE_TITLES[line].lower() for line in LINES if line not in lines]
    note = f"Zero for all accounts: {', '.join(absent)}." if absent else ""
    return Table("", note, ["Account", *(LINE_TITLES[line] for line in lines), "Net result"], rows)


def regime_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Figures by regime of the median agent, and Sharpe ratios of all accounts by regime."""
    regimes = 1 + max(entry["regime"] for entry in metrics["regimes"])
    columns: Columns = (
        ("share", "Bars", "percent"),
        ("sharpe", "Sharpe", "number"),
        ("sortino", "Sortino", "number"),
        ("total_return", "Return in them", "percent"),
        ("conditional_value_at_risk", "Conditional value at risk", "small_percent"),
        ("gross_exposure", "Gross exposure", "percent"),
        ("turnover_per_bar", "Turnover per bar", "small_percent"),
        ("trades", "Round trips", "count"),
        ("win_rate", "Won", "percent"),
        ("cost_share", "Costs / gross profit", "percent"),
    )
    titles = {regime: regime_title(regime, regimes) for regime in range(regimes)}
    return _split_tables(metrics, "regime", titles, columns, "sharpe", "number", "Sharpe ratio by regime")


def year_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Figures by calendar year of the median agent, and returns of all accounts by year."""
    columns: Columns = (
        ("bars", "Bars", "count"),
        ("sharpe", "Sharpe", "number"),
        ("sortino", "Sortino", "number"),
        ("total_return", "Return", "percent"),
        ("annual_volatility", "Volatility a year", "percent"),
        ("max_drawdown", "Maximum drawdown", "percent"),
        ("information_ratio", "Information ratio", "number"),
        ("trades", "Round trips", "count"),
        ("win_rate", "Won", "percent"),
        ("cost_share", "Costs / gross profit", "percent"),
    )
    titles = {entry["year"]: str(entry["year"]) for entry in metrics["years"]}
    return _split_tables(metrics, "year", titles, columns, "total_return", "percent", "Return by calendar year")


def _split_tables(
    metrics: Mapping[str, Any],
    key: str,
    titles: Mapping[int, str],
    columns: Columns,
    shown: str,
    kind: Kind,
    title: str,
) -> list[Table]:
    entries = {(entry["account"], entry[key]): entry for entry in metrics[f"{key}s"]}
    own = [
        [titles[label], *(formatted(entries[AGENT, label][name], of) for name, _, of in columns)] for label in titles
    ]
    others = [
        [TITLES[name], *(formatted(entries[name, label][shown], kind) for label in titles)]
        for name in accounts(metrics)
    ]
    return [
        Table("", "Agent, median of seeds.", [key.capitalize(), *(head for _, head, _ in columns)], own),
        Table(title, "", ["Account", *titles.values()], others),
    ]


def fold_table(folds: Sequence[Mapping[str, Any]]) -> Table:
    """Every agent in every fold."""
    rows = []
    for entry in folds:
        period = f"{str(entry['first_timestamp'])[:10]} to {str(entry['last_timestamp'])[:10]}"
        values = [formatted(entry[key], kind) for key, _, kind in FOLD_COLUMNS]
        if entry["abstains"]:
            values[EVIDENCE] += " (stayed flat)"
        name = f"Fold {entry['fold']}, seed {entry['seed']}"
        rows.append([name, period, formatted(entry["bars"], "count"), *values])
    return Table("", "", ["Agent", "Test rows", "Bars", *(head for _, head, _ in FOLD_COLUMNS)], rows)


def seed_table(metrics: Mapping[str, Any]) -> Table:
    """Every agent over all its test rows."""
    rows = [
        [f"Seed {entry['seed']}", *(formatted(entry[key], kind) for key, _, kind in SEED_COLUMNS)]
        for entry in metrics["seeds"]
    ]
    return Table("Seeds", "Each over all unseen bars.", ["Agent", *(head for _, head, _ in SEED_COLUMNS)], rows)


def symbol_table(metrics: Mapping[str, Any]) -> Table:
    """What the agents held of each symbol."""
    rows = [
        [entry["symbol"], *(formatted(entry[key], kind) for key, _, kind in SYMBOL_COLUMNS)]
        for entry in metrics["symbols"]
    ]
    note = "Means over bars and seeds, fractions of equity; round trips of all seeds together."
    return Table("By symbol", note, ["Symbol", *(head for _, head, _ in SYMBOL_COLUMNS)], rows)


def combinatorial_path_table(metrics: Mapping[str, Any]) -> Table:
    """Median and range of the agents' Sharpe ratios on each path or in each fold, and of two baselines."""
    kind, entries = metrics["paths"]["kind"], metrics["paths"]["entries"]
    rows = []
    for number in sorted({entry["number"] for entry in entries}):
        found = {entry["account"]: entry["sharpe"] for entry in entries if entry["number"] == number}
        mine = sorted(value for name, value in found.items() if name.startswith("seed_"))
        middle = 0.5 * (mine[(len(mine) - 1) // 2] + mine[len(mine) // 2])
        numbers = [middle, mine[0], mine[-1], *(found[name] for name in ("buy_and_hold", "equal_weight"))]
        rows.append([f"{kind.capitalize()} {number}", *(formatted(value, "number") for value in numbers)])
    heads = ["Agent, median", "Lowest seed", "Highest seed", TITLES["buy_and_hold"], TITLES["equal_weight"]]
    return Table("", "", [kind.capitalize(), *heads], rows)


def selected_feature_table(selected_features: Sequence[Mapping[str, Any]]) -> Table:
    """Which columns and lags the agents of each fold hear."""
    rows = [
        [
            f"Fold {entry['fold']}",
            ", ".join(str(seed) for seed in entry["seeds"]),
            f"{entry['columns']} of {entry['of']}",
            formatted(entry["lags"], "count"),
            ", ".join(entry["names"]) or MISSING,
        ]
        for entry in selected_features
    ]
    return Table("", "", ["Fold", "Seeds", "Columns", "Bars", "Names"], rows)
