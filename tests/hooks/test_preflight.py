"""Refusals before a run: each says what, bound and remedy, and leaves the project as it was, byte for byte."""

import json
import logging

import pytest
from kedro.framework.project import pipelines
from kedro.io import DatasetError
from kedro_datasets.pandas import ParquetDataset
from tests.conftest import Project, snapshot

from sentio_kedro.hooks.preflight import sections_of_pipelines
from sentio_kedro.market.ingestion.bars import bars_hash

GLOBALS = "conf/tiny/globals.yml"


def refusal(project: Project, *pipelines: str, **params) -> str:
    """Return the text of the refusal of a run, which must change nothing."""
    before = snapshot(project.path)
    with pytest.raises(ValueError, match=r".") as refused:
        project.run(*pipelines, params=params)
    assert snapshot(project.path) == before
    return str(refused.value)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"trainnig": {"total_steps": 5}}, "`trainnig` is no section of the parameters; did you mean `training`?"),
        ({"signals": {"folds": 1}}, "`signals.folds` is no parameter; did you mean `signals.fold`?"),
    ],
)
def test_misspelt_parameters_are_refused_whatever_runs(project, params, text):
    assert refusal(project, "ingestion", **params) == text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            "artifact: data/tiny\nexperiment: tiny\n",
            "`artifact` is no name of `conf/tiny/globals.yml`; did you mean `",
        ),
        (
            "artifacts: null\n",
            "`artifacts` of `conf/tiny/globals.yml` must be a text that is not empty, was None; ",
        ),
    ],
)
def test_wrong_names_of_an_environment_are_refused_before_a_folder_is_made(project, content, text):
    (project.path / GLOBALS).write_text(content)
    assert refusal(project, "ingestion").startswith(text)


def test_a_name_that_a_file_of_the_environment_refers_to_may_be_set(project):
    (project.path / GLOBALS).write_text("artifacts: data/tiny\nexperiment: tiny\nfeed: data/01_raw/bars.parquet\n")
    catalog = project.path / "conf/tiny/catalog.yml"
    catalog.write_text(catalog.read_text().replace("data/01_raw/bars.parquet", "${globals:feed}"))
    project.run("ingestion")
    assert project.artifact("02_intermediate/aligned_bars.parquet").exists()


@pytest.mark.parametrize(
    ("ledger", "pipeline"),
    [
        ("trials", "search"),
        ("trials", "promotion"),
        ("lockbox_openings", "reporting"),
        ("lockbox_openings", "lockbox"),
        ("promotions", "rollback"),
    ],
)
def test_a_ledger_with_another_line_than_a_record_is_refused_before_any_node(project, ledger, pipeline):
    path = project.path / "data" / "registry" / f"{ledger}.jsonl"
    path.parent.mkdir()
    path.write_text('{"a": 1}\n')
    before = snapshot(project.path)
    with pytest.raises(
        DatasetError, match=rf"^Line 1 of `.*{ledger}.jsonl` has another form .* Correct it, or restore"
    ):
        project.run(pipeline)
    assert snapshot(project.path) == before


def test_an_environment_without_a_folder_is_refused(project):
    project.env = "tinny"
    assert refusal(project, "ingestion") == "`tinny` is no environment, a folder of `conf`; did you mean `tiny`?"


def test_a_section_that_a_pipeline_reads_is_known():
    assert {"training", "features", "comparison", "external_test"} <= sections_of_pipelines()


@pytest.mark.parametrize(
    ("pipelines", "params", "text"),
    [
        (("training",), {"training": {"windows": 1_000_000_000}}, "`training.windows` = 1,000,000,000, at most "),
        (("backtest",), {"backtest": {"targets": "none.csv"}}, "`none.csv` is none"),
        (("external_test",), {"external_test": {"agent": "data/none"}}, "`data/none` is not an agent"),
        (("preflight",), {"training": {"total_steps": 10**12}}, "`training.total_steps` = 1,000,000,000,000, at"),
    ],
)
def test_what_cannot_work_is_refused_before_work(project, pipelines, params, text):
    assert text in refusal(project, *pipelines, **params)


def test_bars_are_loaded_once_for_the_hooks_and_once_for_each_node(project, monkeypatch):
    loads, load = [], ParquetDataset.load
    monkeypatch.setattr(ParquetDataset, "load", lambda self: loads.append(self) or load(self))
    project.run("ingestion")
    loads = [dataset for dataset in loads if type(dataset) is ParquetDataset]  # those of our own classes are artifacts
    assert len(loads) == 1 + len(pipelines["ingestion"].nodes)
    saved = json.loads(project.artifact("02_intermediate/ingestion_manifest.json").read_text())
    assert saved["bars_hash"] == bars_hash(load(loads[0]))


def test_a_device_that_is_not_there_is_refused_before_work(project, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    text = "`training.device` is cuda, but torch finds no usable GPU; set it to auto or cpu."
    assert refusal(project, "training", training={"device": "cuda"}) == text


def test_a_node_of_a_pipeline_is_checked_as_the_pipeline(project):
    before = snapshot(project.path)
    with pytest.raises(ValueError, match=r"`training.windows` = 1,000,000,000"):
        project.run("training", node_names=["training.train_agents"], params={"training": {"windows": 1_000_000_000}})
    assert snapshot(project.path) == before


def test_preflight_says_what_a_whole_run_will_do_and_writes_nothing(project, caplog):
    caplog.set_level(logging.INFO, "sentio_kedro")
    before = snapshot(project.path)
    project.run("preflight")
    after = snapshot(project.path)
    assert {name for name in after if after[name] != before.get(name) and not name.startswith(".viz")} == set()
    for text in (
        "A whole run can begin.",
        "bars: 900 of 2 symbols, from 2015-01-01T00:00 to 2017-06-18T00:00 UTC (AAA, BBB)",
        "look-back: a decision reads 94 bars",
        "folds: 2, of train + validation + test rows: ",
        "agents: 4 of 1 networks, 5 updates each, on cpu",
        "memory: about ",
        "disk: about ",
    ):
        assert text in caplog.text
