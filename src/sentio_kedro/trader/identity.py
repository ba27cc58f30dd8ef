"""Client order ids: the same bar, symbol and trader give the same id after any restart."""

from __future__ import annotations

from uuid import UUID, uuid5

NAMESPACE = UUID("6f1b3c1e-6c2b-5d0a-9a37-3a5f0d7c4b11")


def order_id(trader: str, bar: str, symbol: str, leg: int = 0) -> str:
    """Return 32 hexadecimal digits, which every venue takes as a client order id.

    Args:
        trader: Name of the trader.
        bar: Stamp of the decision.
        symbol: What is traded.
        leg: 1 for the second part of an order that goes through zero.
    """
    return uuid5(NAMESPACE, "|".join((trader, bar, symbol, str(leg)))).hex
