"""Inputs of a network that acts on a rule: forecasts over costs, and nothing where the rule knows nothing."""

import numpy as np
import pytest

from sentio_kedro.agent.forecasting.rule import RulePath
from sentio_kedro.agent.forecasting.rule_inputs import input_names, rule_inputs
from sentio_kedro.agent.forecasting.targets import INTRADAY, Horizon
from sentio_kedro.market.ingestion.sessions import Clock

SEGMENTS = [Horizon(*pair) for pair in INTRADAY]


def clock(minutes: float) -> Clock:
    known = np.full(2, minutes)
    return Clock(np.zeros(2), np.zeros(2, np.int64), known, known, 48.0)


def path() -> RulePath:
    forecasts = np.zeros((2, 1, 5))
    forecasts[0, 0] = [0.1, -0.02, 0.01, 0.4, 0.0]
    known = np.array([[1.0], [0.0]])
    return RulePath(forecasts, 1.5 * known, -0.25 * known, 0.5 * known, 0.01 * known)


def test_forecasts_are_returns_of_a_segment_over_the_cost_of_a_trade() -> None:
    inputs = rule_inputs(path(), SEGMENTS, clock(np.inf))
    names = input_names(SEGMENTS)
    assert inputs.shape == (2, 1, len(names))
    found = dict(zip(names, inputs[0, 0], strict=True))
    assert found == pytest.approx(
        {
            "forecast_1_1": 0.2,
            "forecast_2_4": -0.12,
            "forecast_5_16": 0.24,
            "forecast_17_48": 5.0,  # 32 x 0.4 / 0.5, cut off
            "forecast_49_192": 0.0,
            "value": 1.5,
            "units": -0.25,
            "log_cost": np.log(0.5),
            "log_volatility": np.log(0.01),
            "session_end": 0.0,
            "session_left": 1.0,
        }
    )


def test_rows_without_inputs_are_unknown() -> None:
    assert np.isnan(rule_inputs(path(), SEGMENTS, clock(np.inf))[1]).all()


def test_the_close_of_a_session_comes_near() -> None:
    end, left = rule_inputs(path(), SEGMENTS, clock(60.0))[0, 0, -2:]
    assert (end, left) == pytest.approx((np.exp(-1.0), 0.125))
