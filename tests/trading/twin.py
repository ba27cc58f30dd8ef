"""The execution step once more: one account, plain floats, loops over assets, readable from top to bottom.

It shares no code with the vectorised step, only the names of fields: an account is an ``AccountState`` and a row a
``StepData`` with a list of A numbers where those have ``[A]``, and a number where they have ``[]`` or ``[1]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, inf, isfinite, nan, sqrt

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import AccountState
from sentio_kedro.trading.step_data import StepData

DEAD = 1e-3
TINY = 1e-12
DUST = 1e-6
PATTERN_DAY_TRADER_EQUITY = 25_000.0
LAYERS = (
    *("exposure", "drawdown", "daily_loss", "value_at_risk", "volatility", "regime"),
    *("session", "liquidity", "compliance", "kelly", "validity"),
)
LINES = (
    *("price_pnl", "commission", "spread", "impact", "borrow", "funding", "dividends"),
    *("traded", "position", "filled_shares", "shares", "exit_price"),
)


@dataclass(frozen=True)
class Variation:
    cost_multiplier: float = 1.0
    latency: int | None = None
    guarded: bool = True


@dataclass(frozen=True)
class PositionLimits:
    position: list[float]
    caps: list[dict[str, float]]
    cap: list[float]
    hold_cap: list[float]
    headroom: float
    called: bool
    guarded: bool


@dataclass
class Ledger:
    """Totals of a step, and the lines of each asset."""

    equity_before: float
    equity: float
    headroom: float
    called: bool
    assets: list[dict[str, float]]
    financing: float = 0.0
    shortfall: float = 0.0


def without_dust(total: float, largest: float, p: TradingParameters) -> float:
    """Shares that several orders add up to; what is left by rounding alone is nothing."""
    split = p.orders.latency_bars > 0 or p.orders.unfilled == "carry"
    return 0.0 if split and abs(total) <= DUST * largest else total


def committed_shares(account: AccountState, a: int, p: TradingParameters) -> float:
    held, orders = account.shares[a], account.in_flight[a]
    return without_dust(held + sum(orders), abs(held) + sum(map(abs, orders)), p)


def position_limits(
    account: AccountState, row: StepData, parameters: TradingParameters, guarded: bool = True
) -> PositionLimits:
    p, masks, assets = parameters, parameters.masks, len(account.shares)
    equity = max(account.equity, TINY)
    position = [committed_shares(account, a, p) * row.close[a] / equity for a in range(assets)]
    held = sum(abs(account.shares[a]) * row.close[a] for a in range(assets))
    maintenance = p.margin.maintenance
    called = maintenance is not None and account.alive and held > 0 and account.equity < maintenance * held
    headroom = 1.0
    if p.max_drawdown is not None and guarded:
        left = p.max_drawdown - (1 - account.equity / account.peak_equity)
        headroom = min(max(left / (p.max_drawdown * (1 - p.drawdown_soft_limit)), 0.0), 1.0)
    leaving = bool(row.must_leave) and not masks.overnight
    caps, hold_cap = [], []
    for a in range(assets):
        cap = dict.fromkeys(LAYERS, inf)
        cap["exposure"] = p.max_position
        if guarded:
            if masks.concentration is not None:
                cap["exposure"] = min(p.max_position, masks.concentration * p.gross_limit)
            if p.max_drawdown is not None:
                cap["drawdown"] = p.gross_limit / assets * headroom
            if masks.daily_loss is not None and account.equity < account.session_equity * (1 - masks.daily_loss):
                cap["daily_loss"] = 0.0
            cap["value_at_risk"] = row.var_cap[a] if row.var_cap else inf
            cap["volatility"] = row.volatility_cap[a] if row.volatility_cap else inf
            cap["regime"] = inf if row.regime_cap is None else row.regime_cap
            cap["session"] = inf if row.session_cap is None else row.session_cap
            cap["session"] = 0.0 if leaving else cap["session"]
            cap["liquidity"] = row.liquidity[a] / equity if row.liquidity else inf
            cap["kelly"] = row.kelly_cap[a] if row.kelly_cap else inf
            often = masks.trades_per_day is not None and account.trades_today[a] >= masks.trades_per_day
            pattern = (
                masks.pattern_day_trader and account.equity < PATTERN_DAY_TRADER_EQUITY and sum(account.day_trades) >= 3
            )
            young = 0 < account.bars_held[a] < (masks.min_holding_bars or 0)
            cap["compliance"] = 0.0 if often or pattern or young else inf
        hold = min(cap["exposure"], cap["drawdown"], cap["value_at_risk"]) if guarded else inf
        hold_cap.append(0.0 if called or (leaving and guarded) else hold)
        caps.append(cap)
    combined = [0.0 if called else min(cap.values()) for cap in caps]
    return PositionLimits(position, caps, combined, hold_cap, headroom, called, guarded)


def legal(
    account: AccountState, row: StepData, parameters: TradingParameters
) -> tuple[list[list[bool]], dict[str, float]]:
    """Legal actions of each asset (hold first), and the share of levels that each layer forbids."""
    view, p, assets = position_limits(account, row, parameters), parameters, len(account.shares)
    rows, forbidden = [], dict.fromkeys(LAYERS, 0)
    for a in range(assets):
        position, cap = view.position[a], view.cap[a]
        free = row.tradable[a] and account.alive
        shortable = row.shortable is None or row.shortable[a]
        least = max(p.orders.min_notional or 0.0, (p.orders.lot_size or 0.0) * row.close[a])
        hold = not free or abs(position) <= 1.25 * view.hold_cap[a]
        actions = [hold]
        for level in p.levels:
            exposure = level * p.gross_limit / assets
            target = min(max(exposure, -cap), cap)
            reducing = abs(exposure) <= abs(position) * (1 + 1e-6) and exposure * position >= 0
            within = {layer: 0.99 * abs(exposure) <= view.caps[a][layer] or reducing for layer in LAYERS}
            may_short = exposure >= 0 or shortable or reducing
            within["compliance"] = within["compliance"] and may_short
            within["validity"] = free and (abs(target - position) * account.equity * (1 + 1e-6) >= least or reducing)
            smaller = [abs(other) for other in p.levels if other * level > 0 and abs(other) < abs(level)]
            needed = max(max(smaller, default=0.0) * p.gross_limit / assets * (1 + 1e-6), 1e-6)
            increasing = cap >= needed and may_short and within["validity"]
            leave = view.called or (bool(row.must_leave) and not p.masks.overnight)
            allowed = exposure == 0 if leave else reducing or increasing
            actions.append(free and allowed)
            for layer in LAYERS:
                forbidden[layer] += not within[layer]
        rows.append(actions)
    return rows, {layer: count / (assets * len(p.levels)) for layer, count in forbidden.items()}


def project(
    current: list[float],
    wish: list[float],
    gross: float,
    net: float | None = None,
    value_at_risk: float | None = None,
    volatility: list[float] | None = None,
) -> tuple[list[float], list[float], float]:
    """Reductions pass whole, increases with the largest common factor that meets the joint limits."""
    reduced = [min(max(w, min(c, 0.0)), max(c, 0.0)) for c, w in zip(current, wish, strict=True)]
    increase = [w - r for w, r in zip(wish, reduced, strict=True)]
    rooms = [(gross - sum(map(abs, reduced)), sum(map(abs, increase)))]
    if net is not None and abs(sum(increase)) > 1e-6:  # balanced increases leave net exposure as it is
        side = 1 if sum(increase) > 0 else -1
        rooms.append((net - side * sum(reduced), abs(sum(increase))))
    if value_at_risk is not None and volatility is not None:
        used, wanted = (sum(v * abs(x) for v, x in zip(volatility, xs, strict=True)) for xs in (reduced, increase))
        rooms.append((value_at_risk - used, wanted))
    factor = min(1.0, *(max(room, 0.0) / max(wanted, TINY) for room, wanted in rooms))
    return [r + factor * i for r, i in zip(reduced, increase, strict=True)], increase, factor


def rounded(shares: float, lot: float | None) -> float:
    if lot is None or shares == 0:
        return shares
    return (1 if shares > 0 else -1) * floor(abs(shares) / lot + 1e-9) * lot


def send(
    account: AccountState,
    view: PositionLimits,
    level: list[float],
    hold: list[bool],
    row: StepData,
    p: TradingParameters,
) -> tuple[list[float], list[float]]:
    """Orders of the decision and what is left working of older ones."""
    assets, equity = len(level), max(account.equity, TINY)
    if view.called:
        return [-n for n in account.shares], [0.0] * assets
    working = [account.working[a] if hold[a] else 0.0 for a in range(assets)]
    wish = []
    for a in range(assets):
        asked = min(max(level[a] * p.gross_limit / assets, -view.cap[a]), view.cap[a])
        wish.append(view.position[a] if hold[a] else asked)
    net, value_at_risk = (p.net_limit, p.var_limit) if view.guarded else (None, None)
    target, _, _ = project(view.position, wish, p.gross_limit * view.headroom, net, value_at_risk, row.volatility)
    orders = []
    for a in range(assets):
        order = (target[a] - view.position[a]) * equity / row.close[a]
        if target[a] == 0:
            order = -committed_shares(account, a, p)
        else:
            order = rounded(order, p.orders.lot_size)
            order = 0.0 if abs(order) * row.close[a] < (p.orders.min_notional or 0.0) else order
        orders.append(0.0 if hold[a] else order)
    return orders, working


def within_margin(
    shares: list[float], fill: list[float], row: StepData, equity: float, p: TradingParameters
) -> list[float]:
    equity = max(equity, TINY)
    now = [n * o / equity for n, o in zip(shares, row.open, strict=True)]
    then = [(n + f) * o / equity for n, f, o in zip(shares, fill, row.open, strict=True)]
    target, increase, factor = project(now, then, 1 / p.margin.initial)
    cut = []
    for a in range(len(shares)):
        if factor == 1 or increase[a] == 0:
            cut.append(fill[a])
        else:
            cut.append(-shares[a] if target[a] == 0 else (target[a] - now[a]) * equity / row.open[a])
    return cut


def trade_costs(shares: float, price: float, a: int, row: StepData, p: TradingParameters) -> list[float]:
    """Commission, half spread and impact of trading so many shares of asset a."""
    n, notional = abs(shares), abs(shares) * price
    costs = p.costs
    commission = max(costs.commission_bps * 1e-4 * notional + costs.commission_per_share * n, costs.min_commission)
    impact = row.impact[a] * sqrt(n) * notional if row.impact else 0.0
    return [x if n > 0 else 0.0 for x in (commission, row.half_spread[a] * notional, impact)]


def exit_price(shares: float, entry: float, a: int, row: StepData, p: TradingParameters) -> float:
    """Price at which the position leaves inside the bar; NaN if it stays."""
    if shares == 0:
        return nan
    if not row.fillable[a]:
        return row.next_close[a] if row.delisted and row.delisted[a] else nan
    side = 1 if shares > 0 else -1
    opening, stop, goal = row.open[a], -side * inf, side * inf
    if p.orders.stop_loss is not None:
        stop = entry * (1 - side * p.orders.stop_loss)
    if p.orders.take_profit is not None:
        goal = entry * (1 + side * p.orders.take_profit)
    low, high = (row.low[a], row.high[a]) if row.low else (opening, opening)
    worst, best = (low, high) if side > 0 else (high, low)
    in_order = (
        (side * opening <= side * stop, opening),
        (side * opening >= side * goal, opening),
        (side * worst <= side * stop, stop),
        (side * best >= side * goal, goal),
        (p.orders.flat_at_close and bool(row.session_ends), row.next_close[a]),
    )
    return next((price for reached, price in in_order if reached), nan)


def step(
    account: AccountState,
    level: list[float],
    hold: list[bool],
    row: StepData,
    p: TradingParameters,
    variation: Variation,
) -> tuple[AccountState, Ledger]:
    """From the close of bar t to the close of bar t + 1."""
    assets, equity = range(len(level)), account.equity
    view = position_limits(account, row, p, variation.guarded)
    lines = [dict.fromkeys(LINES, 0.0) | {"exit_price": nan} for _ in assets]
    book = Ledger(equity, equity, view.headroom, view.called, lines)
    if not account.alive:
        return account, book
    orders, working = send(account, view, level, hold, row, p)
    in_flight, arriving = queued(account, orders, working, view.called, p, variation.latency)

    split = row.split or [1.0 for _ in assets]
    shares = [account.shares[a] * split[a] for a in assets]
    arriving = [arriving[a] * split[a] for a in assets]
    in_flight = [[n * split[a] for n in in_flight[a]] for a in assets]
    entry = [account.entry_price[a] / split[a] for a in assets]
    years = row.years or 0.0
    for a, line in enumerate(lines):
        quoted = row.close[a] / split[a]
        line["price_pnl"] = shares[a] * (row.open[a] - quoted)
        line["dividends"] = shares[a] * row.dividend[a] if row.dividend else 0.0
        line["borrow"] = p.carry.borrow_rate * years * max(-shares[a], 0.0) * quoted
    owed, owned = max(-account.cash, 0.0), max(account.cash, 0.0)
    book.financing = years * (p.carry.financing_rate * owed - p.carry.interest_rate * owned)
    carry = sum(line["dividends"] - line["borrow"] for line in lines) - book.financing
    equity_open = equity + sum(line["price_pnl"] for line in lines) + carry
    if equity_open <= DEAD * account.initial_equity:
        for a, line in enumerate(lines):
            line["filled_shares"], line["position"] = shares[a], shares[a] * row.open[a] / max(equity, TINY)
        return buried(account, equity_open, book), book

    fill = filled(shares, arriving, row, equity_open, view.called, p)
    carried = p.orders.unfilled == "carry" and not view.called
    working = [without_dust(arriving[a] - fill[a], abs(arriving[a]), p) if carried else 0.0 for a in assets]
    cash = account.cash + carry
    for a, line in enumerate(lines):
        entry[a] = average_entry(shares[a], fill[a], entry[a], row.open[a], p)
        inside_the_bar(line, shares[a] + fill[a], fill[a], entry[a], a, row, p, variation.cost_multiplier)
        line["position"] = line["filled_shares"] * row.open[a] / max(equity, TINY)
        if isfinite(line["exit_price"]):
            working[a], in_flight[a], entry[a] = 0.0, [0.0 for _ in in_flight[a]], 0.0
            cash += line["filled_shares"] * line["exit_price"]
        cash -= fill[a] * row.open[a] + line["commission"] + line["spread"] + line["impact"] + line["funding"]
    costs = sum(line["commission"] + line["spread"] + line["impact"] + line["funding"] for line in lines)
    book.equity = equity + sum(line["price_pnl"] for line in lines) + carry - costs
    if book.equity <= DEAD * account.initial_equity:
        return buried(account, book.equity, book), book

    same = [fill[a] == 0 and not isfinite(lines[a]["exit_price"]) for a in assets]
    end = [line["shares"] for line in lines]
    moved = account._replace(
        cash=cash,
        shares=end,
        equity=book.equity,
        peak_equity=max(account.peak_equity, book.equity),
        bars_held=[0.0 if end[a] == 0 else account.bars_held[a] + 1 if same[a] else 1.0 for a in assets],
        entry_price=entry,
        working=working,
        in_flight=in_flight,
    )
    exits = [bool(isfinite(lines[a]["exit_price"]) and row.fillable[a]) for a in assets]
    return counted(moved, equity, shares, fill, exits, bool(row.session_starts)), book


def filled(
    shares: list[float], arriving: list[float], row: StepData, equity_open: float, called: bool, p: TradingParameters
) -> list[float]:
    """What of the arriving shares is traded at the open."""
    fill = [n if fillable else 0.0 for n, fillable in zip(arriving, row.fillable, strict=True)]
    if not called:
        if row.max_shares:
            fill = [min(max(n, -most), most) for n, most in zip(fill, row.max_shares, strict=True)]
        if p.margin.initial is not None:
            fill = within_margin(shares, fill, row, equity_open, p)
    fill = [n if n == whole else rounded(n, p.orders.lot_size) for n, whole in zip(fill, arriving, strict=True)]
    left = [without_dust(held + n, abs(held), p) for held, n in zip(shares, fill, strict=True)]
    return [n if rest != 0 else -held for held, n, rest in zip(shares, fill, left, strict=True)]


def inside_the_bar(
    line: dict[str, float],
    shares: float,
    fill: float,
    entry: float,
    a: int,
    row: StepData,
    p: TradingParameters,
    more: float,
) -> None:
    """Write what the fill costs and what the position earns until the close, or until it leaves."""
    trades, last = [(fill, row.open[a])], row.next_close[a]
    leave = exit_price(shares, entry, a, row, p)
    end = 0.0 if isfinite(leave) else shares
    if isfinite(leave):
        last = leave
        trades += [(shares, leave)] if row.fillable[a] else []
    for number, price in trades:
        commission, spread, impact = trade_costs(number, price, a, row, p)
        line["commission"] += more * commission
        line["spread"] += more * spread
        line["impact"] += more * impact
        line["traded"] += abs(number) * price
    line["filled_shares"], line["shares"], line["exit_price"] = shares, end, leave
    line["price_pnl"] += shares * (last - row.open[a])
    line["funding"] = row.funding[a] * end * row.next_close[a] if row.funding else 0.0


def queued(
    account: AccountState,
    orders: list[float],
    working: list[float],
    called: bool,
    p: TradingParameters,
    own: int | None,
) -> tuple[list[list[float]], list[float]]:
    """Orders still in flight after this step's have joined, and the shares that reach the market at the next open."""
    latency = p.orders.latency_bars
    if called:
        return [[0.0] * latency for _ in orders], orders
    delay = latency if own is None else own
    in_flight, arriving = [], []
    for a, order in enumerate(orders):
        queue = [*account.in_flight[a], 0.0]
        terms = [queue.pop(0), working[a]]
        if delay == 0:
            terms.append(order)
        else:
            queue[delay - 1] += order
        in_flight.append(queue)
        arriving.append(without_dust(sum(terms), max(map(abs, terms)), p))
    return in_flight, arriving


