"""A trial trains and judges on train and validation rows, reports in a fixed order, and can be given up."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    ResamplingParameters,
    SearchParameters,
    SearchRange,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.market.bars import align_bars
from sentio_kedro.market.fold_shapes import Fold, Segment, Spans
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.regimes import fit_regimes, market_return
from sentio_kedro.market.splits import make_folds
from sentio_kedro.search.study import Proposal, best_trial, search
from sentio_kedro.search.trials import (
    MEMBER_STEPS,
    AgentScore,
    NoCheckpoints,
    PrunedTrialError,
    TrialProgress,
    require_no_test_rows,
    score_candidate,
    searchable_folds,
    seen_test_rows,
    trial_members,
)

COLUMNS = [FeatureColumn(name="r", indicator="log_return")]
NETWORK = NetworkParameters(width=4, heads=1, window=2, convolution=1, hidden=4, quantiles=3)
TRAINING = TrainingParameters(
    seeds=2, members=2, total_steps=480, learning_rate=0.05, entropy=0.0, windows=4, replicas=2, episode_bars=10,
    minibatches=2, validations=2, gamma=0.95, resampling=ResamplingParameters(block_bars=20), device="cpu", workers=1,
)  # fmt: skip
PARAMETERS = AgentParameters(NETWORK, TRAINING, TradingParameters(preset="none"))
SPANS = Spans(input=receptive_field(NETWORK) + 20, reward=1, episode=10)
BARS = 500
MEMBERS = [MemberKey(fold, seed, member) for fold in (0, 1) for seed in (0, 1) for member in (0, 1)]


def make_study(hide_test: bool = True) -> TrainingSet:
    bars = align_bars(planted_bars(autoregressive_returns(BARS, 0.6, 0.01, seed=1)), IngestionParameters())
    (fold,) = make_folds(BARS, SPANS, CrossValidationParameters(folds=1, first_test=0.7, lockbox=None))
    features = compute_features(bars, COLUMNS)
    returns = market_return(bars)
    regimes = RegimeParameters(states=2, memory=16, restarts=1, iterations=5)
    model = fit_regimes([returns[part.start : part.stop] for part in fold.train], regimes, seed=0)
    seen, known = visible_bars(bars, features, fold, SPANS) if hide_test else (bars, features)
    return TrainingSet(fold, seen, known, COLUMNS, model, 365.0, PARAMETERS.trading)


class Listener:
    """Notes reports and gives up at one of them."""

    def __init__(self, give_up_at: int = 10**9) -> None:
        self.selected_features: list[tuple[int, float]] = []
        self.give_up_at = give_up_at

    def __call__(self, step: int, score: float) -> bool:
        self.selected_features.append((step, score))
        return len(self.selected_features) > self.give_up_at


def run_in_order(progress: TrialProgress, order: list[tuple[MemberKey, float]]) -> None:
    """Tell the scores of members' judgements in an order; an agent is finished once its last member has told all."""
    left = {(key.fold, key.seed): sum((k.fold, k.seed) == (key.fold, key.seed) for k, _ in order) for key, _ in order}
    updates, done = {key: 2 * sum(k == key for k, _ in order) for key, _ in order}, Counter[MemberKey]()
    for key, score in order:
        progress.update(key, done[key] + 1, updates[key], {"reward": 0.0})
        done[key] += 2
        progress.update(key, done[key], updates[key], {"reward": 0.0, "validation_sharpe": score})
        left[key.fold, key.seed] -= 1
        if not left[key.fold, key.seed]:
            progress.finish(key.fold, key.seed)


@pytest.fixture(scope="module")
def study() -> TrainingSet:
    return make_study()


def test_reports_are_the_mean_over_members_of_the_best_so_far() -> None:
    listener = Listener()
    first, second = MEMBERS[:2]
    scores = [(first, 1.0), (first, 3.0), (first, 2.0), (second, -1.0), (second, 5.0)]
    progress = TrialProgress(MEMBERS[:2], listener)
    assert progress.latest is None
    run_in_order(progress, scores)
    assert progress.latest == 4.0
    assert listener.selected_features == [(0, 1.0), (1, 3.0), (2, 3.0), (MEMBER_STEPS, 1.0), (MEMBER_STEPS + 1, 4.0)]


