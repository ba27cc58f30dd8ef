"""Records of the account step: rules, facts of the market, accounts, and the ledger.

Arrays of records are ``np.recarray``, so that the step reads the same as plain Python and compiled. No type depends on
the number of assets, levels or accounts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DAY_TRADE_SESSIONS = 5  # sessions over which day trades are counted (FINRA rule 4210)
LAYERS = (
    "validity",
    "exposure",
    "drawdown",
    "daily_loss",
    "value_at_risk",
    "volatility",
    "regime",
    "session",
    "liquidity",
    "compliance",
    "kelly",
)

Records = Any  # ``np.recarray`` or one of its records, whose fields have no static types
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


def _dtype(floats: str, integers: str = "", flags: str = "") -> np.dtype[np.void]:
    kinds = ((floats, "f8"), (integers, "i8"), (flags, "?"))
    return np.dtype([(name, kind) for names, kind in kinds for name in names.split()], align=True)


RULES = _dtype(
    "gross_limit net_limit var_limit max_position max_drawdown drawdown_soft_limit max_impact financing_rate "
    "interest_rate initial_margin maintenance_margin liquidation_fee rebalance_band stop_loss take_profit "
    "delisting_return daily_loss trades_per_day min_holding_bars",
    flags="var_is_sum intrabar flat_at_close overnight pattern_day_trader",
)
"""Scalars of ``TradingParameters``, fractions where those are bps; infinity or 0 where a limit is off."""

CHARGES = _dtype("commission commission_per_share min_commission borrow_rate lot_size min_notional")
"""What trading one asset costs, and its smallest orders: of ``trading.symbols``, else the general keys."""

FACTS = _dtype(
    "close open high low next_close half_spread impact max_shares split dividend funding value_at_risk var_cap "
    "volatility_cap kelly_cap liquidity full unit reward_unit delisting_return",
    flags="tradable fillable delisted shortable unlisted paid leaving reducing",
)
"""Market of one asset from the close of bar t to the close of bar t + 1.

