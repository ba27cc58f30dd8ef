"""Gates: exact at their bounds, loud about what is undefined."""

import math

import pytest
from pydantic import TypeAdapter, ValidationError

from sentio_kedro.config import PromotionParameters
from sentio_kedro.evaluation.comparison.gates import GATES, apply_gates, failures, switched_off

BOUNDS = {
    "min_deflated_sharpe": 0.95,
    "max_overfitting": 0.2,
    "max_trials": 20,
    "max_drawdown": 0.1,
    "max_tail_loss": 0.03,
    "max_turnover": 250.0,
    "max_latency_ms": 1000.0,
    "max_drift": 0.25,
    "min_sharpe_gain": 0.0,
}
AT_BOUND = {gate.metric: BOUNDS[gate.parameter] - 1e-9 * gate.strict for gate in GATES}


def test_a_metric_at_its_bound_passes_and_the_defaults_are_those_of_the_page():
    results = apply_gates(AT_BOUND, PromotionParameters(), champion=True)
    assert {result.gate: result.bound for result in results} == BOUNDS
    assert all(result.passed and result.missed_by is None and not result.reason for result in results)


def test_overfitting_must_not_reach_its_bound_as_in_the_verdict_on_skill():
    results = apply_gates(AT_BOUND | {"overfitting": 0.2}, PromotionParameters(), champion=True)
    expected = "Probability of backtest overfitting is 0.2; below 0.2 is required (`promotion.max_overfitting`)."
    assert failures(results) == [expected]


def test_used_test_rows_ask_for_the_lockbox_or_fresh_bars():
    (reason,) = failures(apply_gates(AT_BOUND | {"trials": 31}, PromotionParameters(), champion=True))
    assert reason == (
        "Number of trials on the test rows is 31; at most 20 is required: 11 too much (`promotion.max_trials`). So "
        "many make these rows no test any more: earn in the lockbox before other agents open it (`kedro run --pipeline "
        "lockbox`), or test on bars that fewer trials touched."
    )


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.parameter)
def test_a_metric_beyond_its_bound_fails_alone_and_says_by_how_much(gate):
    step = -0.125 if gate.parameter.startswith("min") else 0.125
    beyond = AT_BOUND | {gate.metric: BOUNDS[gate.parameter] + step}
    failed = [result for result in apply_gates(beyond, PromotionParameters(), champion=True) if not result.passed]
    assert [result.gate for result in failed] == [gate.parameter]
    assert failed[0].missed_by == pytest.approx(0.125)
    by = "12.5 %" if gate.form == "percent" else "0.125 ms" if gate.form == "milliseconds" else "0.125"
    assert f"{by} too {'little' if step < 0 else 'much'} (`promotion.{gate.parameter}`)." in failed[0].reason


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.parameter)
@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, -math.inf])
def test_an_undefined_figure_passes_no_gate(gate, nothing):
    results = apply_gates(AT_BOUND | {gate.metric: nothing}, PromotionParameters(), champion=True)
    (reason,) = failures(results)
    assert f"{gate.title} is undefined" in reason
    assert f"`promotion.{gate.parameter}: null` goes without this gate" in reason


def test_a_metric_that_nobody_measured_is_undefined():
    assert len(failures(apply_gates({}, PromotionParameters(), champion=True))) == len(GATES)


def test_null_switches_a_gate_off_and_is_listed():
    off = PromotionParameters(**dict.fromkeys(BOUNDS))
    assert apply_gates({}, off, champion=True) == []
    assert switched_off(off) == list(BOUNDS)
    assert switched_off(PromotionParameters(max_drift=None)) == ["max_drift"]


def test_the_first_champion_is_compared_with_nobody():
    applied = {result.gate for result in apply_gates({}, PromotionParameters(), champion=False)}
    assert applied == BOUNDS.keys() - {"min_sharpe_gain"}


@pytest.mark.parametrize(
    "wrong", [{"max_drawdwn": 0.1}, {"max_drawdown": 1.2}, {"min_deflated_sharpe": -0.1}, {"challenger": "best"}]
)
def test_bounds_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        TypeAdapter(PromotionParameters).validate_python(wrong)
