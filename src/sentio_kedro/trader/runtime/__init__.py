"""The running trader: one event loop, one journal, and the order in which things are done."""

from sentio_kedro.trader.runtime.trader import Trader

__all__ = ["Trader"]
