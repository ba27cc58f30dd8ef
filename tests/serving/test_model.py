"""The MLflow model: raw bars and an account in, target positions and risk figures out."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from sentio_kedro.agent.bundle import AgentBundle, save_agents
from sentio_kedro.config import SignalParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import aligned_to_frame
from sentio_kedro.serving.accounts import Account
from sentio_kedro.serving.model import SignalModel
from sentio_kedro.serving.newest import newest_signals
from sentio_kedro.serving.session import DecisionSession
from sentio_kedro.tracking.model import log_model

NEWEST = 1_150  # row of the bar that is decided on
ACCOUNT = {"cash": 60_000.0, "shares": {"AAA": 250.0, "BBB": -120.0}, "peak_equity": 90_000.0}
WAIT = 120.0  # seconds that a server may take to answer


@pytest.fixture(scope="module", name="known")
def known_fixture(bars: AlignedBars, agent: AgentBundle) -> AlignedBars:
    """As many bars as the agents need, and 20 more."""
    return bars.rows(slice(NEWEST - 19 - agent.spec.required_bars, NEWEST + 1))


@pytest.fixture(scope="module", name="model")
def model_fixture(agents: list[AgentBundle], tmp_path_factory: pytest.TempPathFactory) -> SignalModel:
    folder = tmp_path_factory.mktemp("agents")
    save_agents({agent.name: agent for agent in agents}, folder)
    model = SignalModel()
    model.load_context(SimpleNamespace(artifacts={"agents": str(folder)}))
    return model


def test_a_model_that_lost_an_agent_is_not_served(agents: list[AgentBundle], tmp_path: Path) -> None:
    save_agents({agent.name: agent for agent in agents}, tmp_path)
    (tmp_path / agents[0].name / "agent.json").unlink()
    with pytest.raises(ValueError, match=f"`{agents[0].name}` is missing"):
        SignalModel().load_context(SimpleNamespace(artifacts={"agents": str(tmp_path)}))


def predict(model: SignalModel, frame: pd.DataFrame, **params: Any) -> pd.DataFrame:
    return model.predict(SimpleNamespace(), frame, params)


def test_without_an_account_the_model_gives_the_signals_of_its_agents(
    model: SignalModel, agents: list[AgentBundle], known: AlignedBars
) -> None:
    expected = newest_signals(agents, known, SignalParameters(equity=5e4))
    pd.testing.assert_frame_equal(predict(model, aligned_to_frame(known), equity=5e4), expected)


def test_with_an_account_of_an_earlier_bar_the_model_trades_on_and_compares_with_a_later_start(
    model: SignalModel, agents: list[AgentBundle], known: AlignedBars
) -> None:
    begun = {**ACCOUNT, "time": f"{known.timestamps[-16]}Z"}
    given = predict(model, aligned_to_frame(known), account=json.dumps(begun))
    later = DecisionSession(agents)
    later.start(known.rows(slice(0, -8)))
    expected = later.decide(known.rows(slice(-8, None)))
    np.testing.assert_allclose(given["other_target"], expected.target, rtol=1e-9)
    apart = np.abs(given["target"] - given["other_target"]) > 0.1 * expected.largest
    assert given["start_agrees"].tolist() == (~apart).tolist()


def test_with_an_account_the_model_gives_what_a_session_decides_for_it(
    model: SignalModel, agents: list[AgentBundle], known: AlignedBars
) -> None:
    session = DecisionSession(agents)
    session.start(known.rows(slice(0, -1)))
    expected = session.decide(known.rows(slice(-1, None)), Account(**ACCOUNT)).frame()
    given = predict(model, aligned_to_frame(known), account=json.dumps(ACCOUNT))
    pd.testing.assert_frame_equal(given, expected, rtol=1e-6, atol=1e-6)
    assert (given["order"] != 0.0).any()


def test_stamps_may_be_text_and_are_utc_if_they_name_no_zone(model: SignalModel, known: AlignedBars) -> None:
    frame = aligned_to_frame(known)
    expected = predict(model, frame)
    text = frame.assign(timestamp=frame["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%S"))
    pd.testing.assert_frame_equal(predict(model, text), expected)
    pd.testing.assert_frame_equal(predict(model, text.assign(timestamp=text["timestamp"] + "Z")), expected)


def test_a_long_history_and_the_required_bars_give_the_same_signal(
    agents: list[AgentBundle], bars: AlignedBars, known: AlignedBars
) -> None:
    whole, least = (
        newest_signals(agents, part, SignalParameters(), Account(cash=1e6, time=f"{known.timestamps[-21]}Z"))
        for part in (bars.rows(slice(0, NEWEST + 1)), known)
    )
    np.testing.assert_allclose(whole["target"], least["target"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(whole["tail_risk"], least["tail_risk"], rtol=0, atol=1e-6)


def test_too_few_bars_are_refused_with_what_is_missing(model: SignalModel, known: AlignedBars) -> None:
    needed = model.session.required_bars
    with pytest.raises(MlflowException, match=f"need {needed} bars to decide, were given {needed - 10}; give 10 more"):
        predict(model, aligned_to_frame(known.rows(slice(-(needed - 10), None))))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{cash: 1}", r"`account` must be a JSON object: Expecting property name .* at line 1, column 2"),
        (
            '{"cash": "much"}',
            r"`account` must be a JSON object such as .*`cash`: Input should be a valid number, was 'much'",
        ),
        ('{"cash": 1, "stocks": {}}', r"`stocks`: Unexpected keyword argument"),
        ('{"cash": 1, "shares": {"XXX": 1}}', r"`account.shares` names \['XXX'\]"),
    ],
)
def test_accounts_that_cannot_be_read_are_refused(
    model: SignalModel, known: AlignedBars, text: str, message: str
) -> None:
    with pytest.raises(MlflowException, match=message):
        predict(model, aligned_to_frame(known), account=text)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_decision_that_is_no_number_is_refused(model: SignalModel, known: AlignedBars) -> None:
    frame = aligned_to_frame(known)
    prices = ["open", "high", "low", "close"]
    with pytest.raises(
        MlflowException, match=r"must be finite numbers, was \[nan, .*; bars or account hold numbers that"
    ):
        predict(model, frame.assign(**(1e300 * frame[prices])), account='{"cash": 1e5, "shares": {"AAA": 1e18}}')


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"acount": ""},
            r"^`params` may hold `account`, .*, `equity`, .* and `max_age`, .*; `acount`: Unexpected keyword argument",
        ),
        ({"equity": 0.0}, r"`equity`: Input should be greater than 0, was 0\.0\.$"),
        ({"equity": float("nan")}, r"`equity`: Input should be a finite number, was nan\.$"),
        (
            {"account": '{"cash": 1, "cash": 2}'},
            r"^`account` must name a key once, named 'cash' twice; leave one out\.$",
        ),
        ({"account": '{"cash": true}'}, r"`cash`: Input should be a valid number, was True\.$"),
    ],
)
def test_parameters_that_are_misspelt_or_out_of_bounds_are_refused(
    model: SignalModel, known: AlignedBars, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(MlflowException, match=message):
        predict(model, aligned_to_frame(known), **params)


class Server:
    """``mlflow models serve`` on a free port."""

    def __init__(self, model: Path, store: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        command = ["models", "serve", "--model-uri", str(model), "--env-manager", "local", "--port", port]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "mlflow", *command, "--workers", "1"],
            env={**os.environ, "MLFLOW_TRACKING_URI": store, "PATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait(self) -> None:
        """Read what the server tells until it says that it answers."""
        assert self.process.stdout is not None
        told = []
        for line in self.process.stdout:
            told.append(line)
            if "Uvicorn running on" in line:
                return
        raise AssertionError("".join(told))

    def ping(self) -> int:
        """Return the status of /ping."""
        with urllib.request.urlopen(f"{self.address}/ping", timeout=WAIT) as answer:  # noqa: S310
            return int(answer.status)

    def stop(self) -> None:
        """End the server and the workers that it started."""
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.communicate(timeout=WAIT)

    def ask(self, body: dict[str, Any]) -> Any:
        """Post to /invocations."""
        request = urllib.request.Request(  # noqa: S310
            f"{self.address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=WAIT) as answer:  # noqa: S310
            return json.load(answer)


@pytest.fixture(scope="module", name="logged")
def logged_fixture(
    agents: list[AgentBundle], known: AlignedBars, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """The model as it lies in a store of its own: its folder and the store."""
    folder, before = tmp_path_factory.mktemp("mlflow"), mlflow.get_tracking_uri()
    store = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("served", (folder / "artifacts").as_uri()))
    with mlflow.start_run():
        uri = log_model({agent.name: agent for agent in agents}, known)
    yield Path(mlflow.artifacts.download_artifacts(uri)), store
    mlflow.set_tracking_uri(before)


def test_the_logged_model_has_code_safetensors_signature_and_example(
    logged: tuple[Path, str], model: SignalModel, known: AlignedBars
) -> None:
    files = {path.name for path in logged[0].rglob("*") if path.is_file()}
    assert {"model.py", "weights.safetensors", "agent.json", "input_example.json", "MLmodel"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".joblib", ".pt"))]
    assert (logged[0] / "code" / "sentio_kedro" / "serving" / "session.py").is_file()
    loaded = mlflow.pyfunc.load_model(str(logged[0]))
    inputs, outputs = loaded.metadata.signature.inputs, loaded.metadata.signature.outputs
    assert inputs.input_names()[:3] == ["timestamp", "symbol", "open"]
    assert {"target", "shares", "order", "regime", "tail_risk", "binding"} <= set(outputs.input_names())
    example = mlflow.models.Model.load(str(logged[0])).load_input_example(str(logged[0]))
    assert len(example) == 3 * model.session.required_bars
    expected = predict(model, aligned_to_frame(known), account=json.dumps(ACCOUNT))
    pd.testing.assert_frame_equal(
        loaded.predict(aligned_to_frame(known), params={"account": json.dumps(ACCOUNT)}), expected
    )


def open_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be an active run until it is ended, in no store."""
    runs = [SimpleNamespace()]
    monkeypatch.setattr(mlflow, "active_run", lambda: runs[-1] if runs else None)
    monkeypatch.setattr(mlflow, "end_run", lambda status: runs.pop())


