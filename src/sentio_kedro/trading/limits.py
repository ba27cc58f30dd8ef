"""Limits of an account at the close of a decision bar: layers of the mask, legal levels, and what a level may become.

Every layer is a cap on the size of a position, a fraction of equity. Positions are re-sized to caps of size. Caps of
growth forbid increases alone: at zero a position may be kept or reduced.
"""

from __future__ import annotations

from math import inf

from sentio_kedro.trading.compilation import compiled
from sentio_kedro.trading.records import Floats, Mask, Records

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
def margin_call(account: Records, holdings: Records, facts: Records, rules: Records) -> bool:
    """Whether equity is below the maintenance margin of the positions at the close."""
    gross = 0.0
    for a in range(len(holdings)):
        gross += abs(holdings[a].shares) * facts[a].close
    return account.alive and account.equity < rules.maintenance_margin * gross


@compiled
def without_dust(shares: float, size: float) -> float:
    """Set a sum of shares to 0 where it is rounding relative to the ``size`` of its terms."""
    return 0.0 if abs(shares) <= DUST * size else shares


@compiled
def set_limits(
    account: Records,
    holdings: Records,
    in_flight: Floats,
    day_trades: Floats,
    facts: Records,
    clock: Records,
    regime: Floats,
    allocation: Floats,
    room: float,
    called: bool,
    rules: Records,
    limits: Records,
) -> None:
    """Write position, cap and growth of every asset to ``limits`` ``[A]``.

    For accounts that are not guarded only ``trading.max_position`` and margin calls apply.
    """
    equity = max(account.equity, MIN_EQUITY)
    leave = called or (account.guarded and must_leave(account, clock, rules))
    stopped = _stopped(account, day_trades, clock, rules)
    for a in range(len(holdings)):
        holding, fact, limit = holdings[a], facts[a], limits[a]
        committed, size = holding.shares, abs(holding.shares)
        for slot in range(in_flight.shape[1]):
            committed += in_flight[a, slot]
            size += abs(in_flight[a, slot])
        limit.committed = without_dust(committed, size)
        limit.position = limit.committed * fact.close / equity
        cap, growth = rules.max_position, inf
        if leave or fact.unlisted:
            cap, growth = 0.0, 0.0
        elif account.guarded:
            share = allocation[a]
            drawdown = layer_cap(DRAWDOWN, account, holding, fact, clock, share, room, stopped, rules)
            cap = min(cap, drawdown, fact.var_cap, fact.volatility_cap, regime[0] * share)
            lost = layer_cap(DAILY_LOSS, account, holding, fact, clock, share, room, stopped, rules)
            quiet = layer_cap(SESSION, account, holding, fact, clock, share, room, stopped, rules)
            complies = layer_cap(COMPLIANCE, account, holding, fact, clock, share, room, stopped, rules)
            liquid = fact.liquidity / equity
            growth = min(lost, quiet, complies, liquid, fact.kelly_cap, regime[1] * share)
        limit.cap, limit.growth = cap, growth


@compiled
def must_leave(account: Records, clock: Records, rules: Records) -> bool:
    """Whether this is the last order to be filled before the session's close, and no position may stay overnight."""
    return not rules.overnight and clock.bars_to_session_end <= account.latency


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
def layer_cap(
    layer: int,
    account: Records,
    holding: Records,
    fact: Records,
    clock: Records,
    allocation: float,
    room: float,
    stopped: bool,
    rules: Records,
) -> float:
    """Cap of one layer but validity and regime, fraction of equity; infinity where it does not bind.

    Rules of a session hold until its last decision, whose order is filled in the next one.
    """
    cap = inf
    if layer == EXPOSURE:
        cap = rules.max_position
    elif layer == DRAWDOWN:
        cap = room * allocation if rules.max_drawdown < inf else inf
    elif layer == VALUE_AT_RISK:
        cap = fact.var_cap
    elif layer == VOLATILITY:
        cap = fact.volatility_cap
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
        cap = 0.0 if often or young or stopped else inf
    return cap


@compiled
def capped_position(requested: float, limit: Records, shortable: bool) -> float:
    """Cut a requested position to the caps, fraction of equity; its sign stays."""
    growth = limit.growth if shortable or requested > 0.0 else 0.0
    held = abs(limit.position) if requested * limit.position > 0.0 else 0.0
    size = min(abs(requested), limit.cap, max(growth, held))
    return size if requested > 0.0 else -size


@compiled
def within_band(target: float, position: float, band: float) -> bool:
    """Whether a position is on the side of its target and nearer to it than ``band`` x target."""
    return target * position > 0.0 and abs(target - position) <= band * abs(target)


@compiled
def set_legal(
    account: Records,
    facts: Records,
    limits: Records,
    levels: Floats,
    smaller: Floats,
    allocation: Floats,
    rules: Records,
    legal: Mask,
) -> None:
    """Write the legal levels of every asset to ``legal`` ``[A, B]``: those that lead to different positions.

    Flat is always legal. Another level is legal if the caps leave more of it than of the next smaller level on its side
    (``smaller`` ``[B]``), and a new position is worth the minimum order. Where nothing can be traded flat is the only
    legal level; it sends no order.
    """
    for a in range(len(limits)):
        fact, limit = facts[a], limits[a]
        free = account.alive and fact.tradable
        least = max(rules.min_notional, rules.lot_size * fact.close)
        for b in range(len(levels)):
            if levels[b] == 0.0:
                legal[a, b] = True
                continue
            target = capped_position(levels[b] * allocation[a], limit, fact.shortable)
            below = capped_position(smaller[b] * allocation[a], limit, fact.shortable)
            opens = target * limit.position <= 0.0
            worth = not opens or abs(target) * account.equity * (1.0 + TIE) >= least
            legal[a, b] = free and worth and abs(target) > abs(below) + MIN_CAP


@compiled
def set_forbidden_shares(
    account: Records,
    holdings: Records,
    day_trades: Floats,
    facts: Records,
    clock: Records,
    regime: Floats,
    limits: Records,
    levels: Floats,
    allocation: Floats,
    room: float,
    rules: Records,
    shares: Floats,
) -> None:
    """Write the share of the levels of all assets that each layer cuts or forbids to ``shares`` ``[layers]``.

    No layer objects to a reduction but validity, where an asset cannot be traded.
    """
    for layer in range(len(shares)):
        shares[layer] = 0.0
    stopped = _stopped(account, day_trades, clock, rules)
    count = len(limits) * len(levels)
    for a in range(len(limits)):
        for b in range(len(levels)):
            exposure, position = levels[b] * allocation[a], limits[a].position
            reduces = abs(exposure) <= abs(position) * (1.0 + TIE) and exposure * position >= 0.0
            for layer in range(len(shares)):
                if layer == VALIDITY:
                    least = max(rules.min_notional, rules.lot_size * facts[a].close)
                    opens = not reduces and abs(exposure) * account.equity < least
                    binds = not (account.alive and facts[a].tradable) or opens
                elif reduces:
                    binds = False
                else:
                    cap = min(regime[0], regime[1]) * allocation[a]
                    if layer != REGIME:
                        cap = layer_cap(
                            layer, account, holdings[a], facts[a], clock, allocation[a], room, stopped, rules
                        )
                    binds = cap < MIN_SHARE * abs(exposure)
                    binds = binds or (layer == COMPLIANCE and exposure < 0.0 and not facts[a].shortable)
                if binds:
                    shares[layer] += 1.0 / count
