"""Few metrics have a name in MLflow; none of those that are read back is missing."""

from typing import get_args

from sentio_kedro.config import ComparisonParameters
from sentio_kedro.config.evaluation import BaselineName
from sentio_kedro.evaluation.run_frames import BASELINES, FORECAST_RULE, TARGETS_KEY
from sentio_kedro.pipelines.promotion.nodes import FROM_METRICS
from sentio_kedro.tracking.metrics import OF_AGENT, OF_LOCKBOX, chosen_metrics, metric_values

ALL = dict.fromkeys(dict.fromkeys([*BASELINES, *get_args(BaselineName), FORECAST_RULE, TARGETS_KEY]))
NESTED = {"costs": {"gross": 0.5, "costs": 0.25, "net": 0.25, "spread": 0.1}}
SKILL = {"iqm": {"sharpe": 1.0, "low": 0.5, "high": 2.0}, "reasons": ["x"], "trials": 3}
NAMES = {name: 1.0 for name in (*OF_AGENT, *OF_LOCKBOX) if "." not in name}
METRICS = {
    "baselines": list(ALL),
    "agent": {**NAMES, **NESTED, "omega": 1.5, "first_timestamp": "2020", "pbo": None},
    "skill": SKILL,
    **{name: {**NAMES, **NESTED, "omega": 2.5} for name in ALL},
}


def test_a_run_with_every_baseline_and_an_opened_lockbox_has_at_most_120_metrics():
    of_training = 2  # hours and memory
    assert len(chosen_metrics(METRICS)) + len(chosen_metrics(METRICS, OF_LOCKBOX)) + of_training <= 120


def test_metrics_have_the_names_that_comparison_and_promotion_read():
    chosen = chosen_metrics(METRICS | {"agent": METRICS["agent"] | {"pbo": 0.5}})
    read = {*ComparisonParameters(experiment="x").metrics, *FROM_METRICS.values(), "agent.periods_per_year"}
    assert read <= chosen.keys()
    assert (chosen["agent.costs.net"], chosen["agent.iqm.low"], chosen["agent.trials"]) == (0.25, 0.5, 1.0)
    assert "agent.omega" not in chosen


def test_the_file_of_metrics_has_every_number_by_its_name():
    values = metric_values(METRICS)
    assert (values["agent.omega"], values["momentum.omega"], values["random.costs.spread"]) == (1.5, 2.5, 0.1)
    assert {"agent.pbo", "agent.first_timestamp", "agent.reasons"}.isdisjoint(values)
