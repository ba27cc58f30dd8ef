"""What a person asks for reaches a running trader, or the journal, and is said in full."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from sentio_kedro.trader import events
from sentio_kedro.trader.control.steering import PATIENCE, Told, Wish, mode_of, tell
from sentio_kedro.trader.journal.requests import Request, ask, done, pending
from sentio_kedro.trader.journal.store import Journal, JournalReader


class Acting:
    """A clock at whose every pause somebody else acts."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self.time, self.act, self.pauses = 100.0, act, 0

    def now(self) -> float:
        return self.time

    async def wait_until(self, when: float) -> None:
        self.time, self.pauses = when, self.pauses + 1
        self.act()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = tmp_path / "replay.sqlite"
    Journal(journal).close()
    return journal


def told(path: Path, wish: Wish, clock: Acting) -> Told:
    return asyncio.run(tell(path, wish, "news", f"kedro trader {wish}", clock))


def facts(path: Path) -> list[tuple[str, str, str]]:
    with JournalReader(path) as reader:
        return [(one.event.kind, one.event.key, one.event.body["reason"]) for one in reader.events()]


def answering(path: Path, journal: Journal) -> Callable[[], None]:
    """A trader that looks once a pause, and keeps the request as a fact."""

    def act() -> None:
        for one in pending(path):
            if one.kind == "adopt":
                journal.append([events.adopted(one.id, 1.0, {}, 1.0, one.reason, 101.0, one.by)])
            else:
                journal.append([events.turned(one.kind, one.id, one.reason, 101.0, one.by)])
            done(path, one)

    return act


class TestWithoutTrader:
    @pytest.mark.parametrize("wish", ["halted", "reducing"])
    def test_the_journal_gets_the_fact(self, path: Path, wish: Wish) -> None:
        answer = told(path, wish, Acting())
        assert (answer.how, answer.trader) == ("journal", "")
        assert facts(path) == [(wish, answer.request, "news")]
        assert pending(path) == []
        assert answer.text().startswith(f"{wish.upper()}: ")
        assert answer.text().endswith("holds from its next start on, and orders that are open at the venue stay there.")

    def test_a_halt_is_resumed(self, path: Path) -> None:
        told(path, "halted", Acting())
        assert told(path, "active", Acting()).how == "journal"
        assert [kind for kind, _, _ in facts(path)] == ["halted", "active"]

    def test_nobody_adopts(self, path: Path) -> None:
        with pytest.raises(ValueError, match=r"A running trader must compare .*, none runs; start `kedro trader run`"):
            told(path, "adopt", Acting())
        assert facts(path) == []

    def test_there_must_be_a_journal(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="There is no journal"):
            told(tmp_path / "other.sqlite", "halted", Acting())
        assert not (tmp_path / "other.sqlite").exists()


class TestRunningTrader:
    @pytest.mark.parametrize("wish", ["halted", "reducing", "adopt"])
    def test_it_answers(self, path: Path, wish: Wish) -> None:
        with Journal(path) as journal:
            clock = Acting(answering(path, journal))
            answer = told(path, wish, clock)
        assert answer.how == "trader"
        assert "`kedro trader run`" in answer.trader
        assert clock.pauses == 1
        assert [key for _, key, _ in facts(path)] == [answer.request]
        assert pending(path) == []

    def test_halt_and_reduce_say_what_happens_to_positions_and_orders(self, path: Path) -> None:
        with Journal(path) as journal:
            clock = Acting(answering(path, journal))
            reduced, halted = (told(path, wish, clock).text() for wish in ("reducing", "halted"))
        assert "only orders that shrink a position are sent. Positions stay until the agents reduce them" in reduced
        assert reduced.endswith("Open orders that would enlarge one are cancelled.")
        assert "neither to buy nor to sell. Positions stay as they are, and go on gaining and losing" in halted
        assert halted.endswith("Open orders are cancelled.")

    @pytest.mark.parametrize(("wish", "waits"), [("halted", True), ("reducing", True), ("adopt", False)])
    def test_one_that_hangs_is_told_after_5_seconds(self, path: Path, wish: Wish, waits: bool) -> None:
        with Journal(path):
            clock = Acting()
            answer = told(path, wish, clock)
            assert [one.id for one in pending(path)] == ([answer.request] if waits else [])
        assert answer.how == "unanswered"
        assert clock.time == pytest.approx(100.0 + PATIENCE, abs=0.1)
        assert answer.text().startswith("The trader, process ")
        assert ("The request stays" in answer.text()) is waits
        assert ("withdrawn" in answer.text()) is not waits
        assert facts(path) == []

    def test_one_that_ends_before_it_answers_leaves_the_fact_to_the_journal(self, path: Path) -> None:
        journal = Journal(path)
        answer = told(path, "halted", Acting(journal.close))
        assert answer.how == "journal"
        assert facts(path) == [("halted", answer.request, "news")]
        assert pending(path) == []


class TestModes:
    def test_the_newest_counts_but_reducing_loosens_no_halt(self, path: Path) -> None:
        seen = []
        with Journal(path) as journal, JournalReader(path) as reader:
            seen.append(mode_of(reader))
            for place, kind in enumerate(("reducing", "halted", "reducing", "active", "reducing")):
                journal.append([events.turned(kind, f"{place}", f"why {place}", float(place))])
                seen.append(mode_of(reader))
        assert seen == [
            ("active", "", 0.0),
            ("reducing", "why 0", 0.0),
            ("halted", "why 1", 1.0),
            ("halted", "why 1", 1.0),
            ("active", "", 3.0),
            ("reducing", "why 4", 4.0),
        ]

    def test_an_active_trader_is_not_resumed(self, path: Path) -> None:
        with pytest.raises(ValueError, match="must be halted or reducing to be resumed, is active"):
            told(path, "active", Acting())

    def test_a_halted_trader_is_not_reduced(self, path: Path) -> None:
        told(path, "halted", Acting())
        with pytest.raises(ValueError, match="is halted, which is stricter"):
            told(path, "reducing", Acting())

    def test_a_second_halt_is_one_more_reason(self, path: Path) -> None:
        told(path, "halted", Acting())
        told(path, "halted", Acting())
        assert [kind for kind, _, _ in facts(path)] == ["halted", "halted"]


def test_a_request_of_somebody_else_stays(path: Path) -> None:
    other = Request("other", "halted", "theirs", "them", 1.0)
    with Journal(path):
        ask(path, other)
        told(path, "adopt", Acting())
        assert pending(path) == [other]


@pytest.mark.parametrize("answers", [True, False])
def test_a_trader_whose_journal_was_moved_away_is_halted_all_the_same(path: Path, answers: bool) -> None:
    with Journal(path, "kedro trader run") as journal:
        path.rename(path.with_name("moved.sqlite"))
        found = told(path, "halted", Acting(answering(path, journal) if answers else lambda: None))
        assert found.how == ("trader" if answers else "unanswered")
        assert [one.kind for one in pending(path)] == ([] if answers else ["halted"])
