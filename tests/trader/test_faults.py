import pytest
from fault_machine import Machine, operations, run_schedule
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sentio_kedro.trader import events
from sentio_kedro.trader.core import answers, upkeep
from sentio_kedro.trader.core.data import State
from sentio_kedro.trader.core.facts import uncertain
from sentio_kedro.trader.state import fold

SCHEDULES = 2_000  # of 60 steps


@pytest.mark.slow
def test_no_schedule_of_faults_loses_doubles_or_forgets() -> None:
    runs = [run_schedule(seed) for seed in range(SCHEDULES)]
    kinds = [fact.kind for run in runs for fact in run.journal]
    assert sum(run.state.started for run in runs) > 2 * SCHEDULES
    assert sum(fact.kind == "sent" and fact.body["post"] > 1 for run in runs for fact in run.journal) > 20
    for kind in (
        "dropped",
        "refused",
        "unknown",
        "cancelled",
        "denied",
        "halted",
        "reducing",
        "alarm",
        "split",
        "adopted",
    ):
        assert kinds.count(kind) > 50, kind
    for run in runs[:20]:
        folded = fold(run.journal, run.rules)
        assert uncertain(folded, 0.0, run.rules) == uncertain(run.state, 0.0, run.rules)


def _failures(seeds: int, trap: str = "") -> int:
    failures = 0
    for seed in range(seeds):
        try:
            run_schedule(seed, trap=trap)
        except (AssertionError, KeyError):
            failures += 1
    return failures


@pytest.mark.parametrize("trap", ["intent after send", "shares from statuses", "unreadable is flat"])
def test_a_mistake_put_in_is_found(trap: str) -> None:
    assert _failures(40, trap) >= 4


def test_resending_without_a_look_up_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "LOOKS", 0)
    assert _failures(20) >= 4


def test_an_unreadable_order_taken_for_an_absent_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(state: State, event: events.Event, rules: object) -> object:
        return handlers["absent"](state, events.absent(event.body["subject"], event.at), rules)

    handlers = dict(answers._HANDLERS)
    monkeypatch.setattr(answers, "_HANDLERS", {**handlers, "unreadable": absent})
    monkeypatch.setattr("fault_machine.Faults", _blind_faults)
    assert _failures(60) >= 2


def _blind_faults(**kwargs: object) -> object:
    from memory_venue import Faults  # noqa: PLC0415

    return Faults(**{**kwargs, "share": {"lost_answer": 0.3, "unreadable": 0.3}})  # type: ignore[arg-type]


NAMES = sorted(operations(Machine(0)))


class FaultMachine(RuleBasedStateMachine):
    @initialize(seed=some.integers(0, 9_999))
    def begin(self, seed: int) -> None:
        self.machine = Machine(seed)
        self.operations = operations(self.machine)

    @rule(name=some.sampled_from(NAMES), chance=some.integers(0, 999))
    def happen(self, name: str, chance: int) -> None:
        self.machine.now += 0.01
        self.machine.chance.seed(chance)
        self.machine.survive(self.operations[name][1])

    @rule(bars=some.integers(1, 3))
    def trade_quietly(self, bars: int) -> None:
        for _ in range(bars):
            self.machine.survive(self.machine.new_bar)
            self.machine.survive(self.machine.work)

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "machine"):
            self.machine.check()

    def teardown(self) -> None:
        if hasattr(self, "machine"):
            self.machine.survive(self.machine.heal)


FaultMachine.TestCase.settings = settings(
    max_examples=30, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
TestFaultMachine = FaultMachine.TestCase
