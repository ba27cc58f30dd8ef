"""A slow signal of known worth, planted into the returns of real bars."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log

import numpy as np

from planted.laws import VOLUME_SWING
from planted.paths import PLAIN_VOLUME, autoregression
from sentio_kedro.agent.control import Control
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.agent.forecasting.sleeves import net_profit
from sentio_kedro.agent.forecasting.targets import RELATIVE
from sentio_kedro.market.ingestion.adjustment import adjusted
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Segment

PERSISTENCE = 0.98
WEAKEST, STRONGEST = 1e-4, 1.0  # mean of a return per deviation of the signal, in volatilities of a bar
HALVINGS = 10


def draw_signal(rows: int, assets: int, seed: int) -> Floats:
    """Draw a first-order autoregression of ``PERSISTENCE`` and deviation 1 for each asset ``[T, A]``."""
    noise = np.random.default_rng(seed).standard_normal((assets, rows)) * np.sqrt(1.0 - PERSISTENCE**2)
    return np.stack([autoregression(own, PERSISTENCE) for own in noise], axis=-1)


def mirrored(bars: AlignedBars, seed: int) -> AlignedBars:
    """Mirror bars at random in log price, all assets of a row together: what their own returns predict is gone.

    Sizes of bars and correlations of assets stay. A bar's prices keep their ratios to the close before it, or the
    inverse of them; high and low then trade places.
    """
    own = adjusted(bars)
    sign = np.random.default_rng(seed).choice([-1.0, 1.0], (len(own.timestamps), 1))
    before = np.vstack([np.full((1, own.close.shape[1]), np.nan), own.held_close()[:-1]])
    before = np.where(np.isnan(before), own.open, before)
    ratios = {name: sign * np.log(getattr(own, name) / before) for name in ("open", "high", "low", "close")}
    path = np.cumsum(np.nan_to_num(ratios["close"]), axis=0)
    start = path - np.nan_to_num(ratios["close"])
    opened, high, low, close = (100.0 * np.exp(start + ratios[name]) for name in ("open", "high", "low", "close"))
    return replace(own, open=opened, high=np.fmax(high, low), low=np.fmin(high, low), close=close)


def planted(bars: AlignedBars, signal: Floats, means: Floats) -> AlignedBars:
    """Add ``means`` to the returns of ``bars`` and let their volume show the ``signal``.

    The mean of row t comes between the two opens after it: what a position decided at its close earns. Every bar keeps
    its shape. The volume is that of the planted market `signal` whatever the means are, so that bars planted with
    means of 0 differ in the returns alone.

    Args:
        bars: The real bars.
        signal: ``[T, A]`` of deviation 1.
        means: ``[T, A]`` log returns.
    """
    factor = np.exp(np.concatenate([np.zeros((2, means.shape[1])), np.cumsum(means, axis=0)[:-2]]))
    own = adjusted(bars)
    return replace(
        own,
        open=own.open * factor,
        high=own.high * factor,
        low=own.low * factor,
        close=own.close * factor,
        volume=np.where(own.present, PLAIN_VOLUME * np.exp(VOLUME_SWING * signal), np.nan),
    )


@dataclass(frozen=True)
class Oracle:
    """The rule on the true forecasts of a planted signal.

    Attributes:
        market: The market without it.
        signal: ``[T, A]`` of deviation 1.
        train: Rows on which the rule measures its surprise.
        test: Rows that it trades.
        sleeve: Whose positions it holds.
        price_of_risk: The rule's.
    """

    market: ForecastMarket
    signal: Floats
    train: Segment
    test: tuple[Segment, ...]
    sleeve: str
    price_of_risk: float

    def profits(self, strength: float) -> tuple[Floats, Floats]:
        """Expected and realised net profit of each test row ``[n]``, in units of risk.

        Args:
            strength: Mean of a return per deviation of the signal, in volatilities of a bar.
        """
        market, neutral = self.market, self.sleeve == RELATIVE
        means, forecasts = self.means(strength), self.forecasts(strength)
        control = Control.of([part.bars for part in market.segments], market.periods_per_year, self.price_of_risk)
        control = control.with_surprise(forecasts[slice(*self.train)], market.costs[slice(*self.train)])
        expected, realised = [], []
        for rows in (slice(*part) for part in self.test):
            costs, start = np.ascontiguousarray(market.costs[rows]), np.zeros(means.shape[1])
            units = control.positions(np.ascontiguousarray(forecasts[rows]), costs, start, neutral=neutral)
            expected.append(net_profit(units, means[rows], costs))
            realised.append(net_profit(units, market.targets[rows] + means[rows], costs))
        return np.concatenate(expected), np.concatenate(realised)

    def means(self, strength: float) -> Floats:
        """Mean of each bar's target ``[T, A]``, volatilities; 0 where it is not known."""
        return np.where(np.isfinite(self.market.targets), strength * self.signal, 0.0)

    def forecasts(self, strength: float) -> Floats:
        """True forecasts per bar of each segment ``[T, A, segments]``, volatilities."""
        own, segments = self.means(strength), self.market.segments
        own = own - own.mean(axis=1, keepdims=True) if self.sleeve == RELATIVE else own
        return own[..., None] * [np.mean(PERSISTENCE ** np.arange(part.first - 1, part.last)) for part in segments]

    def sharpe(self, strength: float) -> float:
        """Annual net Sharpe ratio that may be expected: mean expected profit over the realised one's deviation."""
        expected, realised = self.profits(strength)
        scale = max(float(realised.std()), 1e-12)
        return float(expected.mean()) / scale * self.market.periods_per_year**0.5

    def strength_for(self, sharpe: float) -> float:
        """Find the strength that makes ``sharpe`` of a signal, by bisection of its logarithm."""
        low, high = log(WEAKEST), log(STRONGEST)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.sharpe(exp(middle)) < sharpe else (low, middle)
        return exp(0.5 * (low + high))