def test_the_last_update_of_a_member_lets_the_next_one_report() -> None:
    listener = Listener()
    progress = TrialProgress(MEMBERS, listener)
    first, second = MEMBERS[:2]
    progress.update(second, 1, 1, {"validation_sharpe": 1.0})
    progress.update(first, 1, 2, {"validation_sharpe": 1.0})
    assert [step for step, _ in listener.selected_features] == [0]
    progress.update(first, 2, 2, {"validation_sharpe": 1.0})
    assert [step for step, _ in listener.selected_features] == [0, 1, MEMBER_STEPS]


@given(st.data())
def test_reports_do_not_depend_on_which_member_is_faster(data: st.DataObject) -> None:
    scores = {key: data.draw(st.lists(st.floats(-3, 3), min_size=1, max_size=3)) for key in MEMBERS}
    queues = {key: [(key, score) for score in scores[key]] for key in MEMBERS}
    one_by_one, mixed = Listener(), Listener()
    run_in_order(TrialProgress(MEMBERS, one_by_one), [row for key in MEMBERS for row in queues[key]])
    slots = data.draw(st.permutations([key for key in MEMBERS for _ in queues[key]]))
    run_in_order(TrialProgress(MEMBERS, mixed), [queues[key].pop(0) for key in slots])
    assert mixed.selected_features == one_by_one.selected_features
    assert len(one_by_one.selected_features) == sum(map(len, scores.values()))
    assert all(a < b for a, b in pairwise(step for step, _ in one_by_one.selected_features))


def test_a_pruned_trial_stops_every_member_and_reports_no_more() -> None:
    listener = Listener(give_up_at=1)
    progress = TrialProgress(MEMBERS, listener)
    ahead, slow = MEMBERS[2], MEMBERS[0]
    progress.update(ahead, 1, 2, {"validation_sharpe": 1.0})
    assert listener.selected_features == []
    progress.update(slow, 1, 2, {"validation_sharpe": 1.0})
    for key in (slow, ahead, ahead):
        with pytest.raises(PrunedTrialError, match="worse than the median"):
            progress.update(key, 2, 2, {"validation_sharpe": 0.0})
    assert len(listener.selected_features) == 2


def test_a_failure_elsewhere_stops_the_members() -> None:
    progress = TrialProgress(MEMBERS, Listener())
    progress.update(MEMBERS[0], 1, 2, {"validation_sharpe": 1.0})
    progress.stop()
    with pytest.raises(InterruptedError, match="fold_0-seed_0-member_0 stopped"):
        progress.update(MEMBERS[0], 2, 2, {})


def test_a_candidates_scores_are_those_of_training_and_hold_for_validation_rows(study: TrainingSet) -> None:
    listener = Listener()
    scores = score_candidate([study], SPANS, PARAMETERS, TrialProgress(trial_members([study], PARAMETERS), listener))
    assert [(score.fold, score.seed) for score in scores] == [(0, 0), (0, 1)]
    assert [step for step, _ in listener.selected_features] == [
        m * MEMBER_STEPS + j for m in range(4) for j in range(2)
    ]
    (validation,) = study.fold.validation
    for score in scores:
        assert len(score.returns) == len(score.rows) == len(score.timestamps) > 0
        assert validation.start == score.rows[0] < score.rows[-1] < validation.stop
        assert np.all(np.diff(score.rows) == 1)
        assert np.array_equal(score.timestamps, study.bars.timestamps[score.rows])
        sharpe = score.returns.mean() / score.returns.std(ddof=1) * 365**0.5
        assert score.validation_sharpe == pytest.approx(sharpe, rel=1e-5)


def test_a_pruned_candidate_stops_training(study: TrainingSet) -> None:
    listener = Listener(give_up_at=2)
    with pytest.raises(PrunedTrialError):
        score_candidate([study], SPANS, PARAMETERS, TrialProgress(trial_members([study], PARAMETERS), listener))
    assert len(listener.selected_features) == 3


