"""The planted market ``limits``: ``ar1`` with a drawdown limit and sessions at whose last close everything is sold.

What an account may do depends on what it has earned, so a table of positions is no policy here. ``walk`` lets any
policy trade through the project's step, and ``scored`` scores what it held by the law.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from planted.laws import AutoregressiveLaw
from planted.limited_control import Limits
from planted.paths import PlantedPath, planted_bars
from sentio_kedro.config import CostParameters, IngestionParameters, OrderParameters, TradingParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.tensors import MarketTensors, market_tensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.records import Market
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import TARGETS, make_policies
from sentio_kedro.trading.step.walk import Ledger

DAY = 1_440  # minutes
WARM_UP = 1_027  # bars before the first train row


@dataclass(frozen=True)
class LimitedMarket:
    """The law, the limits and the sizes.

    Attributes:
        law: Law of the log returns.
        cost_bps: Commission, bps of traded notional.
        max_drawdown: Drawdown from the highest equity ever at which the account must be flat, fraction.
        minutes: Length of a bar; a session is a UTC day.
        train_bars: Bars before the validation rows, warm-up included.
        validation_bars: Decisions that constants are chosen on.
        test_bars: Decisions that are scored.
    """

    law: AutoregressiveLaw = field(default_factory=lambda: AutoregressiveLaw(0.1, 0.004))
    cost_bps: float = 2.0
    max_drawdown: float = 0.08
    minutes: int = 30
    train_bars: int = 8_192
    validation_bars: int = 4_096
    test_bars: int = 4_096

    @property
    def trading(self) -> TradingParameters:
        """What the step is told: costs, the drawdown limit, a calendar of days, and the sale at each last close."""
        return TradingParameters(
            levels=[-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0],
            max_drawdown=self.max_drawdown,
            drawdown_sessions=None,
            calendar="24/7",
            costs=CostParameters(commission_bps=self.cost_bps, half_spread_bps=0.0),
            orders=OrderParameters(flat_at_close=True),
        )

    @property
    def limits(self) -> Limits:
        """The same for dynamic programming."""
        trading = self.trading
        return Limits(
            self.law.phi,
            self.law.sigma,
            self.cost_bps * 1e-4,
            self.max_drawdown,
            self.max_drawdown * (1.0 - trading.drawdown_soft_limit),
            DAY // self.minutes,
            trading.orders.rebalance_band,
        )

    @property
    def fold(self) -> Fold:
        """Train, validation and test rows."""
        edges = np.cumsum([WARM_UP, self.train_bars - WARM_UP, self.validation_bars, self.test_bars]).tolist()
        train, validation, test = (Segment(*pair) for pair in pairwise(edges))
        return Fold(0, (train,), (validation,), (test,))

    def draw(self, seed: int) -> LimitedPath:
        """Draw a path of all rows of the fold and of the session after them, so that every row knows its last close."""
        (test,) = self.fold.test
        return LimitedPath.of(self, self.law.draw(test.stop + self.limits.session + 1, seed))


@dataclass(frozen=True)
class LimitedPath:
    """A path of the market.

    Attributes:
        market: What it was drawn from.
        path: Returns and means.
        bars: Its bars, aligned.
        tensors: The market of the step, without features.
    """

    market: LimitedMarket
    path: PlantedPath
    bars: AlignedBars
    tensors: MarketTensors

    @classmethod
    def of(cls, market: LimitedMarket, path: PlantedPath) -> LimitedPath:
        """Make the bars of a path; its first bar is the last one of a session."""
        frame = planted_bars(path.returns[:, 0], minutes=market.minutes)
        bars, rows = align_bars(frame, IngestionParameters()), len(path.returns)
        tensors = market_tensors(bars, np.zeros((rows, 1, 1)), np.ones((rows, 1)), market.trading)
        return cls(market, path, bars, tensors)

    @property
    def mean_returns(self) -> Floats:
        """Mean of the next simple return ``[T]`` given the bars so far."""
        return np.asarray(np.expm1(self.path.means[:, 0] + 0.5 * self.market.law.sigma**2))


class Decision(NamedTuple):
    """What N accounts know at a row.

    Attributes:
        row: Decision row.
        signal: ``[N]`` last log return.
        position: ``[N]`` fraction of equity.
        room: ``[N]`` drawdown limit - drawdown, fraction.
        left: ``[N]`` bars up to the session's last close.
    """

    row: int
    signal: Floats
    position: Floats
    room: Floats
    left: np.ndarray


Policy = Callable[[Decision], Floats]
"""Positions wanted ``[N]``, fractions of equity; the step cuts them to its limits."""


class Walk(NamedTuple):
    """What N accounts did over S rows.

    Attributes:
        expected: ``[S, N]`` expected profit of each bar given what was held, less the costs paid, fraction of equity.
        realised: ``[S, N]`` net return.
        positions: ``[S, N]`` held over the bar, fraction of equity.
        headroom: ``[S, N]`` cap that the drawdown limit sets.
    """

    expected: Floats
    realised: Floats
    positions: Floats
    headroom: Floats


def walk(paths: Sequence[LimitedPath], rows: Segment, policy: Policy, accounts: int = 1) -> Walk:
    """Let fresh accounts trade over rows of each path by the project's step.

    Args:
        paths: P paths of one market.
        rows: Decision rows S.
        policy: Decides for all accounts of a row at once: the ``accounts`` of the first path, then of the next.
        accounts: Accounts of each path.
    """
    trading, length = paths[0].market.trading, rows.stop - rows.start
    parts = [market_facts(path.tensors, *rows, trading) for path in paths]
    market = Market(*(np.concatenate(columns).view(type(columns[0])) for columns in zip(*parts, strict=True)))
    place = np.repeat(np.arange(len(paths)), accounts)  # [N] path of each account
    count, terms = len(place), terms_of(trading, 1)
    book = open_accounts(count, 1, trading)
    policies = make_policies(np.full(count, TARGETS), 1, len(trading.levels), source=np.arange(count))
    returns = np.stack([path.path.returns[slice(*rows), 0] for path in paths])
    steps = []
    for step in range(length):
        at = np.arange(len(paths)) * length + step  # [P] rows of the joined market
        equity = book.account.equity
        known = Decision(
            rows.start + step,
            returns[place, step],
            book.holdings.shares[:, 0] * market.facts.close[at[place], 0] / equity,
            trading.max_drawdown - 1.0 + equity / book.account.peak_equity,
            market.clock.bars_to_session_end[at[place]] + 1,
        )
        left = np.clip(known.room / paths[0].market.limits.span, 1e-9, 1.0)  # the step scales targets by it
        decided = policies._replace(targets=(policy(known) / left).reshape(1, count, 1), first_row=at[place])
        steps.append(simulate(market, book, decided, terms, at[:, None], place))
    ledger = Ledger(*(np.concatenate(part).view(type(part[0])) for part in zip(*steps, strict=True)))
    means = np.stack([path.mean_returns[slice(*rows)] for path in paths])[place].T
    return scored(ledger, means)


def scored(ledger: Ledger, means: Floats) -> Walk:
    """Score a walk in one asset, by whatever policy: ``simulate`` returns the ledger.

    The expected profit is position x mean of the next return, less the costs paid.

    Args:
        ledger: Of S rows and N accounts.
        means: ``[S, N]`` or ``[S, 1]`` mean of the next simple return, from ``LimitedPath.mean_returns``.
    """
    fills, total = ledger.fills, ledger.total
    paid = (fills.commission + fills.spread + fills.impact)[..., 0] / total.equity_before
    positions = np.asarray(fills.position[..., 0])
    realised = np.asarray(total.equity / total.equity_before - 1.0)
    return Walk(positions * means - paid, realised, positions, np.asarray(total.headroom))
