"""A search tries the base first, prunes, continues after an interruption, and finds what is rewarded."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from sentio_kedro.agent.training.member import MemberKey
from sentio_kedro.config import (
    AgentParameters,
    NetworkParameters,
    SearchParameters,
    SearchRange,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.search.study import (
    MIN_COMPLETE,
    Proposal,
    SearchTrial,
    best_trial,
    make_pruner,
    open_study,
    search,
    study_name,
)
from sentio_kedro.search.trials import AgentScore, TrialProgress

BASE = AgentParameters(NetworkParameters(), TrainingParameters(seeds=1, members=1), TradingParameters())
SPACE = {
    "training.gamma": SearchRange(low=0.1, high=0.99),
    "training.entropy": SearchRange(low=0.01, high=10.0, log=True),
    "network.width": SearchRange(choices=[8, 16, 32]),
}
SEARCH = SearchParameters(trials=16, space=SPACE, seed=3)
ABOUT: dict[str, Any] = {"bars": "b", "parameters": {"network.layers": 1}}
VALIDATIONS = 3


def scored(*validation: float) -> list[AgentScore]:
    nothing: Any = np.empty(0)
    return [AgentScore(fold, 0, 2.0, score, nothing, nothing, nothing) for fold, score in enumerate(validation)]


def quality(candidate: Proposal) -> float:
    """Best at gamma 0.7 and width 16."""
    gamma = candidate.parameters.training.gamma
    return 1.0 - abs(gamma - 0.7) - 0.1 * (candidate.parameters.network.width != 16)


class Evaluator:
    """Evaluates without training: reports validations that rise to the candidate's quality."""

    def __init__(self, interrupt_at: int = 10**9, diverge_at: int = 10**9) -> None:
        self.tried: list[dict[str, Any]] = []
        self.interrupt_at, self.diverge_at = interrupt_at, diverge_at

    def __call__(self, candidate: Proposal, progress: TrialProgress) -> Sequence[AgentScore]:
        self.tried.append(dict(candidate.values))
        for validation in range(VALIDATIONS):
            score = quality(candidate) - 0.1 * (VALIDATIONS - 1 - validation)
            progress.update(MemberKey(0, 0, 0), validation + 1, VALIDATIONS, {"validation_sharpe": score})
            if candidate.number == self.interrupt_at and validation == 1:
                raise KeyboardInterrupt
            if candidate.number == self.diverge_at:
                raise FloatingPointError("kl is not finite")
        return scored(quality(candidate))


@pytest.fixture(name="run")
def run_fixture() -> Callable[..., tuple[list[SearchTrial], Evaluator]]:
    """Runs a search in memory; one of the same name continues it."""
    stored: dict[str, optuna.storages.InMemoryStorage] = {}

    def run(
        name: str = "one", parameters: SearchParameters = SEARCH, evaluate: Evaluator | None = None, base: Any = BASE
    ) -> tuple[list[SearchTrial], Evaluator]:
        evaluate = evaluate or Evaluator()
        storage = stored.setdefault(name, optuna.storages.InMemoryStorage())
        pruner = make_pruner(parameters.pruning)
        study = optuna.create_study(
            study_name=name, storage=storage, pruner=pruner, direction="maximize", load_if_exists=True
        )
        return search(base, parameters, study, evaluate), evaluate

    return run


def test_the_base_comes_first_and_later_trials_are_better(
    run: Callable[..., tuple[list[SearchTrial], Evaluator]],
) -> None:
    trials, _ = run(parameters=replace(SEARCH, trials=40, pruning=False))
    assert [trial.number for trial in trials] == list(range(40))
    assert trials[0].values == {"training.gamma": 0.9, "training.entropy": 0.3, "network.width": 16}
    objectives = [trial.objective or 0.0 for trial in trials]
    assert np.mean(objectives[-15:]) > np.mean(objectives[1:11])
    best = best_trial(trials)
    assert best.objective == max(objectives)
    assert best.values["training.gamma"] == pytest.approx(0.7, abs=0.1)
    assert best.values["network.width"] == 16
    assert best.train_sharpe == 2.0
    assert best.folds == {"0": best.objective}


def test_a_base_outside_the_space_is_not_tried(run: Callable[..., tuple[list[SearchTrial], Evaluator]]) -> None:
    outside = replace(BASE, training=replace(BASE.training, gamma=0.01))
    trials, _ = run(parameters=replace(SEARCH, trials=1), base=outside)
    assert trials[0].values["training.gamma"] >= 0.1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("interrupt_at", [0, 4, 13])
