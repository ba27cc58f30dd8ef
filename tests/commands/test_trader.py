"""`kedro trader status|halt|reduce|resume|reconcile|journal`, in process."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from tests.conftest import ROOT

from sentio_kedro.commands import project as trader_project
from sentio_kedro.commands.trader import trader
from sentio_kedro.config.live.trader import FeedParameters, TraderParameters
from sentio_kedro.trader import events
from sentio_kedro.trader.contract import BarRow, Decision
from sentio_kedro.trader.journal.store import Journal
from sentio_kedro.trader.orders import Order

STAMP = "2026-01-02T15:30:00Z"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Journal of the only environment that there is."""
    journal = tmp_path / "paper.sqlite"
    project = SimpleNamespace(
        journal=journal, parameters=TraderParameters(name="paper", mode="paper", feed=FeedParameters(type="ccxt"))
    )
    monkeypatch.setattr(trader_project, "TraderProject", lambda env: project if env == "paper" else None)
    return journal


def typed(*words: str) -> Result:
    return CliRunner().invoke(trader, [*words, "--env", "paper"])


def answered(*words: str) -> dict[str, object]:
    result = typed(*words, "--json")
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def traded(path: Path) -> None:
    decision = Decision(
        bar=STAMP,
        orders={"A": 5.0},
        targets={"A": 0.5, "B": 0.0},
        actions={"A": 2, "B": 1},
        legal={"A": [True], "B": [True]},
        closes={"A": 100.0, "B": 50.0},
        equity=900.0,
        shares={"A": 3.0},
        cash=600.0,
        account={},
    )
    with Journal(path) as journal:
        journal.append(
            [
                events.started("s", 1.0, mode="paper", broker="simulated", account="simulated", model="champion 3"),
                events.bar(BarRow(STAMP, {"A": {"close": 100.0}}, "iex", 2.0), 2.0),
                events.decided(decision, 2.0),
                events.intended(Order("a", STAMP, "A", 5.0, 100.0), 3.0),
                events.sent("a", 1, 3.0),
                events.accepted("a", "v", 3.0),
                events.closed_bar(STAMP, 4.0),
            ]
        )


def test_status_says_what_matters_in_one_line(path: Path) -> None:
    traded(path)
    typed("halt", "--reason", "news")
    result = typed("status")
    assert result.exit_code == 0
    pattern = (
        r"paper is HALTED \(news\); no trader runs; newest closed bar 2026-01-02T15:30:00Z, \d+ (days|h|min|s) ago; "
        r"equity 900\.00, drawdown 0\.00%, cash 600\.00; holds A \+3; open orders: A \+5 working; model champion 3\.\n"
    )
    assert re.fullmatch(pattern, result.stdout), result.stdout


def test_status_as_data(path: Path) -> None:
    traded(path)
    with Journal(path, "kedro trader run --env paper"):
        data = answered("status")
    assert "(`kedro trader run --env paper`) since " in str(data["running"])
    assert data["mode"] == "active"
    assert data["positions"] == {"A": 3.0}
    assert data["exposures"] == {"A": pytest.approx(1 / 3)}
    assert data["orders"] == {"a": {"symbol": "A", "shares": 5.0, "filled": 0.0, "progress": "working"}}
    assert (data["closed_bar"], data["trading"], data["events"]) == (STAMP, "paper", 7)


def test_status_of_a_trader_that_has_just_begun(path: Path) -> None:
    Journal(path).close()
    assert typed("status").stdout == (
        "paper is ACTIVE; no trader runs; no bar is closed yet; equity 0.00, drawdown 0.00%, cash 0.00; holds nothing; "
        "no open order.\n"
    )


def test_halt_reduce_and_resume_change_the_mode(path: Path) -> None:
    Journal(path).close()
    for word, option, mode in (
        ("reduce", (), "reducing"),
        ("halt", (), "halted"),
        ("resume", ("--reason", "ok"), "active"),
    ):
        assert typed(word, *option).stdout.startswith(f"{mode.upper()}: ")
        assert answered("status")["mode"] == mode
    told = answered("halt", "--reason", "again")
    assert (told["wish"], told["how"]) == ("halted", "journal")


def test_who_resumes_says_why(path: Path) -> None:
    Journal(path).close()
    result = typed("resume")
    assert result.exit_code == 2
    assert "Missing option '--reason'" in result.stderr


def test_a_refusal_is_one_text(path: Path) -> None:
    for word in ("status", "halt", "reconcile", "journal"):
        result = typed(word)
        assert result.exit_code == 1
        assert result.stderr == f"Error: There is no journal `{path}`; `kedro trader run` makes one.\n"


def test_reconcile_shows_the_newest_table_and_what_to_type(path: Path) -> None:
    Journal(path).close()
    assert typed("reconcile").stdout.startswith("Venue and journal were never compared")
    row = {"what": "position", "subject": "A", "journal": 3.0, "venue": 4.0, "halts": True}
    with Journal(path) as journal:
        journal.append([events.reconciled("5", [], 5.0)])
        assert typed("reconcile").stdout == "Venue and journal agreed at 1970-01-01T00:00:05Z.\n"
        journal.append([events.reconciled("6", [row], 6.0)])
        lines = typed("reconcile").stdout.splitlines()
        assert lines[0] == "Venue and journal differed at 1970-01-01T00:00:06Z:"
        assert lines[2].split() == ["position", "A", "3.0", "4.0"]
        assert lines[3].startswith('If the venue is right, type `kedro trader reconcile --adopt "reason"`')
        assert answered("reconcile") == {"at": "1970-01-01T00:00:06Z", "differences": [row], "adopted": None}
        journal.append([events.adopted("x", 1.0, {"A": 4.0}, 6.0, "counted them", 7.0)])
        assert typed("reconcile").stdout.splitlines()[3] == "The venue's truth was adopted since (counted them)."


def test_adopting_needs_a_running_trader(path: Path) -> None:
    Journal(path).close()
    result = typed("reconcile", "--adopt", "counted them")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: A running trader must compare with the venue")


def test_the_journal_is_shown_from_its_end(path: Path) -> None:
    traded(path)
    lines = typed("journal", "--last", "2").stdout.splitlines()
    assert lines[0].split() == ["6", "1970-01-01T00:00:03Z", "accepted", "order", "a"]
    assert lines[1].split()[:3] == ["7", "1970-01-01T00:00:04Z", "closed_bar"]
    assert [line.split()[2] for line in typed("journal", "--kind", "sent", "--kind", "bar").stdout.splitlines()] == [
        "bar",
        "sent",
    ]
    (event,) = answered("journal", "--kind", "intended")
    assert event["body"]["shares"] == 5.0
    assert typed("journal", "--kind", "refused").stdout == "There is no such event.\n"
    assert "`--kind` must be one of" in typed("journal", "--kind", "tick").stderr


def test_the_journal_is_verified(path: Path) -> None:
    traded(path)
    assert typed("journal", "--verify").stdout == "All 7 events are what was written.\n"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER no_update")
        connection.execute("UPDATE events SET at = 9.0 WHERE seq = 4")
    result = typed("journal", "--verify")
    assert result.exit_code == 1
    assert "event 4, intended a, does not continue the chain of hashes" in result.stderr


def test_the_trader_of_an_environment_has_a_journal_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    project = trader_project.TraderProject("smoke", {"trader": {"name": "mine"}})
    assert project.parameters.name == "mine"
    assert project.journal == ROOT / "data" / "smoke" / "09_live" / "mine.sqlite"
