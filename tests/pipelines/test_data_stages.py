import json

import numpy as np
import pandas as pd
import pytest
from kedro.runner import ThreadRunner

from sentio_kedro.market.purged_folds import Spans

STAGES = ("ingestion", "features", "cross_validation", "regimes")


@pytest.fixture
def finished(project):
    project.run(*STAGES)
    return project


def test_each_stage_runs_alone_from_what_the_catalog_holds(project):
    for stage in STAGES:
        project.run(stage)
    catalog = project.catalog()
    assert {stage for stage in STAGES if catalog[f"{stage}_manifest"].exists()} == set(STAGES)


def test_stages_run_on_threads(project):
    project.run(*STAGES, runner=ThreadRunner())
    assert project.artifact("05_model_input/regimes_manifest.json").exists()


def test_bars_and_features_share_one_grid(finished):
    catalog = finished.catalog()
    bars, features, table = (catalog.load(name) for name in ("aligned_bars", "features", "feature_table"))
    assert features.on(bars) is features.values
    assert list(features.names) == list(table["name"])
    assert np.isfinite(features.values[int(table["lookback"].max()) - 1 :]).all()


def test_data_quality_counts_gaps_and_names_the_bars(project, bars):
    project.write_bars(bars.drop(index=bars.index[bars["symbol"].eq("AAA")][10:13]))
    project.run("ingestion")
    catalog = project.catalog()
    quality, manifest = catalog.load("data_quality"), catalog.load("ingestion_manifest")
    assert quality["bars_hash"] == manifest["bars_hash"]
    assert json.dumps(quality["per_symbol"]["AAA"]).count("3") >= 1
    assert catalog.load("aligned_bars").present.sum() == len(bars) - 3


def test_spans_add_up(finished):
    catalog = finished.catalog()
    # layers x (window - 1) + convolution + the longest look-back: memory_sessions + 1 sessions and a bar. These bars
    # of all days have four in the longest session of the exchange, since those of a long weekend belong to Friday's.
    assert catalog.load("folds").spans == Spans(input=1 * 7 + 2 + 21 * 4 + 1, reward=1, episode=16)


def test_posteriors_are_probabilities_on_every_bar_of_every_fold(finished):
    catalog = finished.catalog()
    posteriors, folds = catalog.load("regime_posteriors"), catalog.load("folds")
    assert list(posteriors.columns[:2]) == ["timestamp", "fold"]
    states = posteriors.filter(like="state_").to_numpy()
    np.testing.assert_allclose(states.sum(axis=1), 1.0, atol=1e-12)
    assert set(posteriors["fold"]) == {fold.number for fold in folds.folds}
    assert (posteriors.groupby("fold").size() == len(catalog.load("aligned_bars").timestamps)).all()


def test_rows_after_the_train_span_leave_every_fitted_artefact_as_it_is(project, bars):
    """The future multiplied by 10: fold 0's regimes stay byte-equal, and would not if they had been fitted on it."""
    project.run(*STAGES)
    catalog = project.catalog()
    before, folds = catalog.load("regime_models"), catalog.load("folds")
    end = pd.Timestamp(folds.dates[folds.folds[0].train[-1].stop - 1])
    later = bars["timestamp"] > end
    prices = ["open", "high", "low", "close"]
    project.write_bars(bars.assign(**{name: bars[name].where(~later, bars[name] * 10) for name in prices}))
    project.run(*STAGES)
    after = project.catalog().load("regime_models")
    assert json.dumps(after[0].to_dict()) == json.dumps(before[0].to_dict())
    assert json.dumps(after[1].to_dict()) != json.dumps(before[1].to_dict())


def test_the_rule_of_every_fold_is_saved(finished):
    finished.run("forecasting")
    catalog = finished.catalog()
    rules, folds, bars = (catalog.load(name) for name in ("forecast_rules", "folds", "aligned_bars"))
    assert list(rules) == [f"fold_{fold.number}" for fold in folds.folds]
    for fold, rule in zip(folds.folds, rules.values(), strict=True):
        assert rule.first_row(bars.timestamps) == fold.train[-1].stop
        assert rule.sleeves == ()  # these bars are too few


def test_wrong_parameters_stop_before_any_node(project):
    with pytest.raises(ValueError, match="heads"):
        project.run(*STAGES, params={"network": {"heads": 3}, "cross_validation": {"folds": 0}})
    assert not project.artifact("02_intermediate").exists()


def test_an_environment_overrides_single_keys(finished):
    parameters = finished.catalog().load("ingestion_manifest")["parameters"]
    assert parameters["ingestion.sessions_per_year"] == 252
    assert parameters["ingestion.missing"] == "halt"