def test_an_interrupted_search_tries_the_open_proposal_again_and_goes_on(
    run: Callable[..., tuple[list[SearchTrial], Evaluator]], interrupt_at: int
) -> None:
    interrupted = Evaluator(interrupt_at=interrupt_at)
    with pytest.raises(KeyboardInterrupt):
        run(evaluate=interrupted)
    trials, resumed = run()
    assert resumed.tried[0] == interrupted.tried[interrupt_at]
    assert [dict(trial.values) for trial in trials] == interrupted.tried[:interrupt_at] + resumed.tried
    whole, _ = run("another")
    assert [replace(trial, seconds=None) for trial in trials] == [replace(trial, seconds=None) for trial in whole]


def test_a_proposal_that_is_interrupted_twice_counts_once(
    run: Callable[..., tuple[list[SearchTrial], Evaluator]],
) -> None:
    few = replace(SEARCH, trials=2)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(parameters=few, evaluate=Evaluator(interrupt_at=1))
    trials, _ = run(parameters=few)
    assert [trial.number for trial in trials] == [0, 1]


@pytest.mark.parametrize("trial", [0, 3])
def test_a_kill_between_two_parameters_or_before_the_mark_changes_nothing(
    run: Callable[..., tuple[list[SearchTrial], Evaluator]], monkeypatch: pytest.MonkeyPatch, trial: int
) -> None:
    whole, _ = run("whole", parameters=replace(SEARCH, trials=5))
    tell, suggest = optuna.Study.tell, optuna.Trial._suggest
    drawn: list[str] = []

    def kill_at_second(self: Any, name: str, *given: Any) -> Any:
        drawn.extend([name] if self.study.study_name == "one" else [])  # not where the space is checked
        if len(drawn) == 2 + trial * len(SPACE):
            raise KeyboardInterrupt
        return suggest(self, name, *given)

    def kill_at_mark(self: Any, number: Any, *given: Any, **more: Any) -> Any:
        if more.get("state") == optuna.trial.TrialState.FAIL:
            raise KeyboardInterrupt
        return tell(self, number, *given, **more)

    for name, kill in (("Trial._suggest", kill_at_second), ("Study.tell", kill_at_mark)):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(f"optuna.{name}", kill)
            run(parameters=replace(SEARCH, trials=5))
    trials, _ = run(parameters=replace(SEARCH, trials=5))
    assert [replace(one, seconds=None) for one in trials] == [replace(one, seconds=None) for one in whole]


def test_more_trials_continue_and_none_repeat(run: Callable[..., tuple[list[SearchTrial], Evaluator]]) -> None:
    first, _ = run(parameters=replace(SEARCH, trials=5))
    longer, resumed = run()
    assert longer[:5] == first
    assert len(resumed.tried) == SEARCH.trials - 5
    assert len({str(trial.values) for trial in longer}) == SEARCH.trials
    again, nothing = run()
    assert nothing.tried == []
    assert again == longer


def test_a_file_stores_the_trials(tmp_path: Path) -> None:
    few = replace(SEARCH, trials=3)
    interrupted, resumed = Evaluator(interrupt_at=1), Evaluator()
    with pytest.raises(KeyboardInterrupt):
        search(BASE, few, open_study(tmp_path / "a.db", ABOUT, pruning=True), interrupted)
    trials = search(BASE, few, open_study(tmp_path / "a.db", ABOUT, pruning=True), resumed)
    assert [dict(trial.values) for trial in trials] == interrupted.tried[:1] + resumed.tried


def test_another_seed_proposes_otherwise(run: Callable[..., tuple[list[SearchTrial], Evaluator]]) -> None:
    first, _ = run("first", parameters=replace(SEARCH, trials=3))
    second, _ = run("second", parameters=replace(SEARCH, trials=3, seed=4))
    assert first[0].values == second[0].values  # the base
    assert first[1].values != second[1].values


