"""Symbols: their names, and rules of single ones (calendar, costs, tick, lot, shorts) from YAML or a CSV table."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from sentio_kedro.config.fields import NonNegative, Positive, parameters

LONGEST_SYMBOL = 64  # characters
EXAMPLES = 10  # unknown symbols that a message names
SYMBOL_RULE = f"printable text of 1 to {LONGEST_SYMBOL} characters without blanks at its ends"
ALWAYS_OPEN = "24/7"  # calendar of a market that never closes, as exchange_calendars names it
SYMBOL = "symbol"  # column of the table


def symbol_fault(symbol: str) -> str | None:
    """Return what is wrong with the name of an asset, or None; ``SYMBOL_RULE`` says what is right."""
    if not symbol.strip():
        return "is blank"
    if len(symbol) > LONGEST_SYMBOL:
        return f"has {len(symbol)} characters"
    if symbol != symbol.strip():
        return "has blanks at its ends"
    return None if symbol.isprintable() else "has characters that cannot be printed"


def alike(symbols: Iterable[str]) -> list[list[str]]:
    """Return the groups of different ``symbols`` that are equal but for case and blanks at their ends."""
    groups: dict[str, list[str]] = {}
    for symbol in dict.fromkeys(symbols):
        groups.setdefault(_key(symbol), []).append(symbol)
    return [group for group in groups.values() if len(group) > 1]


def unknown_symbols(given: Iterable[str], known: Collection[str]) -> str:
    """Return the ``given`` symbols that are not ``known`` as text, each with the known one that is alike; else ""."""
    near = {_key(symbol): symbol for symbol in known}
    unknown = sorted(set(given) - set(known))
    meant = [f"{near[_key(symbol)]!r} is meant by {symbol!r}" for symbol in unknown if _key(symbol) in near]
    more = f" and {len(unknown) - EXAMPLES} more" if len(unknown) > EXAMPLES else ""
    hint = f" (perhaps {', '.join(meant[:EXAMPLES])})" if meant else ""
    return f"{unknown[:EXAMPLES]}{more}{hint}" if unknown else ""


def symbol_problems(name: str, symbols: Collection[str]) -> list[str]:
    """Return what is wrong with the ``symbols`` of the parameter ``name``, each with its remedy."""
    faults = [f"{symbol[: LONGEST_SYMBOL + 1]!r} {fault}" for symbol in symbols if (fault := symbol_fault(symbol))]
    problems = [f"`{name}` must name symbols by {SYMBOL_RULE}: {', '.join(faults)}; correct them"] if faults else []
    return problems + [
        f"`{name}` names {group}, which differ by case or blanks alone; keep the one that the bars have"
        for group in alike(symbols)
    ]


def _key(symbol: str) -> str:
    return symbol.strip().casefold()


def _general() -> Any:
    """Return a field that is null, and then left out of what is saved."""
    return Field(default=None, exclude_if=lambda value: value is None)


@parameters
class SymbolRules:
    """Rules of one symbol; a null takes the general key.

    Attributes:
        calendar: Sessions, a name of the exchange_calendars package, ``24/7`` for a market that never closes; null is
            ``trading.calendar``.
        commission_bps: Commission, bps of traded notional; null is ``trading.costs.commission_bps``.
        commission_per_share: Commission, quote currency per share; null is ``trading.costs.commission_per_share``.
        min_commission: Minimum commission of a fill, quote currency; null is ``trading.costs.min_commission``.
        half_spread_bps: Half of the quoted spread, bps of traded notional; null is ``trading.costs.half_spread_bps``.
        tick_size: Smallest step of the price, quote currency: the half spread is at least half a tick; null is none.
        lot_size: Orders are multiples of this number of shares; null is ``trading.orders.lot_size``.
        min_notional: Minimum value of an order, quote currency; null is ``trading.orders.min_notional``.
        borrow_rate: Fee for borrowed shares, fraction of short notional a year; null is
            ``trading.carry.borrow_rate``.
        shortable: Whether it may be sold short; null is what ``trading.masks.no_short`` says.
    """

    calendar: str | None = _general()
    commission_bps: NonNegative | None = _general()
    commission_per_share: NonNegative | None = _general()
    min_commission: NonNegative | None = _general()
    half_spread_bps: NonNegative | None = _general()
    tick_size: Positive | None = _general()
    lot_size: Positive | None = _general()
    min_notional: Positive | None = _general()
    borrow_rate: NonNegative | None = _general()
    shortable: bool | None = _general()


def read_symbols_table(path: Path) -> dict[str, dict[str, Any]]:
    """Read rules by symbol from a CSV file: a column ``symbol`` and any keys of ``SymbolRules``; a blank cell is null.

    Raises:
        ValueError: With the file, line, column and value of everything that is wrong.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file, restkey="")
            _require_columns(path, lines.fieldnames or ())
            rows = [(lines.line_num, row) for row in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"The table of symbols `{path}` cannot be read ({error}); correct its path or content."
        ) from None
    table: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for line, row in rows:
        symbol, rules = _rules(row)
        problems += [f"line {line} {fault}" for fault in _faults(symbol, rules, row, table)]
        table[symbol] = rules
    if problems:
        raise ValueError(f"The table of symbols `{path}` has faults: {'; '.join(problems)}. Correct these lines.")
    return table


def _require_columns(path: Path, columns: Any) -> None:
    known = [field.name for field in fields(SymbolRules)]
    unknown = [name for name in columns if name not in (SYMBOL, *known)]
    repeated = sorted({name for name in columns if list(columns).count(name) > 1})
    if SYMBOL not in columns or unknown or repeated:
        raise ValueError(
            f"The table of symbols `{path}` must have, in line 1, a column `{SYMBOL}` and any of {', '.join(known)}, "
            f"each once; had {list(columns)}; rename or remove {unknown or repeated or 'the first line'}."
        )


def _rules(row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the symbol of a line, and its cells that are not blank."""
    cells = {name: (value or "").strip() for name, value in row.items() if name}
    return cells.pop(SYMBOL), {name: value for name, value in cells.items() if value}


def _faults(symbol: str, rules: Mapping[str, Any], row: Mapping[str, Any], table: Mapping[str, Any]) -> list[str]:
    faults = ["has more cells than the first line has columns"] if "" in row else []
    if fault := symbol_fault(symbol):
        faults.append(f"`{SYMBOL}` {symbol!r} {fault}")
    if symbol in table:
        faults.append(f"names {symbol!r} again")
    try:
        TypeAdapter(SymbolRules).validate_python(dict(rules))
    except ValidationError as error:
        faults += [
            f"({symbol}) `{detail['loc'][0]}` {detail['msg'].removeprefix('Input ')}, was {detail['input']!r}"
            for detail in error.errors(include_url=False)
        ]
    return faults


def symbol_rule_problems(rules: Mapping[str, SymbolRules], largest: float) -> list[str]:
    """Return what is wrong with the rules of ``trading.symbols``.

    Args:
        rules: Rules by symbol.
        largest: Largest order, quote currency.
    """
    return symbol_problems("trading.symbols", rules) + [
        f"`trading.symbols.{symbol}.min_notional` must be at most `trading.initial_cash` x `trading.gross_limit` = "
        f"{largest:g}, was {own.min_notional:g}: no order could ever be sent; lower it"
        for symbol, own in rules.items()
        if own.min_notional is not None and own.min_notional > largest
    ]
