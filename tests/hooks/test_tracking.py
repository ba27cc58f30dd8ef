import logging
import os
import shutil
import signal
from types import SimpleNamespace

import mlflow
import pytest
from kedro.config import OmegaConfigLoader
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner, ThreadRunner
from mlflow.tracking import MlflowClient
from tests.hooks.conftest import in_namespaces

from sentio_kedro.hooks.tracking import MlflowTracking
from sentio_kedro.manifests import flatten_parameters
from sentio_kedro.tracking.client import log_metrics, nested_run

MLFLOW_YML = """
server:
  mlflow_tracking_uri: {uri}
  credentials: tracker
tracking:
  experiment:
    name: toy
    create_experiment_kwargs: {{artifact_location: mlartifacts}}
"""
RUN_PARAMS = dict.fromkeys(
    ("tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "load_versions", "runtime_params")
)


class Toy:
    """Runs toy stages with the hook, in a project folder of its own."""

    def __init__(self, folder):
        self.folder, self.fail = folder, False
        self.raw = {"network": {}, "training": {}, "backtest": {}, "reporting": {}}
        self.bars_hash = "bars"
        (folder / "conf" / "base").mkdir(parents=True)
        (folder / "conf" / "local").mkdir()
        (folder / "conf" / "local" / "credentials.yml").write_text("tracker: {MLFLOW_TRACKING_TOKEN: s3cr3t}")
        self.track("sqlite:///mlflow.db")

    def track(self, uri):
        (self.folder / "conf" / "base" / "mlflow.yml").write_text(MLFLOW_YML.format(uri=uri))

    def train(self, data):
        for seed in range(2):
            with nested_run(f"seed {seed}", {"seed": str(seed)}):
                log_metrics({"reward": 1.0 + seed})
        if self.fail:
            raise RuntimeError("out of luck")
        return "agents"

    @staticmethod
    def judge(data):
        log_metrics({"sharpe": 2.0})
        return "accounts"

    def pipelines(self):
        return in_namespaces(
            {
                "ingestion": Pipeline([node(lambda data: data, "bars", "aligned_bars", name="align")]),
                "training": Pipeline([node(self.train, "aligned_bars", "agents", name="train")]),
                "backtest": Pipeline([node(self.judge, "agents", "accounts", name="test")]),
            }
        )

    def run(self, *stages, runner=None):
        loader = OmegaConfigLoader(
            self.folder / "conf", base_env="base", default_run_env="local", config_patterns={"mlflow": ["mlflow*"]}
        )
        context = SimpleNamespace(
            config_loader=loader,
            project_path=self.folder,
            _package_name="toy",
            _get_config_credentials=lambda: loader["credentials"],
        )
        run_context = SimpleNamespace(bars_hash=self.bars_hash, parameters=flatten_parameters(self.raw))
        catalog = DataCatalog({"bars": MemoryDataset("bars"), "aligned_bars": MemoryDataset("bars")})
        catalog["agents"] = MemoryDataset("agents")
        pipeline = sum((self.pipelines()[name] for name in stages), Pipeline([]))
        manager = _create_hook_manager()
        manager.register(MlflowTracking(SimpleNamespace(run_context=run_context)))
        manager.hook.after_context_created(context=context)
        given = {"run_params": {**RUN_PARAMS, "pipeline_names": list(stages)}, "pipeline": pipeline, "catalog": catalog}
        manager.hook.before_pipeline_run(**given)
        try:
            (runner or SequentialRunner()).run(pipeline, catalog, manager, run_id="toy")
        except Exception as error:
            manager.hook.on_pipeline_error(error=error, **given)
            raise
        manager.hook.after_pipeline_run(run_result={}, **given)
        return context

    def runs(self, parents=True):
        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("toy")
        found = client.search_runs([experiment.experiment_id]) if experiment else []
        return [run for run in found if ("mlflow.parentRunId" not in run.data.tags) == parents]


@pytest.fixture
def toy(tmp_path, monkeypatch, empty_store):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    made = Toy(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "")
    monkeypatch.setattr("sentio_kedro.hooks.manifests.pipelines", made.pipelines())
    yield made
    while mlflow.active_run():
        mlflow.end_run()


@pytest.mark.parametrize("runner", [SequentialRunner, ThreadRunner])
def test_training_and_backtest_of_the_same_agents_share_one_run(toy, runner):
    toy.run("ingestion", "training", runner=runner())
    toy.run("backtest", runner=runner())
    toy.run("training", runner=runner())
    (parent,) = toy.runs()
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"sharpe": 2.0}
    children = toy.runs(parents=False)
    assert sorted(child.data.metrics["reward"] for child in children) == [1.0, 2.0]
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert {child.info.status for child in children} == {"FINISHED"}


