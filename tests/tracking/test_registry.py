"""The same agents are one model and one version, however often they are trained."""

from types import SimpleNamespace

import mlflow
import pytest
from mlflow.entities import LoggedModelStatus
from mlflow.tracking import MlflowClient

from sentio_kedro.config import RegistryParameters
from sentio_kedro.pipelines.training import nodes
from sentio_kedro.tracking import registry
from sentio_kedro.tracking.client import close_killed_runs, process_tags
from sentio_kedro.tracking.model import CONTENT_TAG

BARS, FOLDS = SimpleNamespace(rows=lambda rows: None), SimpleNamespace(open_bars=slice(None))


@pytest.fixture
def train(store, tmp_path, monkeypatch):
    """Logs and registers the agents of one training in a run of its own."""

    def logged(agents, bars, content):
        model = store.create_logged_model("1", "agents", mlflow.active_run().info.run_id, tags={CONTENT_TAG: content})
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / "MLmodel").write_text(f"model_uuid: {model.model_id}\n")
        store.log_model_artifacts(model.model_id, str(tmp_path / "model"))
        return store.finalize_logged_model(model.model_id, LoggedModelStatus.READY).model_uri

    monkeypatch.setattr(nodes, "agents_content", lambda agents: agents["fold_0/seed_0"].content)
    monkeypatch.setattr(nodes, "log_model", logged)
    monkeypatch.setattr(nodes, "describe_agents", lambda agents, quality: "what they are")

    def one(content):
        agent = SimpleNamespace(spec=SimpleNamespace(fold=0), content=content)
        with mlflow.start_run(tags={"sentio.bars": "b" * 64, "sentio.agents": "a" * 64}):
            return nodes.log_agents({"fold_0/seed_0": agent}, BARS, FOLDS, {}, RegistryParameters(model="toy"))

    return one


def test_agents_that_are_registered_are_not_registered_again(train, store):
    first, second, again = train("one"), train("two"), train("one")
    assert again == first
    assert (first["version"], first["model_uri"], first["content"]) == ("1", "models:/toy/1", "one")
    assert second["version"] == "2"
    assert len(store.search_model_versions("name = 'toy'")) == len(store.search_logged_models(["1"])) == 2
    assert registry.aliases("toy") == {"challenger": "1"}  # what was trained last


def test_a_training_killed_between_model_and_version_registers_the_model_that_is_there(train, store, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(nodes, "register", lambda *_: None)
        assert train("one")["version"] is None
    assert train("one")["version"] == "1"
    assert len(store.search_logged_models(["1"])) == 1


def test_a_version_killed_before_it_had_an_alias_becomes_the_challenger(train, store, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(nodes, "challenge", lambda *_: None)
        train("one")
    assert registry.aliases("toy") == {}
    train("one")
    assert registry.aliases("toy") == {"challenger": "1"}


def test_the_pages_of_model_version_and_run_say_what_they_show(train, store):
    train("one")
    version = store.get_model_version("toy", "1")
    command = "`mlflow models serve -m 'models:/toy/1' --env-manager local -p 5001`"
    assert version.description == f"what they are\n- Serve: {command}"
    assert version.tags == {"sentio.content": "one", "sentio.agents": "a" * 64, "sentio.fold": "0"}
    assert "-m 'models:/toy@champion'" in store.get_registered_model("toy").description
    (run,) = store.search_runs(["1"])
    assert run.data.tags["mlflow.note.content"] == "what they are"
    store.update_registered_model("toy", "ours")
    train("two")
    assert store.get_registered_model("toy").description == "ours"  # a person's words stay


def test_models_that_a_killed_process_left_pending_are_closed_and_those_of_open_runs_are_not(store, caplog):
    client = MlflowClient()
    gone, living, ended = (client.create_run("1", tags=process_tags() | tags) for tags in
                           ({"sentio.process": "999999999"}, {}, {}))  # fmt: skip
    writers = [gone.info.run_id, living.info.run_id, ended.info.run_id, None]  # the last was deleted
    pending = [client.create_logged_model("1", "agents", run_id).model_id for run_id in writers]
    done = client.create_logged_model("1", "agents", gone.info.run_id).model_id
    client.finalize_logged_model(done, LoggedModelStatus.READY)
    client.set_terminated(ended.info.run_id, "FAILED")
    close_killed_runs(client, "1")
    states = [str(client.get_logged_model(name).status) for name in (*pending, done)]
    assert states == ["FAILED", "PENDING", "FAILED", "FAILED", "READY"]
    assert "was left unfinished by a run that is over" in caplog.text