def test_poor_candidates_are_pruned_and_good_ones_are_not(
    run: Callable[..., tuple[list[SearchTrial], Evaluator]],
) -> None:
    trials, evaluate = run()
    states = [trial.state for trial in trials]
    assert set(states) == {"complete", "pruned"}
    assert states[:MIN_COMPLETE] == ["complete"] * MIN_COMPLETE
    finals: list[float] = []
    for trial, values in zip(trials, evaluate.tried, strict=True):
        reached = 1.0 - abs(values["training.gamma"] - 0.7) - 0.1 * (values["network.width"] != 16)
        poor = len(finals) >= MIN_COMPLETE and reached < np.median(finals)
        assert trial.state == ("pruned" if poor else "complete")
        assert trial.folds == ({} if poor else {"0": reached})
        finals += [] if poor else [reached]
    unpruned, _ = run("unpruned", parameters=replace(SEARCH, pruning=False))
    assert {trial.state for trial in unpruned} == {"complete"}


def test_a_candidate_that_diverges_fails_and_the_search_goes_on(
    run: Callable[..., tuple[list[SearchTrial], Evaluator]],
) -> None:
    trials, _ = run(parameters=replace(SEARCH, trials=4), evaluate=Evaluator(diverge_at=1))
    assert [trial.state for trial in trials] == ["complete", "failed", "complete", "complete"]
    assert trials[1].objective is None


def test_a_refused_combination_fails_with_the_reason_and_the_search_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sentio_kedro.search.space._PROBES", 0)  # the check before any work misses it
    study = optuna.create_study(direction="maximize", pruner=make_pruner(False))
    study.enqueue_trial({"network.width": 9})
    study.enqueue_trial({"network.width": 8})
    parameters = SearchParameters(trials=2, space={"network.width": SearchRange(choices=[8, 9])})
    evaluate = Evaluator()
    trials = search(BASE, parameters, study, evaluate)
    assert [trial.state for trial in trials] == ["failed", "complete"]
    assert evaluate.tried == [{"network.width": 8}]
    assert "Trial 0 failed: network.width = 9: " in caplog.text
    assert "must be a multiple of" in caplog.text


def test_an_error_leaves_the_trial_open_to_be_tried_again(
    run: Callable[..., tuple[list[SearchTrial], Evaluator]],
) -> None:
    class Broken(Evaluator):
        def __call__(self, candidate: Proposal, progress: TrialProgress) -> Sequence[AgentScore]:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run(evaluate=Broken())
    trials, evaluate = run(parameters=replace(SEARCH, trials=2))
    assert [trial.state for trial in trials] == ["complete", "complete"]
    assert evaluate.tried[0]["training.gamma"] == 0.9


def test_the_worst_fold_can_be_the_objective() -> None:
    def evaluate(candidate: Proposal, progress: TrialProgress) -> Sequence[AgentScore]:
        return scored(1.0, 3.0)

    lowest = SearchParameters(trials=1, space=SPACE, objective="lowest")
    for parameters, value in ((replace(lowest, objective="mean"), 2.0), (lowest, 1.0)):
        (trial,) = search(BASE, parameters, optuna.create_study(direction="maximize"), evaluate)
        assert trial.objective == value
        assert trial.folds == {"0": 1.0, "1": 3.0}


def test_a_space_that_cannot_be_built_is_refused_before_a_trial(
    run: Callable[..., tuple[list[SearchTrial], Evaluator]],
) -> None:
    evaluate = Evaluator()
    with pytest.raises(ValueError, match=r"`network.width` = \d+ is refused"):
        run(parameters=SearchParameters(space={"network.width": SearchRange(low=8, high=16)}), evaluate=evaluate)
    assert evaluate.tried == []


def test_a_study_of_something_else_begins_anew_and_names_what_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "folder" / "studies.db"
    with caplog.at_level(logging.WARNING):
        first = open_study(path, ABOUT, pruning=True)
        first.ask()
        assert open_study(path, ABOUT, pruning=True).study_name == first.study_name == study_name(ABOUT)
    assert caplog.text == ""
    other = open_study(path, ABOUT | {"bars": "c", "parameters": {"network.layers": 2}}, pruning=True)
    assert other.study_name != first.study_name
    assert other.trials == []
    assert "begins anew, `bars`, `network.layers` changed; search" in caplog.text
    assert len(open_study(path, ABOUT, pruning=True).trials) == 1


def test_without_a_complete_trial_there_is_no_best() -> None:
    failed = SearchTrial(0, "failed", {}, None, None, {}, None)
    with pytest.raises(ValueError, match=r"must have a complete trial to choose from, had 1"):
        best_trial([failed])
    equals = [SearchTrial(number, "complete", {}, 1.0, 1.0, {}, 1.0) for number in (1, 2)]
    assert best_trial([failed, *equals]).number == 1