def test_other_parameters_or_bars_are_other_agents(toy):
    toy.run("training")
    toy.raw["network"] = {"width": 32}
    toy.run("training")
    toy.bars_hash = "other bars"
    toy.run("backtest")
    assert len(toy.runs()) == 3


def test_agents_of_other_code_are_other_agents(toy, monkeypatch):
    for learner in ("one", "two", "one"):
        monkeypatch.setattr("sentio_kedro.manifests.code_hash", lambda folder, packages, code=learner: code)
        toy.run("training")
    assert len(toy.runs()) == 2


def test_parameters_are_flattened_nested_ones_too(toy):
    toy.raw["trading"] = {"costs": {"commission_bps": 7.5}}
    toy.run("training")
    (parent,) = toy.runs()
    assert parent.data.params["network.width"] == "16"
    assert parent.data.params["trading.costs.commission_bps"] == "7.5"
    assert parent.data.params["trading.levels"] == "[-1.0, 0.0, 1.0]"


def test_tags_say_what_the_run_can_be_compared_by(toy):
    toy.raw |= {"ingestion": {"universe": "dated"}, "cross_validation": {"scheme": "combinatorial"}}
    toy.raw |= {"network": {"variant": "maskable"}, "training": {"variant": "maskable", "seeds": 3}}
    toy.run("training")
    (parent,) = toy.runs()
    tags = parent.data.tags
    told = {name: tags[f"sentio.{name}"] for name in ("variant", "bars", "universe_bias", "scheme", "seeds")}
    assert told == {
        **{"variant": "maskable", "bars": "bars", "universe_bias": "dated"},
        **{"scheme": "combinatorial", "seeds": "3"},
    }
    assert parent.info.run_name == f"maskable {tags['sentio.agents'][:8]}"
    assert len(tags["sentio.code"]) == len(tags["sentio.execution"]) == 64
    assert {"project_path", "runner"}.isdisjoint(tags)


def test_pipelines_that_read_the_store_are_connected_and_open_no_run_of_agents(toy, monkeypatch):
    names = []

    def read(data):
        names.extend(run.info.run_name for run in mlflow.search_runs(output_format="list"))
        return "table"

    toy.run("training")
    pipelines = toy.pipelines()
    reading = Pipeline([node(read, "bars", "comparison_table", name="compare")])
    pipelines |= in_namespaces({"comparison": reading})
    monkeypatch.setattr(toy, "pipelines", lambda: pipelines)
    monkeypatch.setattr("sentio_kedro.hooks.manifests.pipelines", toy.pipelines())
    mlflow.set_tracking_uri("sqlite:///elsewhere.db")
    toy.run("comparison")
    assert len(names) == 3
    assert len(toy.runs()) == 1
    assert mlflow.active_run() is None


def test_parameter_that_changed_since_does_not_stop_the_run(toy, caplog):
    toy.run("training")
    toy.raw["reporting"] = {"confidence": 0.9}
    toy.run("backtest")
    (parent,) = toy.runs()
    assert parent.data.params["reporting.confidence"] == "0.95"
    assert parent.data.tags["sentio.now.reporting.confidence"] == "0.9"
    assert "reporting.confidence" in caplog.text


def test_stages_before_training_leave_no_run(toy):
    toy.run("ingestion")
    assert toy.runs() == []
    assert mlflow.active_run() is None