``close`` and ``tradable`` are of bar t; ``open``, ``high``, ``low``, ``next_close``, ``half_spread`` (fraction of
notional), ``funding`` (fraction of the position, paid by longs) and ``fillable`` (the bar exists) of bar t + 1.
``impact`` is a fraction of notional per root of a share, ``max_shares`` the largest trade. ``split`` are new shares per
old one, ``dividend`` cash per new share. ``value_at_risk`` is a fraction of the position. Caps are fractions of equity,
``liquidity`` is quote currency. ``full`` is the largest position that the caps of size leave of the allocation,
``unit`` the position of level 1 (signed), and ``reward_unit`` the deviation of a bar's profit at ``full``: fractions of
equity. ``delisted``: the last bar was bar t. What is left earns ``delisting_return`` if it is ``paid``, else that of
the rules.
``unlisted``: no bar has come yet, so that the price means nothing.
``leaving``: at bar t the asset is no member of the universe any more: positions are closed. ``reducing``: nor is it at
bar t + 1, which fills no increase.
"""

CLOCK = _dtype("years correlation", "bars_to_session_end", "session_starts quiet")
"""Time of a step: years from close to close, average correlation of the assets, bars from bar t + 1 to the last of its
session, whether bar t + 1 is the first of its session, and whether the session's first or last minutes allow
reductions only."""

ACCOUNT = _dtype(
    "cash equity peak_equity initial_equity session_equity cost_multiplier", "latency session_slot", "alive guarded"
)
"""Account marked at the close of bar t, quote currency. ``session_equity`` is the equity at the last close of the
previous session. ``cost_multiplier`` scales trading costs, ``latency`` is the delay of orders in bars beyond the next
open; only a ``guarded`` account obeys the layers of the mask and the limits on net exposure and value at risk."""

HOLDING = _dtype("shares entry_price bars_held trades_today opened_today")
"""Position in one asset: shares (negative if short), average entry price, bars since it was opened, fills in this
session, and 1 if it was opened or enlarged in this session."""

BOUNDS = _dtype("headroom regime_cap regime_growth factor", flags="called stopped")
"""Limits of one account in all assets: ``headroom`` is the share of full exposure that the drawdown limit leaves, the
caps of the regime are in units of the allocation, ``factor`` is the share of increases that the joint limits leave.
``called``: equity is below the maintenance margin; ``stopped``: day trades allow reductions only."""

LIMIT = _dtype("position committed scale cap growth requested capped target order filled")
"""Limits of one asset, fractions of equity: position with orders in flight (``committed`` in shares), largest position,
largest position by an increase, and the decision: requested, capped and final target; ``order`` and what is ``filled``
of it at the open in shares. ``scale`` is the share of a request that a drawdown leaves."""

FILL = _dtype(
    "price_pnl commission spread impact borrow funding dividends traded filled_shares shares exit_price position",
    flags="ordered capped projected",
)
"""Ledger of one asset in one step, quote currency. ``filled_shares`` after the fill at the open, ``shares`` at the
close; ``exit_price`` of an exit inside the bar, NaN without one; ``position`` after the fill as a fraction of equity at
the decision. ``capped``: a limit reduced the order; ``projected``: a joint limit did."""

TOTAL = _dtype("equity_before equity headroom financing shortfall", flags="called")
"""Ledger of one account in one step. The change of equity is price_pnl + dividends - commission - spread - impact -
borrow - funding, summed over assets, less ``financing`` plus ``shortfall`` (loss beyond the equity of a bankrupt
account, borne by its broker). ``called``: a margin call or liquidation."""


class Market(NamedTuple):
    """Facts of consecutive decision rows for the step.

    Attributes:
        facts: ``[T, A]`` records ``FACTS``.
        clock: ``[T]`` records ``CLOCK``.
        regimes: ``[T, R, 2]`` caps of R regime models, in units of the allocation: of the position, and of increases.
    """

    facts: Records
    clock: Records
    regimes: Floats


class Terms(NamedTuple):
    """Terms of trading that all accounts share.

    Attributes:
        rules: Record ``RULES`` as an array ``[1]``.
        levels: ``[B]`` target levels, in units of ``unit`` of the facts.
        smaller: ``[B]`` next smaller level on the same side, 0 for the smallest.
        allocation: ``[A]`` largest exposure of each asset, fraction of equity.
        charges: ``[A]`` records ``CHARGES``.
    """

    rules: Records
    levels: Floats
    smaller: Floats
    allocation: Floats
    charges: Records


class Accounts(NamedTuple):
    """N accounts in A assets.

    Attributes:
        account: ``[N]`` records ``ACCOUNT``.
        holdings: ``[N, A]`` records ``HOLDING``.
        in_flight: ``[N, A, L]`` shares of delayed orders; slot 0 reaches the market at the next open.
        session_highs: ``[N, D]`` highest equity of each of the last D sessions, as a ring.
        day_trades: ``[N, 5]`` day trades of the last sessions, this one last.
    """

    account: Records
    holdings: Records
    in_flight: Floats
    session_highs: Floats
    day_trades: Floats

    @property
    def size(self) -> int:
        """Number of accounts N."""
        return len(self.account)

    def copy(self) -> Accounts:
        """Copy all arrays; a step changes accounts in place."""
        return Accounts._make(part.copy() for part in self)

    def part(self, index: Any) -> Accounts:
        """Accounts ``index`` (slice or indices), as views where numpy allows."""
        return Accounts._make(part[index] for part in self)


class Scratch(NamedTuple):
    """Memory of a decision and a step of N accounts.

    Attributes:
        bounds: ``[N]`` records ``BOUNDS``.
        limits: ``[N, A]`` records ``LIMIT``.
        legal: ``[N, A, B]``.
        features: ``[N, A, G]``.
        actions: ``[N, A]``.
        fills: ``[N, A]`` records ``FILL``.
        total: ``[N]`` records ``TOTAL``.
        hidden: ``[N, H]`` hidden layer of a network.
        powers: ``[N, H]`` powers of two.
        series: ``[N, H]`` values of a polynomial.
        bits: ``[N, H]`` the bits of ``powers``.
        logits: ``[N, B']``, B rounded up to a multiple of ``policies.LANES``.
        probabilities: ``[N, B']``.
    """

    bounds: Records
    limits: Records
    legal: Mask
    features: Floats
    actions: Integers
    fills: Records
    total: Records
    hidden: Floats
    powers: Floats
    series: Floats
    bits: Integers
    logits: Floats
    probabilities: Floats


def records(shape: tuple[int, ...], dtype: np.dtype[np.void]) -> Records:
    """Return zeroed records with attributes."""
    return np.zeros(shape, dtype).view(np.recarray)
