"""The gate: a t statistic with exact values, robust to autocorrelation, and a threshold that must be exceeded."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.agent.training.abstention import abstains, mean_t_statistic, newey_west_lags

DOUBLE = torch.float64
RETURNS = st.lists(st.floats(-0.1, 0.1).map(lambda x: round(x, 6)), min_size=3, max_size=40)


def series(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=DOUBLE)


@pytest.mark.parametrize(
    ("bars", "lags"), [(2, 1), (3, 1), (100, 4), (200, 4), (272, 4), (273, 5), (1000, 6), (8192, 10)]
)
def test_lags_follow_the_rule(bars: int, lags: int) -> None:
    assert newey_west_lags(bars) == lags


@pytest.mark.parametrize(("lags", "long_run"), [(0, 3.5), (1, 4.0), (2, 11 / 3), (3, 2.75)])
def test_the_statistic_of_four_returns_is_exact(lags: int, long_run: float) -> None:
    """Deviations -2, -1, 0, 3: autocovariances 14/4, 2/4, -3/4, -6/4 at lags 0 to 3."""
    found = mean_t_statistic(series(1.0, 2.0, 3.0, 6.0), lags)
    assert found.item() == pytest.approx(3.0 / (long_run / 4) ** 0.5, rel=1e-12)


@settings(max_examples=80, deadline=None)
@given(RETURNS, st.integers(0, 8))
def test_the_variance_is_a_quadratic_form_with_triangular_weights(values: list[float], lags: int) -> None:
    """The same sum written as d'Wd / T with W[i, j] = max(0, 1 - |i - j| / (lags + 1)), which is never negative."""
    lags = min(lags, len(values) - 1)
    returns = np.array(values)
    rest, row = returns - returns.mean(), np.arange(len(values))
    weights = np.maximum(0.0, 1.0 - np.abs(row[:, None] - row) / (lags + 1.0))
    form = rest @ weights @ rest / len(values)
    found = mean_t_statistic(series(*values), lags).item()
    if form > 1e-18:
        assert found == pytest.approx(returns.mean() / (form / len(values)) ** 0.5, rel=1e-6, abs=1e-9)
    else:
        assert np.isfinite(found)


@settings(max_examples=50, deadline=None)
@given(RETURNS, st.floats(0.01, 100.0))
def test_units_do_not_matter_and_the_sign_turns_with_the_returns(values: list[float], scale: float) -> None:
    returns = series(*values)
    found = mean_t_statistic(returns)
    torch.testing.assert_close(mean_t_statistic(-returns), -found)
    torch.testing.assert_close(mean_t_statistic(returns * scale), found, rtol=1e-6, atol=1e-9)


def test_returns_that_persist_are_weaker_evidence_than_returns_that_alternate() -> None:
    lasting = series(*((0.02,) * 20 + (-0.01,) * 20) * 5)
    turning = series(*(0.02, -0.01) * 100)
    naive = mean_t_statistic(lasting, 0).item()
    assert naive == pytest.approx(mean_t_statistic(turning, 0).item())
    assert mean_t_statistic(lasting).item() < 0.8 * naive
    assert mean_t_statistic(turning).item() > 1.5 * naive


@pytest.mark.parametrize("value", [0.0, 0.1, -0.3])
def test_returns_that_do_not_vary_are_no_evidence(value: float) -> None:
    assert mean_t_statistic(torch.full((300,), value, dtype=torch.float32)).item() == 0.0


def test_columns_are_judged_one_by_one_in_float64() -> None:
    returns = 0.01 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    found = mean_t_statistic(returns)
    assert found.dtype == DOUBLE
    alone = [mean_t_statistic(returns[:, column]).item() for column in range(3)]
    assert found.tolist() == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize(("values", "lags"), [((0.1,), None), ((), None), ((0.1, 0.2), 2), ((0.1, 0.2), -1)])
def test_too_few_bars_are_refused(values: tuple[float, ...], lags: int | None) -> None:
    with pytest.raises(ValueError, match=r"`(bars|lags)` must be"):
        mean_t_statistic(series(*values), lags)


@pytest.mark.parametrize(
    ("validation_t", "threshold", "closed"),
    [
        (-5.0, None, False),
        (float("nan"), None, False),
        (0.99, 1.0, True),
        (1.0, 1.0, True),
        (1.01, 1.0, False),
        (float("nan"), 1.0, True),
        (0.0, 0.0, True),
    ],
)
def test_the_gate_opens_only_above_the_threshold(validation_t: float, threshold: float | None, closed: bool) -> None:
    assert abstains(validation_t, threshold) is closed
