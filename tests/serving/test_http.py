"""What MLflow's scoring server answers with the model in it: in this process, by the module that uvicorn imports."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.pyfunc import scoring_server

from hostile_bodies import Hostile, encoded
from hostile_requests import all_requests, faults_of
from sentio_kedro.agent.bundle import AgentBundle, save_agents
from sentio_kedro.config import SignalParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import aligned_to_frame
from sentio_kedro.serving import http, model
from sentio_kedro.serving.newest import newest_signals
from sentio_kedro.tracking.model import model_signature

ACCOUNT = {"cash": 60_000.0, "shares": {"AAA": 250.0, "BBB": -120.0}, "peak_equity": 90_000.0}
EVERY = 12  # of the hostile requests, one is sent here and all by the benchmark
LATE = ("2262-04-12", "9999-12-31")


@dataclass
class Asked:
    """One request to an application, in chunks; then the client waits or hangs up."""

    app: Any
    request: Hostile
    chunks: list[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    hangs_up: bool = False
    taken: int = 0

    async def receive(self) -> dict[str, Any]:
        self.taken += 1
        if self.chunks:
            return {"type": "http.request", "body": self.chunks.pop(0), "more_body": True}
        if self.hangs_up:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    def answer(self) -> tuple[int, str]:
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        path, _, query = self.request.path.partition("?")
        headers = {"content-length": str(len(self.request.body)), **self.request.headers, **self.headers}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
            "method": self.request.method, "path": path, "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        asyncio.run(self.app(scope, self.receive, send))
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()


def ask(app: Any, request: Hostile) -> tuple[int, str]:
    return Asked(app, request, [request.body]).answer()


@pytest.fixture(scope="module", name="good")
def good_fixture(bars: AlignedBars, agent: AgentBundle) -> dict[str, Any]:
    """A request that is answered."""
    frame = aligned_to_frame(bars.rows(slice(1_131 - agent.spec.required_bars, 1_151)))
    split = json.loads(frame.to_json(orient="split", index=False, date_format="iso", double_precision=15))
    return {"dataframe_split": split, "params": {"account": json.dumps(ACCOUNT)}}


@pytest.fixture(scope="module", name="saved")
def saved_fixture(agents: list[AgentBundle], bars: AlignedBars, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in a folder."""
    folder = tmp_path_factory.mktemp("served")
    save_agents({agent.name: agent for agent in agents}, folder / "agents")
    signals = newest_signals(agents, bars.rows(slice(0, 1_151)), SignalParameters())
    mlflow.pyfunc.save_model(
        folder / "model",
        python_model=model.__file__,
        artifacts={"agents": str(folder / "agents")},
        signature=model_signature(signals),
        pip_requirements=["mlflow"],
    )
    return folder / "model"


def started(saved: Path, patch: pytest.MonkeyPatch) -> Any:
    """Import MLflow's application as uvicorn does."""
    patch.setenv("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "60")
    patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    patch.setenv("__pyfunc_model_path__", str(saved))
    patch.setattr(scoring_server, http.DECORATOR, getattr(scoring_server, http.DECORATOR))
    patch.delitem(sys.modules, "mlflow.pyfunc.scoring_server.app", raising=False)
    return importlib.import_module("mlflow.pyfunc.scoring_server.app").app


@pytest.fixture(scope="module", name="app")
def app_fixture(saved: Path) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        yield started(saved, patch)


def test_a_good_request_is_answered_with_the_numbers_of_the_model_and_null_where_there_is_none(
    app: Any, saved: Path, good: dict[str, Any]
) -> None:
    status, text = ask(app, Hostile("good", encoded(good)))
    assert status == 200
    rows = json.loads(text, parse_constant=pytest.fail)["predictions"]
    loaded = mlflow.pyfunc.load_model(str(saved))
    split = good["dataframe_split"]
    frame = pd.DataFrame(split["data"], columns=split["columns"])
    expected = loaded.predict(frame, params=good["params"]).to_dict("records")
    assert [row["symbol"] for row in rows] == ["AAA", "BBB", "CCC"]
    for row, wanted in zip(rows, expected, strict=True):
        assert row["timestamp"] == wanted["timestamp"].isoformat()
        assert row["other_target"] is row["start_agrees"] is None
        for name in ("target", "shares", "order", "tail_risk", "state_0", "binding", "agents", "untested"):
            assert row[name] == wanted[name], name


def test_hostile_requests_are_told_why_and_change_nothing(app: Any, good: dict[str, Any], tmp_path: Path) -> None:
    right = Hostile("good", encoded(good))
    first = ask(app, right)
    requests = [one for one in all_requests(good)[::EVERY] if not any(late in one.name for late in LATE)]
    assert len(requests) >= 37
    for request in requests:
        status, text = ask(app, request)
        assert faults_of(request.name, status, request.statuses, text, (str(tmp_path.parent), sys.prefix)) == []
    assert ask(app, right) == first


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"params": {"acount": "{}"}},
            r"`params` may hold `account`, .*, `equity`, .* and `max_age`, .*; `acount`: Unexpected",
        ),
        ({"params": {"equity": 0}}, r"`equity`: Input should be greater than 0, was 0"),
        ({"params": {"account": "{}"}}, r"`account` must be a JSON object such as .*; `cash`: Field required"),
        ({"dataframe_split": {"columns": [], "data": []}}, "The bars are refused: columns are missing: .*; column "),
        ({"dataframe_split": None}, "it has neither of them"),
        ({"parms": {}}, "`parms`: Unexpected keyword argument, was an object"),
    ],
)
def test_the_first_line_of_a_refusal_is_its_reason(
    app: Any, good: dict[str, Any], changed: dict[str, Any], reason: str
) -> None:
    status, text = ask(app, Hostile("changed", encoded({**good, **changed})))
    answer = json.loads(text)
    assert status == 400
    assert answer.keys() == {"error_code", "message"}
    assert answer["error_code"] == "BAD_REQUEST"
    assert re.search(reason, answer["message"].splitlines()[0])


