"""Accounts begun later in a fold are runs that start later, and books are compared as they are held."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from tests.evaluation.backtest.test_robustness import (
    BARS,
    FIRST,
    FOLDS,
    FREE,
    NOTHING,
    agents_of,
    backtested,
    bars_fixture,
    features_fixture,
)

from sentio_kedro.config import RobustnessParameters
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.start_dates import held_correlation, simulate_starts
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Segment

__all__ = ["bars_fixture", "features_fixture"]
SHARES = (0.0, 0.25, 0.5)
STARTS = {0: (0, 11, 22), 1: (0, 11, 22)}  # of 45 and 44 rows


def positions_of(bars: AlignedBars, features: Floats, fold: int, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions ``[S, A]`` and returns ``[S]`` of the ensemble that trades a fold alone from one of its rows on."""
    (segment,) = FOLDS[fold].test
    later = replace(FOLDS[fold], test=(Segment(segment.start + start, segment.stop),))
    frames = backtested(bars, features, FREE, folds=[later])
    held = frames["positions"].pivot(index="timestamp", columns="symbol", values="position").to_numpy()
    return held, frames["accounts"].query("account == 'ensemble'")["return"].to_numpy()


def test_each_start_is_a_run_of_its_own(bars: AlignedBars, features: Floats) -> None:
    by_fold = {fold: [agent for agent in agents_of(FREE).values() if agent.spec.fold == fold] for fold in (0, 1)}
    context = BacktestContext.of(bars, features, by_fold, FREE).ensembles()
    found = simulate_starts(context, FOLDS, SHARES)
    returns, correlations = [], []
    for fold, starts in STARTS.items():
        runs = [positions_of(bars, features, fold, start) for start in starts]
        returns.append(
            np.stack([earned[starts[-1] - start :] for (_, earned), start in zip(runs, starts, strict=True)], axis=1)
        )
        whole = runs[0][0]
        correlations.append(
            [
                held_correlation(np.stack([whole[start:], held], axis=1))
                for (held, _), start in zip(runs, starts, strict=True)
            ]
        )
    np.testing.assert_allclose(found.returns, np.concatenate(returns), atol=1e-15)
    np.testing.assert_allclose(found.correlation, np.mean(correlations, axis=0), atol=1e-12)
    assert found.correlation[0] == 1.0
    assert found.returns.shape == (BARS - 1 - FIRST - 44, 3)


def test_the_frame_has_a_row_per_start(bars: AlignedBars, features: Floats) -> None:
    frame = backtested(bars, features, FREE, replace(NOTHING, start_shares=[0.5, 0.0]))["robustness"]
    assert frame[["kind", "value", "account"]].to_numpy().tolist() == [
        ["start", 0.0, "ensemble"],
        ["start", 0.5, "ensemble"],
    ]
    assert frame["correlation"].between(-1.0, 1.0).all()
    assert (frame["turnover"] > 0.0).all()


def test_books_are_compared_over_rows_and_assets() -> None:
    rng = np.random.default_rng(0)
    book, other = rng.normal(size=(2, 50, 3))
    both = np.stack([book, other], axis=1)
    assert held_correlation(both) == pytest.approx(np.corrcoef(book.ravel(), other.ravel())[0, 1])
    assert held_correlation(np.stack([book, -book], axis=1)) == pytest.approx(-1.0)
    kept = np.full((50, 1, 1), 0.5)
    assert held_correlation(np.concatenate([kept, kept], axis=1)) == 1.0
    assert held_correlation(np.concatenate([kept, -kept], axis=1)) == 0.0
    assert held_correlation(np.concatenate([0 * kept, kept], axis=1)) == 0.0
    assert np.isnan(held_correlation(np.zeros((50, 2, 1))))


def test_one_start_has_nothing_to_be_compared_with() -> None:
    with pytest.raises(ValidationError, match="start_shares"):
        RobustnessParameters(start_shares=[0.0])
