"""Markets with a known law, on which it is known what can be earned: proof that an agent learns and does not cheat.

The conditional mean of the next return is known at every bar, so a position's expected profit is known too, and the
luck of a few thousand bars drops out of the score. ``catalogue.py`` names the markets, ``laws.py``, ``belief.py``
and ``groups.py`` hold their laws, ``control.py`` finds the best positions, ``scores.py`` scores positions.
"""

from planted.catalogue import MARKETS, PlantedMarket
from planted.paths import Law, PlantedPath, autoregressive_returns, path_bars, planted_bars
from planted.scores import expected_profit, share_of_optimum, shares_per_asset

__all__ = [
    "MARKETS",
    "Law",
    "PlantedMarket",
    "PlantedPath",
    "autoregressive_returns",
    "expected_profit",
    "path_bars",
    "planted_bars",
    "share_of_optimum",
    "shares_per_asset",
]