def test_failed_run_is_marked_failed_and_then_continued(toy):
    toy.fail = True
    with pytest.raises(RuntimeError, match="out of luck"):
        toy.run("training")
    (parent,) = toy.runs()
    assert parent.info.status == "FAILED"
    assert mlflow.active_run() is None
    toy.fail = False
    toy.run("training")
    assert [run.info.status for run in toy.runs()] == ["FINISHED"]


@pytest.mark.parametrize("ended", ["FAILED", "KILLED"])
def test_a_finished_run_stays_finished_whatever_becomes_of_the_next_attempt(toy, ended):
    toy.run("training")
    if ended == "FAILED":
        toy.fail = True
        with pytest.raises(RuntimeError, match="out of luck"):
            toy.run("training")
    else:
        client = MlflowClient(f"sqlite:///{toy.folder / 'mlflow.db'}")
        for run in (*toy.runs(), *toy.runs(parents=False)):
            client.update_run(run.info.run_id, status="RUNNING")
            client.set_tag(run.info.run_id, "sentio.process", "999999999")
        toy.bars_hash = "other bars"
        toy.run("backtest")
    (parent,) = [run for run in toy.runs() if run.data.tags["sentio.bars"] == "bars"]
    children = toy.runs(parents=False)
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert parent.data.tags["sentio.last_attempt"] == ended
    assert len(children) == 2


def test_killed_runs_are_closed_by_the_next_and_living_ones_left_alone(toy):
    toy.run("training")
    (parent,) = toy.runs()
    client = MlflowClient(f"sqlite:///{toy.folder / 'mlflow.db'}")
    mine = {name: value for name, value in parent.data.tags.items() if name.startswith("sentio.")}
    del mine["sentio.finished"]

    def left_open(**tags):
        return client.create_run(parent.info.experiment_id, tags={**mine, "sentio.agents": "x", **tags}).info.run_id

    reused = left_open(**{"sentio.process_started": "1.00"})  # another process had this number
    gone = left_open(**{"sentio.process": "999999999"})
    living = left_open()
    elsewhere = left_open(**{"sentio.host": "another-machine", "sentio.process": "999999999"})
    toy.run("backtest")
    status = {run.info.run_id: run.info.status for run in toy.runs()}
    assert (status[reused], status[gone]) == ("KILLED", "KILLED")
    assert (status[living], status[elsewhere]) == ("RUNNING", "RUNNING")


def test_a_terminated_run_is_closed_as_killed_before_the_process_ends(toy, monkeypatch):
    class Ended(BaseException):
        """End of the process."""

    def end(number):
        assert (number, signal.getsignal(number)) == (signal.SIGTERM, signal.SIG_DFL)
        raise Ended

    monkeypatch.setattr(toy, "train", lambda data: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr("sentio_kedro.hooks.manifests.pipelines", toy.pipelines())
    monkeypatch.setattr("sentio_kedro.hooks.tracking.signal.raise_signal", end)
    with pytest.raises(Ended):
        toy.run("training")
    (parent,) = toy.runs()
    assert parent.info.status == "KILLED"


def test_unreachable_server_costs_a_warning_that_hides_the_password(toy, caplog):
    toy.track("http://user:passw0rd@127.0.0.1:9")
    with caplog.at_level(logging.WARNING):
        toy.run("training")
    assert "this run goes on untracked" in caplog.text
    assert "passw0rd" not in caplog.text
    assert mlflow.active_run() is None


def test_credentials_are_never_logged(toy):
    toy.run("training")
    (parent,) = toy.runs()
    assert "s3cr3t" not in str(parent.to_dictionary())


def test_store_lies_in_the_project_wherever_the_command_was_typed(toy, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    context = toy.run("training")
    assert list(elsewhere.iterdir()) == []
    assert context.mlflow.server.mlflow_tracking_uri == f"sqlite:///{tmp_path.as_posix()}/mlflow.db"
    assert toy.runs()[0].info.artifact_uri.startswith((tmp_path / "mlartifacts").as_uri())
