"""Search parameters of network and training on the validation rows of folds."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.config import (
    AgentParameters,
    NetworkParameters,
    ReportingParameters,
    SearchParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.datasets.checkpoints import CheckpointStore
from sentio_kedro.datasets.trials import TrialLedger
from sentio_kedro.manifests import expected_manifest, flatten_parameters, upstream_stages
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.purged_folds import Fold
from sentio_kedro.pipelines.search.entries import CandidateEntries
from sentio_kedro.pipelines.search.trials import TrackedTrials, best_as_yaml, trial_table
from sentio_kedro.preflight.search import fixed_names
from sentio_kedro.search.study import best_trial, open_study, search
from sentio_kedro.search.trials import overlapping_test_rows, searchable_folds
from sentio_kedro.tracking.trials import universe_of
from sentio_kedro.trading.accounts import for_symbols

STUDIES = "studies.db"
"""File of all Optuna studies, below the folder of the search's store."""

logger = logging.getLogger(__name__)


def search_parameters(
    search_training_sets: list[TrainingSet],
    folds: Folds,
    data_quality: dict[str, Any],
    search_store: CheckpointStore,
    sections: dict[str, Any],
    network: NetworkParameters,
    training: TrainingParameters,
    trading: TradingParameters,
    parameters: SearchParameters,
    ledger: TrialLedger,
    reporting: ReportingParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Try ``search.trials`` candidates, those of earlier runs of the same search included.

    Returns:
        A row per trial, validation returns per bar of the complete trials, the best parameters as YAML.
    """
    all_folds = folds.folds
    chosen = searchable_folds(all_folds, parameters.folds)
    training_sets = [one for one in search_training_sets if one.fold.number in chosen]
    flat = flatten_parameters(sections)
    universe, bars = universe_of(data_quality), data_quality["bars_hash"]
    about = describe_search(bars, flat, [fold for fold in all_folds if fold.number in chosen], parameters)
    warning = warn_of_test_rows(all_folds, chosen)
    study = open_study(search_store.folder / STUDIES, about, pruning=parameters.pruning)
    per_year, name = training_sets[0].periods_per_year, study.study_name
    entries = CandidateEntries(ledger, flat, universe, bars, name, per_year, reporting.trials.record)
    evaluate = TrackedTrials(name, training_sets, folds.spans, search_store.folder, entries)
    trading = for_symbols(trading, training_sets[0].bars.symbols)
    base, fixed = AgentParameters(network, training, trading), fixed_names(bars, flat)
    trials = search(base, parameters, study, evaluate, fixed)
    best = best_trial(trials)
    logger.info("Best of %d trials: %s, Sharpe ratio %.2f on validation rows", len(trials), best.values, best.objective)
    returns = pd.concat([evaluate.returns(trial.number) for trial in trials if trial.state == "complete"])
    return trial_table(trials), returns.reset_index(drop=True), best_as_yaml(name, trials, chosen, warning)


def describe_search(
    bars_hash: str, flat: Mapping[str, Any], folds: Sequence[Fold], parameters: SearchParameters
) -> dict[str, Any]:
    """Describe what decides the outcome of a trial: bars, folds, parameters that are not searched, the search itself.

    Args:
        bars_hash: Hash of the raw bars.
        flat: Flattened parameters of all sections.
        folds: Folds that are searched on.
        parameters: The search; ``trials`` may grow without changing it.
    """
    stages = (*upstream_stages("training"), "training")
    shaping = {
        name: value for stage in stages for name, value in expected_manifest(stage, bars_hash, flat).parameters.items()
    }
    return {
        "bars": bars_hash,
        "folds": {
            str(fold.number): [list(map(list, part)) for part in (fold.train, fold.validation)] for fold in folds
        },
        "parameters": {name: value for name, value in shaping.items() if name not in parameters.ranges},
        "space": {name: vars(values) for name, values in parameters.ranges.items()},
        "objective": parameters.objective,
        "pruning": parameters.pruning,
        "seed": parameters.seed,
    }


def warn_of_test_rows(folds: Sequence[Fold], chosen: Sequence[int]) -> str:
    """Log and return a warning if the chosen folds train or validate on test rows; return an empty text if not."""
    overlaps: dict[int, int] = {}
    for fold in folds:
        if fold.number in chosen:
            overlaps |= overlapping_test_rows(fold, folds)
    if not overlaps:
        return ""
    warning = (
        f"Test rows of folds {sorted(overlaps)} are train or validation rows of the searched folds {list(chosen)}: "
        "with parameters chosen so, the metrics of those folds are not out of sample."
    )
    logger.warning(warning)
    return warning
