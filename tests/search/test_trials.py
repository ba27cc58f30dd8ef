"""A trial trains and scores on train and validation rows, reports its validations, and can be pruned."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FixedTrial

from planted.paths import autoregressive_returns, planted_bars
from sentio_kedro.agent.data.training_set import TrainingSet, visible_bars
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.agent.training.member import MemberKey
from sentio_kedro.config import (
    AgentParameters,
    CrossValidationParameters,
    FeatureColumn,
    IngestionParameters,
    NetworkParameters,
    RegimeParameters,
    SearchParameters,
    SearchRange,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.market.folds import make_folds
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.purged_folds import Fold, Segment, Spans
from sentio_kedro.market.regimes import fit_regimes, market_return
from sentio_kedro.search.study import Proposal, best_trial, search
from sentio_kedro.search.trials import (
    AgentScore,
    NoCheckpoints,
    PrunedTrialError,
    TrialProgress,
    overlapping_test_rows,
    require_no_test_rows,
    score_candidate,
    searchable_folds,
)

COLUMNS = [FeatureColumn(name="r", indicator="log_return")]
NETWORK = NetworkParameters(width=4, heads=1, window=2, convolution=1, hidden=4, quantiles=3)
TRAINING = TrainingParameters(
    seeds=2, members=2, total_steps=480, learning_rate=0.05, entropy=0.0, windows=4, replicas=2, episode_bars=10,
    minibatches=2, validations=2, gamma=0.95, block_bars=20, device="cpu", workers=1,
)  # fmt: skip
PARAMETERS = AgentParameters(NETWORK, TRAINING, TradingParameters(preset="none"))
SPANS = Spans(input=receptive_field(NETWORK) + 20, reward=1, episode=10)
BARS = 500
MEMBERS = [MemberKey(0, 0, member) for member in (0, 1)]


def make_training_set(hide_test: bool = True) -> TrainingSet:
    bars = align_bars(planted_bars(autoregressive_returns(BARS, 0.6, 0.01, seed=1)), IngestionParameters())
    (fold,) = make_folds(BARS, SPANS, CrossValidationParameters(folds=1, first_test=0.7, lockbox=None))
    features = compute_features(bars, COLUMNS)
    returns = market_return(bars)
    regimes = RegimeParameters(states=2, memory=16, restarts=1, iterations=5)
    model = fit_regimes([returns[part.start : part.stop] for part in fold.train], regimes, seed=0)
    visible, visible_features = visible_bars(bars, features, fold, SPANS) if hide_test else (bars, features)
    return TrainingSet(fold, visible, visible_features, COLUMNS, model, 365.0, PARAMETERS.trading)


class Reports(FixedTrial):
    """A trial that records its reports and is pruned at one of them."""

    def __init__(self, prune_at: int = 10**9) -> None:
        super().__init__({})
        self.reports: list[tuple[int, float]] = []
        self.prune_at = prune_at

    def report(self, value: float, step: int) -> None:
        self.reports.append((step, value))

    def should_prune(self) -> bool:
        return len(self.reports) > self.prune_at


@pytest.fixture(scope="module")
def training_set() -> TrainingSet:
    return make_training_set()


def test_reports_are_the_mean_over_members_of_the_best_so_far() -> None:
    trial = Reports()
    first, second = MEMBERS
    progress = TrialProgress(trial)
    progress.update(first, 1, 9, {"reward": 0.0})
    assert progress.latest is None
    for key, score in [(first, 1.0), (first, 3.0), (first, 2.0), (second, -1.0), (second, 5.0)]:
        progress.update(key, 2, 9, {"reward": 0.0, "validation_sharpe": score})
    assert progress.latest == 4.0
    assert trial.reports == [(0, 1.0), (1, 3.0), (2, 3.0), (3, 1.0), (4, 4.0)]


@pytest.mark.parametrize("first", [0, 1])
def test_reports_of_members_in_order_do_not_depend_on_which_is_first(first: int) -> None:
    trial = Reports()
    progress = TrialProgress(trial)
    progress.order = list(MEMBERS)
    validated = {MEMBERS[0]: [1.0, 3.0], MEMBERS[1]: [5.0]}  # the second one stops early
    for key in (MEMBERS[first], MEMBERS[1 - first]):
        for place, score in enumerate(validated[key], 1):
            progress.update(key, place, len(validated[key]), {"validation_sharpe": score})
    assert trial.reports == [(0, 1.0), (1, 3.0), (2, 4.0)]
    assert progress.latest == 4.0


def test_a_pruned_trial_stops_every_member_and_reports_no_more() -> None:
    trial = Reports(prune_at=1)
    progress = TrialProgress(trial)
    first, second = MEMBERS
    progress.update(first, 1, 2, {"validation_sharpe": 1.0})
    for key in (second, first, first):
        with pytest.raises(PrunedTrialError, match="worse than the median"):
            progress.update(key, 2, 2, {"validation_sharpe": 0.0})
    assert len(trial.reports) == 2


def test_a_failure_elsewhere_stops_the_members() -> None:
    progress = TrialProgress(Reports())
    progress.update(MEMBERS[0], 1, 2, {"validation_sharpe": 1.0})
    progress.stop()
    with pytest.raises(InterruptedError, match="fold_0-seed_0-member_0 stopped"):
        progress.update(MEMBERS[0], 2, 2, {})


def test_scores_are_those_of_training_on_validation_rows(training_set: TrainingSet) -> None:
    trial = Reports()
    scores = score_candidate([training_set], SPANS, PARAMETERS, TrialProgress(trial))
    assert [(score.fold, score.seed) for score in scores] == [(0, 0), (0, 1)]
    assert [step for step, _ in trial.reports] == list(range(8))  # 2 seeds, 2 members, 2 validations
    (validation,) = training_set.fold.validation
    for score in scores:
        assert len(score.returns) == len(score.rows) == len(score.timestamps) > 0
        assert validation.start == score.rows[0] < score.rows[-1] < validation.stop
        assert np.all(np.diff(score.rows) == 1)
        assert np.array_equal(score.timestamps, training_set.bars.timestamps[score.rows])
        sharpe = score.returns.mean() / score.returns.std(ddof=1) * 365**0.5
        assert score.validation_sharpe == pytest.approx(sharpe, rel=1e-5)


def test_a_pruned_candidate_stops_training(training_set: TrainingSet) -> None:
    trial = Reports(prune_at=2)
    with pytest.raises(PrunedTrialError):
        score_candidate([training_set], SPANS, PARAMETERS, TrialProgress(trial))
    assert len(trial.reports) == 3


def scored(training_set: TrainingSet, **changes: Any) -> tuple[list[AgentScore], list[tuple[int, float]]]:
    trial = Reports()
    parameters = replace(PARAMETERS, training=replace(TRAINING, **changes))
    return score_candidate([training_set], SPANS, parameters, TrialProgress(trial)), trial.reports


@pytest.fixture(scope="module")
def one_by_one(training_set: TrainingSet) -> tuple[list[AgentScore], list[tuple[int, float]]]:
    """Scores and reports of agents that train one after another."""
    return scored(training_set, workers=1, threads=1)


def test_agents_that_train_in_parallel_report_and_earn_the_same(training_set, one_by_one) -> None:
    scores, reports = scored(training_set, workers=2, threads=1)
    assert reports == one_by_one[1]
    for score, expected in zip(scores, one_by_one[0], strict=True):
        np.testing.assert_array_equal(score.returns, expected.returns)


def test_test_rows_are_not_in_a_training_set_and_are_refused_if_they_are(training_set: TrainingSet) -> None:
    require_no_test_rows(training_set, SPANS)
    assert len(training_set.bars.timestamps) <= training_set.fold.test[0].start + SPANS.reward
    progress = TrialProgress(Reports())
    with pytest.raises(ValueError, match=r"fold 0 must hold no test rows, held .* cut it with .*visible_bars"):
        score_candidate([make_training_set(hide_test=False)], SPANS, PARAMETERS, progress)


def test_a_search_on_a_planted_market_prefers_the_learning_rate_that_learns(training_set: TrainingSet) -> None:
    base = replace(PARAMETERS, training=replace(TRAINING, seeds=3, members=1, total_steps=1200, learning_rate=1e-7))
    parameters = SearchParameters(trials=3, space={"training.learning_rate": SearchRange(choices=[1e-7, 0.05])}, seed=2)

    assert training_set.bars.timestamps[-1] < end_of_test(training_set)

    def evaluate(candidate: Proposal, progress: TrialProgress) -> list[AgentScore]:
        return score_candidate([training_set], SPANS, candidate.parameters, progress)

    trials = search(base, parameters, optuna.create_study(direction="maximize"), evaluate)
    rates = [trial.values["training.learning_rate"] for trial in trials]
    assert rates[0] == 1e-7  # the base
    assert set(rates) == {1e-7, 0.05}
    assert best_trial(trials).values == {"training.learning_rate": 0.05}
    by_rate = {rate: trial.objective for rate, trial in zip(rates, trials, strict=True)}
    assert (by_rate[0.05] or 0.0) > (by_rate[1e-7] or 0.0) + 3.0


def end_of_test(training_set: TrainingSet) -> np.datetime64:
    """Timestamp of the first bar that only test rows need; bars are half an hour apart."""
    last = training_set.fold.validation[-1].stop - 1 + SPANS.reward
    return training_set.bars.timestamps[0] + np.timedelta64(30, "m") * (last + 1)


def fold(number: int, train: int, validation: int, test: int) -> Fold:
    ends = np.cumsum([train, validation, test])
    return Fold(number, (Segment(0, ends[0]),), (Segment(*ends[:2]),), (Segment(*ends[1:]),))


WALK = [fold(0, 50, 10, 20), fold(1, 67, 13, 20)]
COMBINATORIAL = [
    Fold(0, (Segment(20, 50),), (Segment(50, 60),), (Segment(0, 20),)),
    Fold(1, (Segment(0, 20),), (Segment(50, 60),), (Segment(20, 50),)),
]


def test_overlapping_test_rows_are_counted() -> None:
    assert overlapping_test_rows(WALK[0], WALK) == {}
    assert overlapping_test_rows(WALK[1], WALK) == {0: 20}  # 7 train rows and 13 validation rows
    assert overlapping_test_rows(COMBINATORIAL[0], COMBINATORIAL) == {1: 30}


@pytest.mark.parametrize(("wanted", "chosen"), [(None, [0]), ([1], [1]), ([1, 0], [0, 1])])
def test_by_default_no_fold_is_searched_that_holds_test_rows(wanted: list[int] | None, chosen: list[int]) -> None:
    assert searchable_folds(WALK, wanted) == chosen


def test_folds_that_do_not_exist_or_were_not_accepted_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must name folds among \[0, 1\], had \[4\]; remove them"):
        searchable_folds(WALK, [0, 4])
    with pytest.raises(ValueError, match=r"`search.folds` must name folds, was null.*name folds to accept that"):
        searchable_folds(COMBINATORIAL, None)


def test_nothing_is_kept_of_a_trial_that_is_under_way() -> None:
    store = NoCheckpoints()
    empty: Mapping[str, object] = {}
    store.save("a", {}, empty)
    assert store.load("a") is None
