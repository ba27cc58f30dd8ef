"""Names of assets: which are allowed, which are alike, and what an unknown one may have meant."""

from __future__ import annotations

from collections.abc import Collection, Iterable

LONGEST_SYMBOL = 64  # characters
EXAMPLES = 10  # unknown symbols that a message names
SYMBOL_RULE = f"printable text of 1 to {LONGEST_SYMBOL} characters without blanks at its ends"


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
