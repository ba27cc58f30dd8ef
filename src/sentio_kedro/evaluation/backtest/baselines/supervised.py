"""Supervised forecasts: one regression per fold of what a decision earns on the agents' features, all assets pooled.

Fitted on train rows alone; regularisation is chosen by the error on validation rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.risk import MIN_VOLATILITY
from sentio_kedro.market.tensors import MarketTensors

RIDGE, BOOSTED_TREES = "ridge", "boosted_trees"
PENALTIES = (0.01, 0.1, 1.0)  # of squared coefficients, added to the mean of squared errors
TREES = {"max_iter": 100, "learning_rate": 0.05, "max_leaf_nodes": 8, "min_samples_leaf": 100, "max_bins": 63}
INPUT_LIMIT, TARGET_LIMIT = 5.0, 5.0  # deviations at which scaled inputs and targets are clipped

Mask = NDArray[np.bool_]
Predict = Callable[[Floats], Floats]


class Sample(NamedTuple):
    """Examples of one fold's rows, all assets together.

    Attributes:
        inputs: ``[R, N]``.
        targets: ``[R]``.
    """

    inputs: Floats
    targets: Floats


def ridge(train: Sample, validation: Sample) -> Predict:
    """Fit ridge regressions and keep the penalty with the smallest squared error on ``validation``."""
    # Imported here, since scikit-learn brings scipy.stats, half a second, to every use of the backtest.
    from sklearn.linear_model import Ridge  # type: ignore[import-untyped]  # noqa: PLC0415

    fits = [Ridge(alpha=penalty * len(train.targets)).fit(*train) for penalty in PENALTIES]
    best = min(fits, key=lambda fit: _error(fit.predict(validation.inputs), validation))
    return lambda inputs: np.asarray(best.predict(inputs))


def boosted_trees(train: Sample, validation: Sample) -> Predict:
    """Fit boosted trees, as many as give the smallest squared error on ``validation``."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # type: ignore[import-untyped]  # noqa: PLC0415

    fit = HistGradientBoostingRegressor(**TREES, early_stopping=False, random_state=0).fit(*train)
    best = int(np.argmin([_error(values, validation) for values in fit.staged_predict(validation.inputs)]))
    return lambda inputs: np.asarray(next(islice(fit.staged_predict(inputs), best, None)))


LEARNERS: Mapping[str, Callable[[Sample, Sample], Predict]] = {RIDGE: ridge, BOOSTED_TREES: boosted_trees}


def _error(values: Floats, sample: Sample) -> float:
    return float(((values - sample.targets) ** 2).mean())


@dataclass(frozen=True)
class Examples:
    """Regression inputs and targets of every row and asset.

    Attributes:
        inputs: ``[T, A, N]`` the asset's features and the filtered regimes but the last.
        targets: ``[T, A]`` log total return from the open that fills the decision to the next open, over ``unit``.
        unit: ``[T, A]`` trailing volatility of a bar, known at the decision.
        tradable: ``[T, A]`` the asset trades with a complete row of features.
        filled: ``[T, A]`` the decision would have been filled and its return is known.
    """

    inputs: Floats
    targets: Floats
    unit: Floats
    tradable: Mask
    filled: Mask

    @classmethod
    def of(cls, market: MarketTensors, posterior: Tensor, latency: int) -> Examples:
        """Take a market and a fold's filtered regimes ``[T, K]``; ``latency`` as in ``orders.latency_bars``."""
        regimes = posterior[:, None, :-1].expand(-1, market.assets, -1)
        unit = market.volatility.clamp_min(MIN_VOLATILITY).double().numpy()
        returns, filled = decision_returns(market, latency)
        inputs = torch.cat([market.features.double(), regimes.double()], dim=-1).numpy()
        targets = np.clip(returns / unit, -TARGET_LIMIT, TARGET_LIMIT)
        return cls(inputs, targets, unit, market.tradable.numpy(), filled)

    def sample(self, segments: Sequence[Segment]) -> Sample:
        """Take the examples of the decision rows of ``segments``.

        The last row of a segment is left out: its return ends one bar beyond the reward that the folds were purged for.
        """
        rows = np.concatenate([np.arange(part.start, part.stop - 1) for part in segments] or [np.arange(0)])
        use = (self.tradable & self.filled)[rows]
        return Sample(self.inputs[rows][use], self.targets[rows][use])


def decision_returns(market: MarketTensors, latency: int) -> tuple[Floats, Mask]:
    """Return of a position decided at row t and decided anew at row t + 1.

    Returns:
        ``[T, A]`` log total return from the open that fills the order to the open of the bar after, splits and
        dividends counted, and ``[T, A]`` the asset has a bar to fill it and the bar after is in the market.
    """
    close = market.close.double()
    total = close.log().diff(dim=0, prepend=close[:1].log()) if market.returns is None else market.returns.double()
    inside = close.log() - market.open.double().log()  # from a bar's open to its close
    present = market.tradable if market.present is None else market.present
    returns, filled = torch.zeros_like(close), torch.zeros_like(present)
    first = 1 + latency  # bars from the decision to the fill
    rows = market.bars - first - 1
    if rows > 0:
        returns[:rows] = inside[first:-1] + total[first + 1 :] - inside[first + 1 :]
        filled[:rows] = present[first:-1]
    return returns.numpy(), filled.numpy()


def fold_forecasts(name: str, examples: Examples, fold: Fold) -> Floats | None:
    """Forecast what a position earns until the next decision, by a regression of this fold's own.

    Args:
        name: A key of ``LEARNERS``.
        examples: The market's examples under this fold's regimes.
        fold: Rows to fit on and to choose on.

    Returns:
        ``[T, A]`` log returns, 0 where an asset does not trade; None without an example to fit on or to choose on.
    """
    train, validation = examples.sample(fold.train), examples.sample(fold.validation)
    if not len(train.targets) or not len(validation.targets):
        return None
    mean, deviation = train.inputs.mean(axis=0), train.inputs.std(axis=0)
    deviation = np.where(deviation > 1e-12, deviation, 1.0)  # noqa: PLR2004 - a constant column

    def scaled(inputs: Floats) -> Floats:
        return np.asarray(np.clip((inputs - mean) / deviation, -INPUT_LIMIT, INPUT_LIMIT))

    learner = LEARNERS[name]
    with threadpool_limits(limits=1):  # on a busy machine threads wait for each other for minutes
        predict = learner(*(Sample(scaled(part.inputs), part.targets) for part in (train, validation)))
    forecasts = np.zeros(examples.unit.shape)
    for part in (*fold.train, *fold.validation, *fold.test):
        rows = slice(*part)
        use = examples.tradable[rows]
        if use.any():
            forecasts[rows][use] = predict(scaled(examples.inputs[rows][use])) * examples.unit[rows][use]
    return forecasts