@pytest.mark.parametrize("account", [{"cash": 0}, {"cash": -5e4}, {"cash": 1e5, "equity": 0}])
def test_a_ruined_account_sends_no_orders(app: Any, good: dict[str, Any], account: dict[str, Any]) -> None:
    status, text = ask(app, Hostile("ruined", encoded({**good, "params": {"account": json.dumps(account)}})))
    assert status == 200
    assert "-0.0" not in text
    for row in json.loads(text, parse_constant=pytest.fail)["predictions"]:
        assert (row["target"], row["shares"], row["order"]) == (0.0, 0.0, 0.0)


def test_a_body_that_is_announced_as_too_large_is_refused_before_it_is_read(app: Any) -> None:
    asked = Asked(app, Hostile("large", b""), [], {"content-length": str(http.MAX_BYTES + 1)})
    status, text = asked.answer()
    assert (status, asked.taken) == (413, 0)
    assert json.loads(text)["message"] == (
        "The body must have at most 16777216 bytes, was announced with 16777217; give fewer bars."
    )


def test_a_body_that_becomes_too_large_is_refused_at_the_limit(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_BYTES", 100)
    asked = Asked(app, Hostile("large", b""), [b" " * 60] * 9)
    status, text = asked.answer()
    assert status == 413
    assert len(asked.chunks) >= 6
    assert "at most 100 bytes, had more" in text


def test_a_body_that_does_not_arrive_is_refused(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_SECONDS", 0.0)
    asked = Asked(app, Hostile("slow", b"{"), [b"{"])

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    asked.receive = never  # type: ignore[method-assign]
    status, text = asked.answer()
    assert status == 408
    assert "must arrive within 0 seconds, 0 bytes had; send it again." in text


def test_a_client_that_hangs_up_is_no_failure(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    Asked(app, Hostile("left", b"{}"), [b"{"], hangs_up=True).answer()
    assert not caplog.records


def test_a_failure_of_our_own_is_logged_and_not_told(
    app: Any, good: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("/secret/path")

    monkeypatch.setattr("sentio_kedro.serving.newest.row_of", fail)
    status, text = ask(app, Hostile("good", encoded(good)))
    assert status == 500
    assert json.loads(text) == {
        "error_code": "INTERNAL_ERROR",
        "message": "The server failed, which is no fault of the request; its log has the reason.",
    }
    assert "/secret/path" in caplog.text


def test_an_mlflow_that_builds_its_server_otherwise_is_refused_when_the_model_is_loaded(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring_server, "init", lambda model: None)
    with pytest.raises(RuntimeError, match=r"MLflow .* without `_async_catch_mlflow_exception`.*install the version"):
        started(saved, monkeypatch)


def test_a_model_that_is_loaded_elsewhere_leaves_mlflow_alone(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("__pyfunc_model_path__", raising=False)
    before = getattr(scoring_server, http.DECORATOR)
    monkeypatch.setattr(scoring_server, http.DECORATOR, before)
    mlflow.pyfunc.load_model(str(saved))
    assert getattr(scoring_server, http.DECORATOR) is before
