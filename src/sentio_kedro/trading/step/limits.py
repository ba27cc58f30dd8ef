"""Limits of an account at the close of a decision bar: layers of the mask, legal levels, and what a level may become.

Every layer is a cap on the size of a position, a fraction of equity. Positions are re-sized to caps of size. Caps of
growth forbid increases alone: at zero a position may be kept or reduced. What a drawdown leaves also scales every
position: capped alone, small ones would keep their size until the account can lose no more.
"""

from __future__ import annotations

from math import inf

from sentio_kedro.trading.compilation import compiled
from sentio_kedro.trading.records import Accounts, Floats, Market, Records, Scratch, Terms

MIN_EQUITY = 1e-12  # smallest divisor of fractions of equity
MIN_CAP = 1e-6  # of equity; targets that differ by less are the same
DUST = 1e-6  # of its terms; a smaller sum of orders is rounding
MIN_SHARE = 0.99  # of a level; a layer with a smaller cap cuts it
TIE = 1e-6  # relative difference up to which two sizes are equal
DAY_TRADER_EQUITY = 25_000.0  # FINRA rule 4210 limits accounts below it to three day trades in five sessions
DAY_TRADES = 3.0
(
    VALIDITY,
    EXPOSURE,
    DRAWDOWN,
    DAILY_LOSS,
    VALUE_AT_RISK,
    VOLATILITY,
    REGIME,
    SESSION,
    LIQUIDITY,
    COMPLIANCE,
    KELLY,
) = range(11)  # indices of records.LAYERS


@compiled
def set_bounds(
    n: int, row: int, model: int, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch
) -> None:
    """Write the limits of account ``n`` in all assets to ``scratch.bounds``, with the caps of a regime ``model``."""
    account, bounds, rules = accounts.account[n], scratch.bounds[n], terms.rules[0]
    bounds.headroom = headroom(account, rules)
    bounds.regime_cap, bounds.regime_growth = market.regimes[row, model, 0], market.regimes[row, model, 1]
    gross = 0.0
    for a in range(market.facts.shape[1]):
        gross += abs(accounts.holdings[n, a].shares) * market.facts[row, a].close
    bounds.called = account.alive and account.equity < rules.maintenance_margin * gross
    bounds.stopped = _stopped(account, accounts.day_trades[n], market.clock[row], rules)


@compiled
def headroom(account: Records, rules: Records) -> float:
    """Share of full exposure that the drawdown limit leaves, in [0, 1].

    1 up to the soft limit, then linear to 0 at the limit: the policy of Grossman and Zhou, Optimal Investment
    Strategies for Controlling Drawdowns (Mathematical Finance, 1993), discretised. The peak is the highest equity of
    the last ``trading.drawdown_sessions``.
    """
    if rules.max_drawdown == inf or not account.guarded:
        return 1.0
    drawdown = 1.0 - account.equity / max(account.peak_equity, MIN_EQUITY)
    span = rules.max_drawdown * (1.0 - rules.drawdown_soft_limit)
    return min(max((rules.max_drawdown - drawdown) / span, 0.0), 1.0)


@compiled
def _stopped(account: Records, day_trades: Floats, clock: Records, rules: Records) -> bool:
    """Whether the pattern-day-trader rule allows reductions only at the next open."""
    if not rules.pattern_day_trader or account.equity >= DAY_TRADER_EQUITY:
        return False
    trades = 0.0
    for session in range(1 if clock.session_starts else 0, len(day_trades)):
        trades += day_trades[session]
    return trades >= DAY_TRADES


@compiled
def without_dust(shares: float, size: float) -> float:
    """Set a sum of shares to 0 where it is rounding relative to the ``size`` of its terms."""
    return 0.0 if abs(shares) <= DUST * size else shares


@compiled
def set_limits(n: int, row: int, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch) -> None:
    """Write position, scale, cap and growth of every asset to ``scratch.limits``.

    For accounts that are not guarded only ``trading.max_position`` and margin calls apply.
    """
    account, in_flight, bounds, rules = accounts.account[n], accounts.in_flight[n], scratch.bounds[n], terms.rules[0]
    equity = max(account.equity, MIN_EQUITY)
    leave = bounds.called or (account.guarded and must_leave(account, market.clock[row], rules))
    for a in range(len(in_flight)):
        fact, limit, share = market.facts[row, a], scratch.limits[n, a], terms.allocation[a]
        committed = accounts.holdings[n, a].shares
        size = abs(committed)
        for slot in range(in_flight.shape[1]):
            committed += in_flight[a, slot]
            size += abs(in_flight[a, slot])
        limit.committed = without_dust(committed, size)
        limit.position = limit.committed * fact.close / equity
        cap, growth = rules.max_position, inf
        if leave or fact.unlisted or fact.leaving:
            cap, growth = 0.0, 0.0
        elif account.guarded:
            drawdown = layer_cap(DRAWDOWN, a, n, row, market, accounts, terms, scratch)
            cap = min(cap, drawdown, fact.var_cap, fact.volatility_cap, bounds.regime_cap * share)
            lost = layer_cap(DAILY_LOSS, a, n, row, market, accounts, terms, scratch)
            quiet = layer_cap(SESSION, a, n, row, market, accounts, terms, scratch)
            complies = layer_cap(COMPLIANCE, a, n, row, market, accounts, terms, scratch)
            liquid = fact.liquidity / equity
            growth = min(lost, quiet, complies, liquid, fact.kelly_cap, bounds.regime_growth * share)
        limit.scale, limit.cap, limit.growth = bounds.headroom, cap, growth


