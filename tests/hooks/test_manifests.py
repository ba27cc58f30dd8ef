"""Toy stages through Kedro's own runners: each stage adds its name to what it read."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset, SharedMemoryDataCatalog
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner, ThreadRunner
from tests.conftest import snapshot
from tests.hooks.conftest import in_namespaces

from sentio_kedro.datasets.checkpoints import CheckpointStoreDataset
from sentio_kedro.datasets.files import JSONDataset, ParquetDataset
from sentio_kedro.hooks.manifests import StageManifests
from sentio_kedro.hooks.run_context import RunContext
from sentio_kedro.locks import LockedError
from sentio_kedro.manifests import STAGES, StaleArtifactsError
from sentio_kedro.market.ingestion.bars import bars_hash
from sentio_kedro.market.ingestion.problems import BarsError

COLUMNS = {"columns": [{"name": "return_1", "indicator": "log_return"}]}
PARAMETERS = {
    name: {} for name in ("ingestion", "cross_validation", "regimes", "forecasting", "trading", "network", "training")
} | {
    "backtest": {},
    "reporting": {},
    "features": COLUMNS,
}


class Killed(Exception):
    """A crash in the middle of a stage."""


class Toy:
    """Stages of two nodes each, the second of which can be made to crash."""

    def __init__(self, folder: Path, make_bars) -> None:
        self.folder, self.crash, self.make_bars = folder, "", make_bars
        self.luck = ""  # what another run of the same parameters makes differently
        self.write_bars(30)

    def write_bars(self, bars: int) -> None:
        ParquetDataset(filepath=str(self.folder / "bars.parquet")).save(self.make_bars(bars))

    def stage(self, name: str, source: str) -> Pipeline:
        def first(data):
            return {"made": name + self.luck}

        def second(data):
            if self.crash == name:
                raise Killed
            return {"made": name + self.luck}

        inputs = [source, "checkpoints"] if name == "training" else source
        start = (lambda data, store: store.save("half", {}, {}) or {"made": name}) if name == "training" else first
        return Pipeline(
            [
                node(start, inputs, f"{name}_half", name=f"{name}_first"),
                node(second, f"{name}_half", f"{name}_data", name=f"{name}_second"),
            ],
            tags=name,
        )

    def pipelines(self) -> dict[str, Pipeline]:
        sources = ["bars", *(f"{name}_data" for name in STAGES)]
        made = {name: self.stage(name, source) for name, source in zip(STAGES, sources, strict=False)}
        for name in ("signals", "lockbox"):
            made[name] = Pipeline([node(lambda data: "done", "training_data", f"{name}_data", name=name)])
        made["promotion"] = Pipeline([node(lambda data: "decision", "ingestion_data", "decision", name="promote")])
        made["external_test"] = Pipeline([node(lambda data: "done", "ingestion_data", "external_data", name="test")])
        made["comparison"] = Pipeline([node(lambda: "table", None, "table", name="compare")])
        return in_namespaces(made)

    def catalog(self, parameters=None, kind=DataCatalog) -> DataCatalog:
        def file(name):
            return JSONDataset(filepath=str(self.folder / f"{name}.json"))

        names = [f"{name}_{part}" for name in STAGES for part in ("half", "data", "manifest")]
        return kind(
            {
                "bars": ParquetDataset(filepath=str(self.folder / "bars.parquet")),
                "parameters": MemoryDataset(PARAMETERS | (parameters or {})),
                "checkpoints": CheckpointStoreDataset(filepath=str(self.folder / "checkpoints")),
                **{name: file(name) for name in names},
            }
        )

    def run(self, *stages, parameters=None, runner=None, pipeline=None, **run_params):
        catalog = self.catalog(parameters)
        chosen = pipeline or sum((self.pipelines()[name] for name in stages or STAGES), Pipeline([]))
        manager = _create_hook_manager()
        manager.register(StageManifests())
        manager.hook.before_pipeline_run(run_params=run_params, pipeline=chosen, catalog=catalog)
        (runner or SequentialRunner()).run(chosen, catalog, manager, run_id="toy")

    def manifests(self) -> list[str]:
        return [name for name in STAGES if (self.folder / f"{name}_manifest.json").exists()]

    def checkpoints(self) -> list[Path]:
        return list((self.folder / "checkpoints").rglob("*.safetensors"))


@pytest.fixture
def toy(tmp_path, monkeypatch, make_bars):
    made = Toy(tmp_path, make_bars)
    monkeypatch.setattr("sentio_kedro.hooks.manifests.pipelines", made.pipelines())
    return made


@pytest.mark.parametrize("runner", [SequentialRunner, ThreadRunner])
def test_each_stage_leaves_a_manifest_that_the_next_command_accepts(toy, runner):
    toy.run(runner=runner())
    assert toy.manifests() == list(STAGES)
    record = json.loads((toy.folder / "training_manifest.json").read_text())
    assert record["bars_hash"] == bars_hash(toy.make_bars(30))
    assert record["parameters"]["network.width"] == 16
    assert set(record["upstream"]) == {"ingestion", "features", "cross_validation", "regimes", "forecasting"}
    for stage in (*STAGES, "signals"):
        toy.run(stage, runner=runner())


def test_stage_that_is_killed_before_it_replaced_anything_changes_nothing(toy):
    toy.run()
    before = snapshot(toy.folder)
    toy.crash = "regimes"
    with pytest.raises(Killed):
        toy.run("regimes")
    assert snapshot(toy.folder) == before
    toy.run("training")


def test_stage_that_was_run_in_part_with_other_parameters_must_run_again(toy):
    toy.run()
    pipeline, other = toy.pipelines()["regimes"], {"regimes": {"states": 4}}
    toy.luck = ", other"
    toy.run(pipeline=pipeline.only_nodes("regimes.regimes_first"), parameters=other)
    toy.run("forecasting")  # what it reads is as it was
    toy.run(pipeline=pipeline.only_nodes("regimes.regimes_second"), parameters=other)
    with pytest.raises(StaleArtifactsError, match=r"`regimes_data` is not what `regimes` saved: .* changed") as refused:
        toy.run("forecasting")
    assert "kedro run --pipeline regimes`" in str(refused.value)


def test_later_stage_stops_before_any_node_and_names_every_problem(toy):
    toy.run("ingestion", "features", "cross_validation")
    with pytest.raises(StaleArtifactsError) as error:
        toy.run("training", parameters={"cross_validation": {"folds": 7}}, env="equities")
    assert "`cross_validation.folds` was 4, is now 7" in str(error.value)
    assert "`regimes` has not been run" in str(error.value)
    assert "`kedro run --pipelines cross_validation,regimes,forecasting --env equities`" in str(error.value)
    assert not (toy.folder / "training_half.json").exists()


def test_remedy_repeats_the_parameters_of_the_command(toy):
    with pytest.raises(StaleArtifactsError, match=r'--params "network.window=64,training.seeds=3"'):
        toy.run("training", runtime_params={"network": {"window": 64}, "training": {"seeds": 3}})


def test_remedy_writes_values_as_the_command_line_reads_them(toy):
    given = {"a": {"none": None, "yes": True}, "text": "rolling", "half": 0.5}
    with pytest.raises(StaleArtifactsError, match=r'--params "a.none=null,a.yes=true,text=rolling,half=0.5"'):
        toy.run("training", runtime_params=given)


def test_other_bars_are_noticed(toy):
    toy.run()
    toy.write_bars(31)
    with pytest.raises(StaleArtifactsError, match="made from other bars"):
        toy.run("training")


def test_signals_run_on_newer_bars_but_not_without_agents(toy):
    with pytest.raises(StaleArtifactsError, match="--pipelines training,backtest"):
        toy.run("signals")
    toy.run()
    toy.write_bars(31)
    toy.run("signals")


def test_the_lockbox_needs_agents_that_fit_and_leaves_every_manifest(toy):
    with pytest.raises(StaleArtifactsError, match=r"kedro run --pipelines .*training"):
        toy.run("lockbox")
    toy.run(*STAGES[:6])
    toy.run("lockbox")
    assert toy.manifests() == list(STAGES[:6])
    with pytest.raises(StaleArtifactsError, match=r"`training.seeds` was 2, is now 3"):
        toy.run("lockbox", parameters={"training": {"seeds": 3}})


def test_what_reads_tracked_runs_needs_no_stage_but_a_promotion_needs_bars_folds_and_agents(toy):
    toy.run("comparison")
    with pytest.raises(StaleArtifactsError, match="--pipelines ingestion,cross_validation,training"):
        toy.run("promotion")
    toy.run(*STAGES[:6])
    toy.run("promotion", parameters={"training": {"seeds": 7}})
    toy.write_bars(31)
    toy.run("promotion", "comparison")
    assert toy.manifests() == list(STAGES[:6])


def test_an_external_agent_is_tested_without_a_training(toy):
    with pytest.raises(StaleArtifactsError, match="--pipeline ingestion"):
        toy.run("external_test")
    toy.run("ingestion")
    toy.run("external_test")
    assert toy.manifests() == ["ingestion"]


def test_part_of_a_stage_renews_a_manifest_that_fits_and_no_other(toy):
    toy.run()
    part = toy.pipelines()["features"].only_nodes("features.features_second")
    toy.run(pipeline=part)
    assert toy.manifests() == list(STAGES)
    before = (toy.folder / "features_manifest.json").read_bytes()
    toy.luck = ", other"
    toy.run(pipeline=part, parameters={"features": {"columns": [{"name": "x", "indicator": "log_return"}]}})
    assert (toy.folder / "features_manifest.json").read_bytes() == before
    with pytest.raises(StaleArtifactsError, match="`features_data` is not what `features` saved"):
        toy.run("cross_validation")


def test_training_continues_from_its_own_checkpoints_and_clears_them_at_its_end(toy):
    toy.run(*STAGES[:5])
    toy.crash = "training"
    for parameters in ({}, {"training": {"seeds": 3}}, {"training": {"device": "cpu"}}):
        with pytest.raises(Killed):
            toy.run("training", parameters=parameters)
    assert len(toy.checkpoints()) == 2
    toy.crash = ""
    toy.run("training")
    assert toy.checkpoints() == []


def test_checkpoints_of_other_code_are_not_continued(toy, monkeypatch):
    toy.run(*STAGES[:5])
    toy.crash = "training"
    for code in ("one", "two", "one"):
        monkeypatch.setattr("sentio_kedro.manifests.code_hash", lambda folder, packages, code=code: code)
        with pytest.raises(Killed):
            toy.run("training")
    assert len(toy.checkpoints()) == 2


def test_agents_that_are_trained_again_are_tested_again_if_they_are_others(toy):
    toy.run()
    toy.run("training")
    toy.run("reporting")  # the same agents
    toy.luck = ", other"
    toy.run("training")
    with pytest.raises(StaleArtifactsError, match=r"`backtest` was made from an earlier `training_data` of `training`"):
        toy.run("reporting")
    toy.run("backtest", "reporting")


@pytest.mark.parametrize(
    ("damage", "clause"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_text(path.read_text() + " "), "changed"),
    ],
)
def test_a_file_that_was_changed_or_deleted_is_named_before_any_node(toy, damage, clause):
    toy.run()
    damage(toy.folder / "training_data.json")
    before = snapshot(toy.folder)
    for stage in ("backtest", "signals"):
        with pytest.raises(StaleArtifactsError, match=rf"`training_data` is not what .* `training_data.json` {clause}"):
            toy.run(stage)
    assert snapshot(toy.folder) == before
    toy.run("training", "backtest")


def test_all_changed_artifacts_of_a_stage_are_named(toy):
    toy.run()
    for name in ("training_half", "training_data"):
        (toy.folder / f"{name}.json").write_text("5")
    reader = Pipeline([node(lambda *data: "done", ["training_data", "training_half"], "signals_data", name="signals")])
    with pytest.raises(StaleArtifactsError, match=r"- `training_data` is not what .*\n- `training_half` is not what"):
        toy.run(pipeline=in_namespaces({"signals": reader})["signals"])


def test_what_an_earlier_version_saved_is_made_again(toy):
    toy.run()
    path = toy.folder / "ingestion_manifest.json"
    path.write_text(
        json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "artifacts"})
    )
    with pytest.raises(StaleArtifactsError, match="`ingestion` was run by an earlier version"):
        toy.run("features")


def test_manifests_hold_the_hashes_of_what_a_stage_read_and_made(toy):
    toy.run()
    record = json.loads((toy.folder / "features_manifest.json").read_text())
    content = (toy.folder / "features_data.json").read_bytes()
    assert record["artifacts"]["features_data"] == {"features_data.json": hashlib.sha256(content).hexdigest()}
    assert set(record["artifacts"]) == {"features_half", "features_data"}
    assert set(record["read"]) == {"ingestion_data"}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (("backtest", "reporting", "promotion"), "`promotion` cannot be in one command with `backtest`, `reporting`, "),
        (("training", "external_test"), "`external_test` cannot be in one command with `training`, which are about "),
        (("lockbox", "comparison"), "`comparison` cannot be in one command with `lockbox`, "),
    ],
)
def test_what_makes_a_run_and_what_reads_finished_ones_are_not_mixed(toy, stages, message):
    toy.run()
    before = snapshot(toy.folder)
    with pytest.raises(ValueError, match=message) as refused:
        toy.run(*stages)
    assert str(refused.value).endswith(f"afterwards type `kedro run --pipeline {stages[-1]}`.")
    assert snapshot(toy.folder) == before


def test_one_run_writes_to_a_folder_of_artifacts_and_one_to_the_registry(toy):
    def hooks(artifacts):
        made = StageManifests()
        loader = {"globals": {"artifacts": artifacts, "registry": "registry"}}
        made.after_context_created(SimpleNamespace(config_loader=loader, project_path=toy.folder))
        return made

    def begin(hook, stage):
        hook.before_pipeline_run(run_params={}, pipeline=toy.pipelines()[stage], catalog=toy.catalog())

    toy.run()
    first, other = hooks("data"), hooks("elsewhere")
    begin(first, "training")
    with pytest.raises(LockedError, match="`data` must have one writer"):
        begin(hooks("data"), "backtest")
    begin(other, "promotion")  # other artifacts
    with pytest.raises(LockedError, match="`registry` must have one writer"):
        begin(hooks("third"), "lockbox")
    first.after_pipeline_run()
    other.on_pipeline_error()
    with pytest.raises(ValueError, match="only-missing-outputs"):
        first.before_pipeline_run(
            run_params={"only_missing_outputs": True}, pipeline=toy.pipelines()["backtest"], catalog=toy.catalog()
        )
    begin(hooks("data"), "promotion")


def test_parallel_runner_is_refused_in_one_sentence(toy):
    with pytest.raises(ValueError, match=r"ParallelRunner is not supported.*ThreadRunner"):
        StageManifests().before_pipeline_run(
            run_params={}, pipeline=Pipeline([]), catalog=toy.catalog(kind=SharedMemoryDataCatalog)
        )


def test_missing_outputs_only_is_refused(toy):
    with pytest.raises(ValueError, match="only-missing-outputs"):
        toy.run("ingestion", only_missing_outputs=True)


def test_unreadable_bars_are_refused_by_their_schema(toy):
    ParquetDataset(filepath=str(toy.folder / "bars.parquet")).save(toy.make_bars(30).drop(columns="timestamp"))
    with pytest.raises(BarsError, match=r"columns are missing.*\n.*column `timestamp`"):
        toy.run("training")


def test_another_table_of_the_universe_is_other_bars(toy):
    bars, table = MemoryDataset(toy.make_bars(30)), pd.DataFrame({"symbol": ["A"], "start": ["2015-01-01"], "end": ""})
    settings = MemoryDataset({"ingestion": {}})
    catalogs = [{}, {"universe": MemoryDataset(None)}, *({"universe": MemoryDataset(x)} for x in (table, table[:0]))]
    hashes = [
        RunContext(DataCatalog({"bars": bars, "parameters": settings, **catalog}), {}).bars_hash for catalog in catalogs
    ]
    assert hashes[0] == hashes[1] == bars_hash(toy.make_bars(30))
    assert len(set(hashes)) == 3