def test_training_side_by_side_reports_the_same(study: TrainingSet) -> None:
    selected_features: list[list[tuple[int, float]]] = []
    results: list[list[AgentScore]] = []
    for workers in (1, 2):
        parameters = replace(PARAMETERS, training=replace(TRAINING, workers=workers, threads=1))
        listener = Listener()
        progress = TrialProgress(trial_members([study], parameters), listener)
        results.append(score_candidate([study], SPANS, parameters, progress))
        selected_features.append(listener.selected_features)
    assert selected_features[0] == selected_features[1]
    assert all(np.array_equal(a.returns, b.returns) for a, b in zip(*results, strict=True))


def test_members_of_one_batched_model_report_in_the_same_order(study: TrainingSet) -> None:
    selected_features: list[list[tuple[int, float]]] = []
    for population in ("alone", "stacked"):
        parameters = replace(PARAMETERS, training=replace(TRAINING, population=population))
        listener = Listener()
        score_candidate([study], SPANS, parameters, TrialProgress(trial_members([study], parameters), listener))
        selected_features.append(listener.selected_features)
    assert [step for step, _ in selected_features[0]] == [step for step, _ in selected_features[1]]
    assert [score for _, score in selected_features[0]] == pytest.approx(
        [score for _, score in selected_features[1]], abs=0.05
    )


def test_test_rows_are_not_in_a_training_set_and_are_refused_if_they_are(study: TrainingSet) -> None:
    require_no_test_rows(study, SPANS)
    assert len(study.bars.timestamps) <= study.fold.test[0].start + SPANS.reward
    progress = TrialProgress([], Listener())
    with pytest.raises(ValueError, match=r"fold 0 must hold no test rows, held .* cut it with .*visible_bars"):
        score_candidate([make_study(hide_test=False)], SPANS, PARAMETERS, progress)


def test_a_search_on_a_planted_market_prefers_the_learning_rate_that_learns(study: TrainingSet) -> None:
    base = replace(PARAMETERS, training=replace(TRAINING, seeds=3, members=1, total_steps=1200, learning_rate=1e-7))
    wanted = SearchParameters(trials=3, space={"training.learning_rate": SearchRange(choices=[1e-7, 0.05])}, seed=2)

    def evaluate(
        training_sets: Sequence[TrainingSet], candidate: Proposal, progress: TrialProgress
    ) -> list[AgentScore]:
        assert all(one.bars.timestamps[-1] < end_of_test(one) for one in training_sets)
        return score_candidate(training_sets, SPANS, candidate.parameters, progress)

    trials = search([study], base, wanted, optuna.create_study(direction="maximize"), evaluate)
    rates = [trial.values["training.learning_rate"] for trial in trials]
    assert rates[0] == 1e-7  # the base
    assert set(rates) == {1e-7, 0.05}
    assert best_trial(trials).values == {"training.learning_rate": 0.05}
    by_rate = {rate: trial.objective for rate, trial in zip(rates, trials, strict=True)}
    assert (by_rate[0.05] or 0.0) > (by_rate[1e-7] or 0.0) + 3.0


def end_of_test(study: TrainingSet) -> np.datetime64:
    """Stamp of the first bar that only test rows need; bars are half an hour apart."""
    last = study.fold.validation[-1].stop - 1 + SPANS.reward
    return study.bars.timestamps[0] + np.timedelta64(30, "m") * (last + 1)


def fold(number: int, train: int, validation: int, test: int) -> Fold:
    ends = np.cumsum([train, validation, test])
    return Fold(number, (Segment(0, ends[0]),), (Segment(*ends[:2]),), (Segment(*ends[1:]),))


WALK = [fold(0, 50, 10, 20), fold(1, 67, 13, 20)]
COMBINATORIAL = [
    Fold(0, (Segment(20, 50),), (Segment(50, 60),), (Segment(0, 20),)),
    Fold(1, (Segment(0, 20),), (Segment(50, 60),), (Segment(20, 50),)),
]


def test_test_rows_that_a_choice_would_have_seen_are_counted() -> None:
    assert seen_test_rows(WALK[0], WALK) == {}
    assert seen_test_rows(WALK[1], WALK) == {0: 20}  # 7 train rows and 13 validation rows
    assert seen_test_rows(COMBINATORIAL[0], COMBINATORIAL) == {1: 30}


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