@compiled
def must_leave(account: Records, clock: Records, rules: Records) -> bool:
    """Whether this is the last order to be filled before the session's close, and no position may stay overnight."""
    return not rules.overnight and clock.bars_to_session_end <= account.latency


@compiled
def layer_cap(
    layer: int, a: int, n: int, row: int, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch
) -> float:
    """Cap of one layer but validity on asset ``a``, fraction of equity; infinity where it does not bind.

    Rules of a session hold until its last decision, whose order is filled in the next one.
    """
    account, holding, fact, clock = (
        accounts.account[n],
        accounts.holdings[n, a],
        market.facts[row, a],
        market.clock[row],
    )
    bounds, share, rules, cap = scratch.bounds[n], terms.allocation[a], terms.rules[0], inf
    if layer == EXPOSURE:
        cap = rules.max_position
    elif layer == DRAWDOWN:
        cap = bounds.headroom * share if rules.max_drawdown < inf else inf
    elif layer == VALUE_AT_RISK:
        cap = fact.var_cap
    elif layer == VOLATILITY:
        cap = fact.volatility_cap
    elif layer == REGIME:
        cap = min(bounds.regime_cap, bounds.regime_growth) * share
    elif layer == LIQUIDITY:
        cap = fact.liquidity / max(account.equity, MIN_EQUITY)
    elif layer == KELLY:
        cap = fact.kelly_cap
    elif layer == SESSION:
        cap = 0.0 if clock.quiet or must_leave(account, clock, rules) else inf
    elif layer == DAILY_LOSS:
        lost = account.equity < account.session_equity * (1.0 - rules.daily_loss)
        cap = 0.0 if lost and not clock.session_starts else inf
    elif layer == COMPLIANCE:
        often = holding.trades_today >= rules.trades_per_day and not clock.session_starts
        young = 0.0 < holding.bars_held < rules.min_holding_bars
        cap = 0.0 if often or young or bounds.stopped else inf
    return cap


@compiled
def capped_position(requested: float, limit: Records, shortable: bool) -> float:
    """Scale a requested position by the headroom and cut it to the caps, fraction of equity; its sign stays."""
    growth = limit.growth if shortable or requested > 0.0 else 0.0
    held = abs(limit.position) if requested * limit.position > 0.0 else 0.0
    size = min(abs(requested) * limit.scale, limit.cap, max(growth, held))
    return size if requested > 0.0 else -size


@compiled
def within_band(target: float, position: float, band: float) -> bool:
    """Whether a position is on the side of its target and nearer to it than ``band`` x target."""
    return target * position > 0.0 and abs(target - position) <= band * abs(target)


@compiled
def set_legal(n: int, row: int, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch) -> None:
    """Write the legal levels of every asset to ``scratch.legal``: those that lead to different positions.

    Flat is always legal. Another level is legal if the caps leave more of it than of the next smaller level on its
    side, and a new position is worth the minimum order. Where nothing can be traded flat is the only legal level; it
    sends no order.
    """
    account, legal = accounts.account[n], scratch.legal[n]
    for a in range(len(legal)):
        fact, limit = market.facts[row, a], scratch.limits[n, a]
        free = account.alive and fact.tradable
        least = max(terms.charges[a].min_notional, terms.charges[a].lot_size * fact.close)
        for b in range(len(terms.levels)):
            if terms.levels[b] == 0.0:
                legal[a, b] = True
                continue
            target = capped_position(terms.levels[b] * fact.unit, limit, fact.shortable)
            below = capped_position(terms.smaller[b] * fact.unit, limit, fact.shortable)
            opens = target * limit.position <= 0.0
            worth = not opens or abs(target) * account.equity * (1.0 + TIE) >= least
            legal[a, b] = free and worth and abs(target) > abs(below) + MIN_CAP


@compiled
def set_forbidden_shares(
    assets: tuple[int, int],
    n: int,
    row: int,
    market: Market,
    accounts: Accounts,
    terms: Terms,
    scratch: Scratch,
    shares: Floats,
) -> None:
    """Write the share of the levels of assets from one to before another that each layer cuts or forbids.

    They go to ``shares`` ``[layers]``. No layer objects to a reduction but validity, where an asset cannot be traded.
    """
    account, levels = accounts.account[n], terms.levels
    count = (assets[1] - assets[0]) * len(levels)
    for layer in range(len(shares)):
        shares[layer] = 0.0
    for a in range(assets[0], assets[1]):
        fact, limit = market.facts[row, a], scratch.limits[n, a]
        position = limit.position
        for b in range(len(levels)):
            exposure = levels[b] * fact.unit
            reduces = abs(exposure) <= abs(position) * (1.0 + TIE) and exposure * position >= 0.0
            for layer in range(len(shares)):
                if layer == VALIDITY:
                    least = max(terms.charges[a].min_notional, terms.charges[a].lot_size * fact.close)
                    opens = not reduces and abs(exposure) * account.equity < least
                    binds = not (account.alive and fact.tradable) or opens
                    binds = binds or (fact.leaving and exposure != 0.0)
                elif reduces or fact.leaving:
                    binds = False
                else:
                    cap = layer_cap(layer, a, n, row, market, accounts, terms, scratch)
                    binds = cap < MIN_SHARE * abs(exposure) or (layer == DRAWDOWN and limit.scale < MIN_SHARE)
                    binds = binds or (layer == COMPLIANCE and exposure < 0.0 and not fact.shortable)
                if binds:
                    shares[layer] += 1.0 / count
