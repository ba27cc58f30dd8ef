"""Titles of accounts, ledger lines, regimes and mask layers in tables and plots."""

from __future__ import annotations

from sentio_kedro.evaluation.run_frames import ENSEMBLE, TARGETS_KEY

TITLES = {
    "agent": "Agent",
    "buy_and_hold": "Buy and hold",
    "equal_weight": "Equal weight",
    "momentum": "Momentum",
    "random": "Random actions",
    "forecast_rule": "Forecasts and rule",
    "ridge": "Ridge signal",
    "boosted_trees": "Boosted trees signal",
    "minimum_variance": "Minimum variance",
    "risk_parity": "Risk parity",
    "regime_rule": "Flat in crises",
    TARGETS_KEY: "Table of targets",
}
LINE_TITLES = {
    "price_pnl": "Price profit",
    "dividends": "Dividends",
    "commission": "Commission",
    "spread": "Spread",
    "impact": "Impact",
    "borrow": "Borrow fee",
    "financing": "Financing",
    "funding": "Funding",
    "shortfall": "Broker's loss",
}
ALWAYS_DRAWN = ("price_pnl", "commission", "spread")


def account_title(account: str) -> str:
    """Title of an agent's account: of the ensemble, or of a seed alone."""
    return TITLES["agent"] if account == ENSEMBLE else account.replace("_", " ").capitalize()


def layer_title(layer: str) -> str:
    """Title of a mask layer."""
    return layer.replace("_", " ").capitalize()


def regime_title(regime: int, regimes: int) -> str:
    """Title of a regime, 0 the calmest."""
    if regimes == 1:
        return "All bars"
    if regime == 0:
        return "Calm"
    return "Volatile" if regime == regimes - 1 else f"Regime {regime}"
