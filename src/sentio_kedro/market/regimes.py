"""Volatility regimes of the market: a Gaussian hidden Markov model and its forward filter.

The model is fitted on train rows alone. Its posteriors are filtered, never smoothed: the posterior at row t is a
function of the last ``memory`` returns up to t, the same in training, backtest and live.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numpy.typing import NDArray

from sentio_kedro.config import RegimeParameters
from sentio_kedro.market.ingestion.adjustment import adjusted
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats

if TYPE_CHECKING:  # only a fit needs it, and it brings scikit-learn, two thirds of a second
    from hmmlearn.hmm import GaussianHMM

logger = logging.getLogger(__name__)

MIN_TRANSITION = 1e-6  # of transitions without an example in train rows
MIN_VARIANCE = 1e-4  # of a state, in units of the train rows' variance
MIN_LOG_EMISSION = -200.0  # relative to the likeliest state: keeps products above underflow
TOLERANCE = 1e-5  # gain of an iteration, log likelihood per row, below which a fit has converged


def market_return(bars: AlignedBars) -> Floats:
    """Return the equal-weighted log total return of the assets present at each timestamp [T], 0 where there is none.

    An asset's return is measured from its last close, free of splits and dividends.
    """
    bars = adjusted(bars)
    held = bars.held_close()
    returns = np.full(held.shape, np.nan)
    returns[1:] = np.log(bars.close[1:] / held[:-1])
    finite = np.isfinite(returns)
    total = np.where(finite, returns, 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(finite.sum(axis=1), 1))


@dataclass(frozen=True, eq=False)
class RegimeModel:
    """A hidden Markov model of market returns with K states from calm to volatile.

    Attributes:
        means: Mean log return per bar of each state [K].
        deviations: Standard deviation of each state [K], increasing.
        transition: Probability of state j after state i [K, K].
        stationary: Long-run share of each state [K]; the filter starts from it.
        memory: Rows that the filter looks back, its own included.
    """

    means: Floats
    deviations: Floats
    transition: Floats
    stationary: Floats
    memory: int

    @property
    def states(self) -> int:
        """Number of states K."""
        return len(self.means)

    def filter(self, returns: Floats) -> Floats:
        """Return the forward-filtered posterior of each row, a function of its last ``memory`` returns.

        Row t is the forward recursion over rows max(0, t - memory + 1) .. t from the stationary distribution. Products
        of one-row matrices over windows of 1, 2, 4, ... rows are combined to windows of ``memory`` rows, all rows at
        once.

        Args:
            returns: Market log returns [T].

        Returns:
            Posteriors [T, K], rows sum to 1.
        """
        rows = len(returns)
        posterior = np.broadcast_to(self.stationary, (rows, self.states)).copy()  # over an empty window
        if self.states == 1 or rows == 0:
            return np.ones((rows, self.states))
        window = self.transition * self._emissions(returns)[:, None, :]  # [T, K, K] product over `span` rows
        span, rest = 1, self.memory
        while rest:
            if rest & 1:  # extend the posterior by the newer `span` rows
                older = np.broadcast_to(self.stationary, posterior.shape).copy()
                older[span:] = posterior[:-span]
                posterior = np.matmul(older[:, None, :], window)[:, 0, :]
                posterior /= posterior.sum(axis=1, keepdims=True)
            rest >>= 1
            if rest:
                window[span:] = np.matmul(window[:-span], window[span:])
                window /= window.max(axis=(1, 2), keepdims=True)
                span *= 2
        return posterior

    def newest(self, returns: Floats) -> Floats:
        """Return the posterior of the last row [K], without those of the others: the forward recursion as it stands.

        Args:
            returns: Market log returns [T], T at least 1.
        """
        if self.states == 1:
            return np.ones(1)
        latest = np.asarray(returns)[-self.memory :]
        posterior = self.stationary.copy()
        _forward(self.transition, self._emissions(latest), posterior)
        return posterior

    def _emissions(self, returns: Floats) -> Floats:
        """Return the likelihood of each return under each state over that of the likeliest state [T, K]."""
        scores = (np.asarray(returns)[:, None] - self.means) / self.deviations
        logs = -0.5 * scores**2 - np.log(self.deviations)
        relative = np.maximum(logs - logs.max(axis=1, keepdims=True), MIN_LOG_EMISSION)
        return np.asarray(np.exp(relative))

    def to_dict(self) -> dict[str, Any]:
        """Return the model as JSON-able values that ``from_dict`` reads back to the same bits."""
        return {
            "means": self.means.tolist(),
            "deviations": self.deviations.tolist(),
            "transition": self.transition.tolist(),
            "stationary": self.stationary.tolist(),
            "memory": self.memory,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RegimeModel:
        """Read what ``to_dict`` wrote.

        Raises:
            ValueError: If it is no such model.
        """
        arrays = {
            name: np.asarray(values[name], dtype=np.float64)
            for name in ("means", "deviations", "transition", "stationary")
        }
        states = len(arrays["means"])
        for name, array in arrays.items():
            shape = (states, states) if name == "transition" else (states,)
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"`{name}` of a regime model must be finite and of shape {shape}, was {values[name]}")
        return cls(**arrays, memory=int(values["memory"]))


@numba.njit(nogil=True, cache=True)
def _forward(transition: Floats, emissions: Floats, posterior: Floats) -> None:
    """Carry a posterior [K], in place, over rows of ``emissions`` [T, K]."""
    states = len(posterior)
    ahead = np.empty(states)
    for row in range(len(emissions)):
        total = 0.0
        for state in range(states):
            reached = 0.0
            for before in range(states):
                reached += posterior[before] * transition[before, state]
            ahead[state] = reached * emissions[row, state]
            total += ahead[state]
        for state in range(states):
            posterior[state] = ahead[state] / total


def fit_regimes(segments: Sequence[Floats], parameters: RegimeParameters, seed: int) -> RegimeModel:
    """Fit the model to contiguous stretches of train returns.

    A state that holds less than ``min_occupancy`` of the rows is merged away by refitting with one state fewer.

    Args:
        segments: Market log returns of the train rows, one array per contiguous segment.
        parameters: States, memory and effort of the fit.
        seed: Root of the random starts.

    Returns:
        The likeliest of the restarts, states ordered by deviation.

    Raises:
        ValueError: If there are fewer than two train returns, or one is not finite.
    """
    rows = np.concatenate([np.asarray(segment, dtype=np.float64) for segment in segments] or [np.zeros(0)])
    if len(rows) < 2 or not np.isfinite(rows).all():  # noqa: PLR2004 - a deviation needs two
        raise ValueError(
            f"`segments` must hold at least 2 finite returns, had {int(np.isfinite(rows).sum())} finite of {len(rows)};"
            " give the regime fit more train rows."
        )
    scale = float(rows.std())
    lengths = [len(segment) for segment in segments if len(segment)]
    states = min(parameters.states, len(np.unique(rows)))
    while states > 1 and scale > 0.0:
        model = _likeliest(rows / scale, lengths, states, parameters, seed)
        if model is None:
            states -= 1
            continue
        fitted = _ordered(model, scale, parameters.memory)
        occupancy = np.concatenate([fitted.filter(segment) for segment in segments if len(segment)]).mean(axis=0)
        if occupancy.min() >= parameters.min_occupancy:
            return fitted
        logger.warning(
            "Regime state %d of %d holds %.2f %% of the train rows, less than `regimes.min_occupancy` = %.2f %%; "
            "refitting with %d states.",
            int(occupancy.argmin()),
            states,
            100.0 * float(occupancy.min()),
            100.0 * parameters.min_occupancy,
            states - 1,
        )
        states -= 1
    deviation = max(scale, np.finfo(np.float64).tiny)
    one = np.ones(1)
    return RegimeModel(np.array([rows.mean()]), np.array([deviation]), np.ones((1, 1)), one, parameters.memory)


def _likeliest(
    rows: Floats, lengths: Sequence[int], states: int, parameters: RegimeParameters, seed: int
) -> GaussianHMM | None:
    """Return the best of the restarts, null if all degenerate; a fit that did not converge is reported."""
    best: tuple[float, GaussianHMM] | None = None
    for restart in range(parameters.restarts):
        model = _start(rows, states, parameters, np.random.default_rng([seed, states, restart]))
        with _quiet():
            likelihood = _fitted_likelihood(model, rows[:, None], lengths)
        if np.isfinite(likelihood) and (best is None or likelihood > best[0]):
            best = (likelihood, model)
    if best is None:
        logger.warning("No regime fit with %d states has a finite likelihood; trying fewer.", states)
        return None
    history = list(best[1].monitor_.history)
    if len(history) < 2 or history[-1] - history[-2] >= TOLERANCE * len(rows):  # noqa: PLR2004 - a gain needs two
        logger.warning(
            "The regime fit with %d states did not converge in `regimes.iterations` = %d; its last estimate is used.",
            states,
            parameters.iterations,
        )
    return best[1]


def _fitted_likelihood(model: GaussianHMM, rows: Floats, lengths: Sequence[int]) -> float:
    try:
        return float(model.fit(rows, lengths).score(rows, lengths))
    except ValueError:  # a state lost all its rows, and its parameters became NaN
        return float("nan")


def _start(rows: Floats, states: int, parameters: RegimeParameters, rng: np.random.Generator) -> GaussianHMM:
    """Return a model that starts from persistent states which differ in volatility.

    The common start, k-means, sorts returns by sign and size and ends in worse optima.
    """
    from hmmlearn.hmm import GaussianHMM  # noqa: PLC0415 - see above

    model = GaussianHMM(
        n_components=states,
        covariance_type="diag",
        min_covar=MIN_VARIANCE,
        n_iter=parameters.iterations,
        tol=TOLERANCE * len(rows),
        init_params="",
    )
    sizes = np.array_split(np.sort(rows**2), states)
    variances = np.array([size.mean() for size in sizes]) * np.exp(rng.normal(size=states))
    stay = rng.uniform(0.8, 0.99)
    model.startprob_ = np.full(states, 1.0 / states)
    model.transmat_ = np.full((states, states), (1.0 - stay) / states) + stay * np.eye(states)
    model.means_ = np.full((states, 1), rows.mean())
    model.covars_ = np.maximum(variances, MIN_VARIANCE)[:, None]
    return model


def _ordered(model: GaussianHMM, scale: float, memory: int) -> RegimeModel:
    """Return the fitted model with states from calm to volatile, in units of returns."""
    deviations = np.sqrt(np.asarray(model.covars_, dtype=np.float64).reshape(-1))
    order = np.argsort(deviations, kind="stable")
    transition = np.maximum(np.asarray(model.transmat_, dtype=np.float64)[np.ix_(order, order)], MIN_TRANSITION)
    transition /= transition.sum(axis=1, keepdims=True)
    means = np.asarray(model.means_, dtype=np.float64)[order, 0]
    return RegimeModel(
        means * scale, deviations[order] * scale, transition, stationary_distribution(transition), memory
    )


def stationary_distribution(transition: NDArray[np.float64]) -> Floats:
    """Return the distribution p with p = p @ ``transition`` [K].

    Args:
        transition: Row-stochastic matrix [K, K] whose states all communicate.
    """
    states = len(transition)
    equations = np.vstack([transition.T - np.eye(states), np.ones((1, states))])
    target = np.concatenate([np.zeros(states), [1.0]])
    solution = np.maximum(np.linalg.lstsq(equations, target, rcond=None)[0], 0.0)
    return np.asarray(solution / solution.sum())


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the fit's own messages; this module reports failures itself."""
    chatter = logging.getLogger("hmmlearn")
    level = chatter.level
    chatter.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        chatter.setLevel(level)