def test_agents_are_logged_and_served_though_a_symbol_was_delisted(
    agents: list[AgentBundle], known: AlignedBars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = known.without(np.array([symbol == "CCC" for symbol in known.symbols]))
    logged: dict[str, Any] = {}
    open_a_run(monkeypatch)
    monkeypatch.setattr(
        mlflow.pyfunc, "log_model", lambda **given: logged.update(given) or SimpleNamespace(model_uri="models:/m-1")
    )
    assert log_model({agent.name: agent for agent in agents}, left) == "models:/m-1"
    example, params = logged["input_example"]
    assert set(example["symbol"]) == {"AAA", "BBB"}
    model = SignalModel()
    save_agents({agent.name: agent for agent in agents}, tmp_path)
    model.load_context(SimpleNamespace(artifacts={"agents": str(tmp_path)}))
    answer = predict(model, example, **params)
    assert answer["symbol"].tolist() == ["AAA", "BBB", "CCC"]
    assert answer["target"].iloc[2] == 0.0


def test_bars_that_agents_cannot_decide_on_are_no_failure_of_mlflow(
    agents: list[AgentBundle], known: AlignedBars, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_a_run(monkeypatch)
    with pytest.raises(ValueError, match=r"The agents need \d+ bars to decide, were given 50"):
        log_model({agent.name: agent for agent in agents}, known.rows(slice(-50, None)))


@pytest.mark.slow
def test_mlflow_serves_the_numbers_of_the_process(
    logged: tuple[Path, str], model: SignalModel, known: AlignedBars
) -> None:
    server = Server(*logged)
    try:
        server.wait()
        assert server.ping() == 200
        frame = aligned_to_frame(known)
        body = {"dataframe_split": json.loads(frame.to_json(orient="split", index=False, date_format="iso"))}
        for params in ({"account": json.dumps(ACCOUNT)}, {"equity": 5e4}, {}):
            answer = pd.DataFrame(server.ask({**body, "params": params})["predictions"])
            expected = predict(model, frame, **params)
            assert pd.to_datetime(answer["timestamp"], utc=True).tolist() == expected["timestamp"].tolist()
            told = expected.drop(columns=["timestamp", "other_target", "start_agrees"])
            pd.testing.assert_frame_equal(answer[list(told.columns)], told, check_dtype=False, rtol=1e-9, atol=1e-12)
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.ask({**body, "params": {"account": '{"cash": 1, "shares": {"XXX": 1}}'}})
        assert refused.value.code == 400
        assert "`account.shares` names ['XXX']" in refused.value.read().decode()
    finally:
        server.stop()
