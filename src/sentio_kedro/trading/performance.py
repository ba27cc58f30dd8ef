"""Performance measures: Sharpe ratio, annual return and volatility, drawdowns, round trips.

``returns`` are simple returns of equity per bar, net of costs, [T, ...]: time is the first dimension, the others are
carried through. Computations are in float64. ``evaluation/statistics/bootstrap.py`` computes the same measures for all
resamples at once; tests hold the two against each other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

MIN_BARS = 2
STILL = 1e-12  # share of the mean; a smaller deviation is rounding
DUST = 1e-9  # share of an asset's largest position; a smaller position is rounding
ROUNDING = 1e-12  # a drawdown up to this is rounding


class RoundTrips(NamedTuple):
    """Round trips, one entry each, sorted by account, asset and entry row.

    Attributes:
        account: Index in [0, N).
        asset: Index in [0, A).
        side: 1 long, -1 short.
        entry_row: Row in [0, T) whose fill opened the position.
        exit_row: Row in [0, T) whose fill closed or flipped it; T - 1 if it was still open.
        pnl: Profit net of costs, quote currency.
        entry_notional: Size of the opening fill, quote currency.
        still_open: True if the position was open after the last row and was valued at the last mark.
    """

    account: Tensor
    asset: Tensor
    side: Tensor
    entry_row: Tensor
    exit_row: Tensor
    pnl: Tensor
    entry_notional: Tensor
    still_open: Tensor


class DrawdownPeriods(NamedTuple):
    """Drawdown periods, one entry per period, sorted by account and start.

    Attributes:
        account: Index in [0, N).
        start_row: First row in [0, T) below the peak.
        bottom_row: Row of the largest loss from that peak, the first of them.
        last_row: Last row below the peak; the next one is back at it if ``recovered``.
        depth: Largest loss from the peak, a fraction in (0, 1].
        recovered: False if the equity was still below the peak at the last row.
    """

    account: Tensor
    start_row: Tensor
    bottom_row: Tensor
    last_row: Tensor
    depth: Tensor
    recovered: Tensor


def sharpe_ratio(returns: Tensor, periods_per_year: float) -> Tensor:
    """Annualised Sharpe ratio [...]: mean over sample deviation, times the root of the bars per year.

    Flat bars count. 0 where the returns do not vary. The risk-free rate is zero (Sharpe 1994, The Sharpe Ratio, Journal
    of Portfolio Management).

    Raises:
        ValueError: If there are fewer than two bars.
    """
    values = _checked(returns, MIN_BARS)
    deviation, mean = torch.std_mean(values, dim=0, correction=1)
    varies = deviation > STILL * mean.abs()
    ratio = mean / torch.where(varies, deviation, 1.0) * math.sqrt(periods_per_year)
    return torch.where(varies, ratio, 0.0)


def annual_return(returns: Tensor, periods_per_year: float) -> Tensor:
    """Geometric return a year [...], a fraction; -1 for an account that lost everything."""
    values = _checked(returns, 1)
    growth = torch.log1p(values.clamp(min=-1.0)).mean(dim=0)  # log 0 = -inf for a lost account
    return torch.expm1(growth * periods_per_year)


def annual_volatility(returns: Tensor, periods_per_year: float) -> Tensor:
    """Sample deviation of the returns [...], scaled to a year by the root of the bars per year, a fraction.

    Raises:
        ValueError: If there are fewer than two bars.
    """
    deviation: Tensor = _checked(returns, MIN_BARS).std(dim=0, correction=1)
    return deviation * math.sqrt(periods_per_year)


def drawdown(returns: Tensor) -> Tensor:
    """Loss from the highest equity so far [T, ...], a fraction in [0, 1].

    The initial capital counts as a peak: a first return of -10 % is a drawdown of 10 %.
    """
    equity = torch.cumprod(1.0 + _checked(returns, 1).clamp(min=-1.0), dim=0)
    peak = torch.cummax(equity.clamp(min=1.0), dim=0).values  # clamped: the start is 1
    return 1.0 - equity / peak


def maximum_drawdown(returns: Tensor) -> Tensor:
    """Largest drawdown [...], a fraction in [0, 1]."""
    return drawdown(returns).amax(dim=0)


def drawdown_periods(returns: Tensor) -> DrawdownPeriods:
    """Find the periods of N accounts below their peaks, from ``returns`` [T] or [T, N].

    The initial capital counts as a peak. A period ends when equity is back at the peak, to 1e-12.

    Raises:
        ValueError: If ``returns`` has no bars or more than two dimensions.
    """
    if returns.dim() > 2:  # noqa: PLR2004 - rows, accounts
        raise ValueError(f"`returns` must be [T] or [T, N], had shape {list(returns.shape)}; flatten the accounts.")
    depth = drawdown(returns).reshape(returns.shape[0], -1).T.contiguous()  # [N, T], an account's rows are neighbours
    below, rows = depth > ROUNDING, depth.shape[1]
    outside = torch.zeros_like(below[:, :1])
    starts = below & ~torch.cat([outside, below[:, :-1]], dim=1)
    ends = below & ~torch.cat([below[:, 1:], outside], dim=1)
    start, last = (edge.reshape(-1).nonzero().squeeze(1) for edge in (starts, ends))
    period = torch.cumsum(starts.reshape(-1), dim=0) - 1
    losing = below.reshape(-1).nonzero().squeeze(1)
    loss, of = depth.reshape(-1)[losing], period[losing]
    deepest = loss.new_zeros(len(start)).scatter_reduce(0, of, loss, "amax")
    at_bottom = torch.where(loss == deepest[of], losing, depth.numel())
    bottom = torch.full_like(start, depth.numel()).scatter_reduce(0, of, at_bottom, "amin")
    last_row = last % rows
    return DrawdownPeriods(start // rows, start % rows, bottom % rows, last_row, deepest, last_row < rows - 1)


def round_trips(shares: Tensor, fill_price: Tensor, cost: Tensor, last_mark: Tensor) -> RoundTrips:
    """Cut positions into round trips, with the profit of each net of its costs.

    A round trip starts when a position leaves zero or changes sign and ends when it returns to zero or changes sign. A
    fill that flips a position ends one round trip and starts the next; its cost is shared in proportion to the shares.
    Positions are zero before the first row. A position open after the last row is valued at ``last_mark`` and flagged.
    The profits of an asset's round trips add up to its profit over all rows. Positions below 1e-9 of the asset's
    largest one count as zero.

    Args:
        shares: Shares held after the fill of each row, [T, N, A]; T rows, N accounts, A assets.
        fill_price: Price of the fill of each row, quote currency, [T, A] or [T, N, A]; read only where shares change.
        cost: Costs of the row and asset, quote currency, [T, N, A]; negative for income such as a dividend. A cost
            without a trade belongs to the position held.
        last_mark: Price at the end of the last row, quote currency, [A] or [N, A].

    Raises:
        ValueError: If shapes differ, or a price or cost that is needed is not finite.
    """
    _check_trades(shares, fill_price, cost, last_mark)
    rows, accounts, assets = shares.shape
    held = shares.double()
    held = torch.where(held.abs() <= DUST * held.abs().amax(dim=0), 0.0, held)
    before = torch.cat([torch.zeros_like(held[:1]), held[:-1]])
    change = held - before
    price = (fill_price if fill_price.dim() == shares.dim() else fill_price[:, None, :]).double().expand_as(held)
    price = torch.where(change == 0, 0.0, price)  # no price is needed without a trade
    starts = (held != 0) & (held.sign() != before.sign())
    ends = (before != 0) & (held.sign() != before.sign())

    # A fill has a part that closes the old round trip and a part that opens or changes the current one.
    opening = torch.where(ends, held, change)
    share = torch.where(change == 0, 1.0, opening.abs() / torch.where(change == 0, 1.0, change.abs()))
    current_flow = -opening * price - cost * share
    closing_flow = torch.where(ends, before * price - cost * (1.0 - share), 0.0)

    started, current, ended = (_by_asset(part) for part in (starts, held != 0, ends))
    current_round_trip = torch.cumsum(started, dim=0) - 1
    closing_round_trip = current_round_trip - started.long()
    entry = started.nonzero().squeeze(1)  # positions in the flat order account, asset, row
    pnl = torch.zeros(len(entry), dtype=torch.float64, device=shares.device)
    pnl.index_add_(0, current_round_trip[current], _by_asset(current_flow)[current])
    pnl.index_add_(0, closing_round_trip[ended], _by_asset(closing_flow)[ended])
    exit_row = torch.full_like(entry, rows - 1)
    exit_row[closing_round_trip[ended]] = ended.nonzero().squeeze(1) % rows
    still_open = torch.ones_like(entry, dtype=torch.bool)
    still_open[closing_round_trip[ended]] = False
    account, asset = entry // (rows * assets), entry // rows % assets
    mark = last_mark.double().expand(accounts, assets)[account, asset]
    pnl = pnl + torch.where(still_open, held[-1, account, asset] * mark, 0.0)
    opened = _by_asset(held)[entry]
    notional = opened.abs() * _by_asset(price)[entry]
    return RoundTrips(account, asset, opened.sign().long(), entry % rows, exit_row, pnl, notional, still_open)


def _by_asset(values: Tensor) -> Tensor:
    """Flatten [T, N, A] so that the rows of one account's asset are neighbours."""
    return values.permute(1, 2, 0).reshape(-1)