def average_entry(before: float, fill: float, entry: float, opening: float, p: TradingParameters) -> float:
    after = before + fill
    if after == 0 or (p.orders.stop_loss is None and p.orders.take_profit is None):
        return 0.0
    if before * after <= 0:
        return opening
    if abs(after) > abs(before):
        return (abs(before) * entry + abs(fill) * opening) / abs(after)
    return entry


def buried(account: AccountState, equity: float, book: Ledger) -> AccountState:
    """A bankrupt account: its broker bears what is below zero, and nothing of it is left."""
    left = max(equity, 0.0)
    book.shortfall, book.equity = left - equity, left
    for line in book.assets:
        line["shares"] = 0.0
    none = [0.0 for _ in book.assets]
    queues = [[0.0 for _ in queue] for queue in account.in_flight]
    dead = account._replace(cash=left, equity=left, peak_equity=max(account.peak_equity, left), alive=False)
    return dead._replace(shares=none, bars_held=none, entry_price=none, working=none, in_flight=queues)


def counted(
    account: AccountState, equity: float, before: list[float], fill: list[float], exits: list[bool], new_session: bool
) -> AccountState:
    """Sessions, trades and day trades; the fill bar may be the first of a session."""
    today, opened, days = account.trades_today, account.opened_today, account.day_trades
    if new_session:
        account = account._replace(session_equity=equity)
        today, opened, days = [0.0 for _ in fill], [0.0 for _ in fill], [*days[1:], 0.0]
    trades, opens, round_trips = [], [], 0
    for a, traded in enumerate(fill):
        after = before[a] + traded
        enlarges = abs(after) > abs(before[a]) or after * before[a] < 0
        opens.append(1.0 if enlarges else opened[a])
        round_trips += bool(opened[a]) and traded * before[a] < 0
        round_trips += exits[a] and bool(opens[a])
        trades.append(today[a] + (traded != 0) + exits[a])
    days = [*days[:-1], days[-1] + round_trips]
    return account._replace(trades_today=trades, opened_today=opens, day_trades=days)
