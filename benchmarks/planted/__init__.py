"""Markets with a known law, on which it is known what can be earned: proof that an agent learns and does not cheat.

The conditional mean of the next return is known at every bar, so a position's expected profit is known too, and the
luck of a few thousand bars drops out of the judgement. ``catalogue.py`` names the markets, ``laws.py``, ``belief.py``
and ``groups.py`` hold their laws, ``control.py`` finds the best positions, ``judgement.py`` judges positions.
"""

from planted.catalogue import MARKETS, PlantedMarket
from planted.judgement import expected_profit, share_of_optimum, shares_per_asset
from planted.paths import Law, PlantedPath, autoregressive_returns, path_bars, planted_bars

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