def _checked(returns: Tensor, min_bars: int) -> Tensor:
    if returns.dim() == 0 or returns.shape[0] < min_bars:
        raise ValueError(
            f"`returns` must hold at least {min_bars} bars, had shape {list(returns.shape)}; give more bars."
        )
    return returns.double()


def _check_trades(shares: Tensor, fill_price: Tensor, cost: Tensor, last_mark: Tensor) -> None:
    if shares.dim() != 3 or 0 in shares.shape:  # noqa: PLR2004 - rows, accounts, assets
        raise ValueError(f"`shares` must be [T, N, A] with no empty dimension, had shape {list(shares.shape)}.")
    rows, accounts, assets = shares.shape
    problems = [
        f"`{name}` must have shape {' or '.join(map(str, shapes))}, had {list(value.shape)}"
        for name, value, shapes in (
            ("fill_price", fill_price, ([rows, assets], [rows, accounts, assets])),
            ("cost", cost, ([rows, accounts, assets],)),
            ("last_mark", last_mark, ([assets], [accounts, assets])),
        )
        if list(value.shape) not in shapes
    ]
    if problems:
        raise ValueError("; ".join(problems) + ".")
    traded = torch.diff(shares, dim=0, prepend=torch.zeros_like(shares[:1])) != 0
    price = fill_price if fill_price.dim() == shares.dim() else fill_price[:, None, :]
    for name, bad, remedy in (
        ("shares", ~shares.isfinite(), "give the position after every row"),
        ("fill_price", traded & ~price.isfinite(), "an asset without a price cannot be traded"),
        ("cost", ~cost.isfinite(), "give 0 for a row without costs"),
        ("last_mark", (shares[-1] != 0) & ~last_mark.isfinite(), "give the last known price"),
    ):
        if bool(bad.any()):
            first = bad.nonzero()[0].tolist()
            problems.append(f"`{name}` must be finite where it is needed, was not at index {first}; {remedy}")
    if problems:
        raise ValueError("; ".join(problems) + ".")
