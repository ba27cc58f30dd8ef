"""Each kind of refusal by its text: name, value or place, and remedy; faults of the code have none."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from kedro.framework.project import configure_project

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.cli import run
from sentio_kedro.market.folds import Folds
from sentio_kedro.refusals import refusal_text

Refused = Callable[..., str]
PARAMETERS = "conf/tiny/parameters_training.yml"


@pytest.fixture
def refused(project, monkeypatch) -> Refused:
    """Types options of `kedro run` in the project's folder; returns what the terminal shows."""
    monkeypatch.chdir(project.path)
    configure_project("sentio_kedro")

    def typed(*options: str, env: str = "tiny") -> str:
        result = CliRunner().invoke(run, ["--env", env, *options])
        assert result.exit_code == 1, result.output
        assert isinstance(result.exception, SystemExit), result.exception
        return result.stderr

    return typed


def caught(fail: Callable[[], object]) -> str | None:
    try:
        fail()
    except BaseException as error:
        return refusal_text(error)
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("training:\n  total_steps: [1\n  seeds: 2\n", ", line 3, column 8: did not find expected ',' or ']'. Correct"),
        ("training:\n  seeds: 2\n  seeds: 3\n", ", line 3, column 3: found duplicate key seeds. Correct the YAML."),
        ("- training\n", " must hold names with values (`name: value`), holds something else; correct it."),
        ("training: \xff\n", " is not UTF-8 text (byte 10); correct the file."),
        ("training: \x00\n", " cannot be read (unacceptable character #x0000"),
        ("training:\n  seeds: ${nowhere.x}\n", ", line 2: the value of `training.seeds` cannot be resolved (Interpol"),
        ("training:\n  seeds: ${globals:nowhere}\n", "(Globals key 'nowhere' not found and no default value provided)"),
        ("training:\n  seeds: ${nowh\n", ", line 2: the value of `training.seeds` cannot be resolved (no viable"),
    ],
)
def test_a_broken_file_of_parameters_is_named_with_line_and_remedy(refused, content, said):
    Path(PARAMETERS).write_text(content, encoding="latin-1")
    text = refused("--pipeline", "ingestion")
    assert text.startswith(f"Error: `{PARAMETERS}`")
    assert said in text
    assert len(text.splitlines()) == 1


def test_a_wrong_table_of_symbols_is_told_by_its_lines(refused, tmp_path):
    Path(PARAMETERS).write_text('trading:\n  symbols: "${symbols_table:symbols.csv}"\n')
    (tmp_path / "symbols.csv").write_text("symbol,lot_size\nAAA,x\n")
    text = refused("--pipeline", "ingestion")
    assert text.startswith("Error: The value of `trading.symbols` cannot be resolved: The table of symbols `")
    assert "symbols.csv` has faults: line 2 (AAA) `lot_size` should be a valid number" in text
    assert text.endswith("was 'x'. Correct these lines.\n")


def test_a_broken_file_of_options_is_named(refused, tmp_path):
    (tmp_path / "options.yml").write_text("run: [\n")
    assert "`options.yml`, line 2, column 1: did not find expected node content" in refused("--config", "options.yml")
    (tmp_path / "options.yml").write_text("ran: 3\n")
    assert "Error: `options.yml` lacks 'run'; correct the file.\n" == refused("--config", "options.yml")


def test_a_missing_environment_names_the_nearest(refused):
    assert refused(env="tinny") == "Error: `tinny` is no environment, a folder of `conf`; did you mean `tiny`?\n"


def test_wrong_parameters_are_listed_with_dotted_names_and_values(refused):
    wrong = "training.total_steps=x,trading.costs.comission_bps=3,network.width=7"
    assert sorted(refused("--pipeline", "training", "--params", wrong).removeprefix("Error: ").splitlines()) == [
        "`network.width` must be a multiple of 2 x `network.heads` = 4, was 7; try 8.",
        "`trading.costs.comission_bps` is no parameter; did you mean `trading.costs.commission_bps`?",
        "`training.total_steps` should be a valid integer, unable to parse string as an integer, was 'x'; change it.",
    ]
    assert refused("--params", "training=3") == (
        "Error: `training` should be a dictionary or an instance of TrainingParameters, was 3; change it.\n"
    )


def test_a_parameter_that_no_node_of_the_pipeline_reads_is_checked_by_its_name_too(refused):
    text = refused("--pipeline", "ingestion", "--params", "backtest.initial_rows=3")
    assert text.startswith("Error: `backtest.initial_rows` is no parameter; did you mean `backtest.")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--pipeline", "zzz"), "There is no pipeline `zzz`; remove it, or take one of __default__, backtest, "),
        (("--nodes", "x"), "Pipeline does not contain nodes named ['x']."),
        (("--tags", "x"), "Pipeline contains no nodes after applying all provided filters."),
        (("--runner", "Foo"), "module 'kedro.runner' has no attribute 'Foo'"),
    ],
)
def test_what_kedro_refuses_is_a_text(refused, options, said):
    assert refused(*options).startswith(f"Error: {said}")


def entry(project_path: Path, kind: str, file: str) -> None:
    catalog = project_path / "conf" / "tiny" / "catalog.yml"
    catalog.write_text(f"bars:\n  type: pandas.{kind}Dataset\n  filepath: {file}\n")


def test_the_users_own_file_is_named_with_its_fault_and_no_pipeline_that_would_make_it(refused, tmp_path):
    entry(tmp_path, "Parquet", "nowhere.parquet")
    assert refused("--pipeline", "ingestion") == (
        "Error: `nowhere.parquet` is missing. Check the file, and the entry `bars` of the catalog.\n"
    )
    (tmp_path / "bars.csv").write_bytes(b"time\xff")
    entry(tmp_path, "CSV", "bars.csv")
    assert "Error: `bars.csv` is not UTF-8 text (byte 4). Check the file" in refused("--pipeline", "ingestion")


def test_a_misspelt_dataset_is_a_text(refused, tmp_path):
    entry(tmp_path, "Parkett", "nowhere.parquet")
    assert "Dataset 'ParkettDataset' not found in 'pandas'" in refused("--pipeline", "ingestion")


def test_wrong_bars_are_told_without_the_frame_around_them(refused, project, bars):
    project.write_bars(bars.assign(close=-1.0))
    text = refused("--pipeline", "ingestion")
    assert text.startswith("Error: ")
    assert "close" in text
    assert "validator" not in text


def test_what_this_package_raises_is_a_refusal_wherever_it_was_called(tmp_path):
    assert "is not an agent: agent.json and weights.safetensors missing" in (
        caught(lambda: AgentBundle.load(tmp_path)) or ""
    )


@pytest.mark.parametrize(
    "fail",
    [
        lambda: np.zeros(2).reshape(3),  # a ValueError of a library
        lambda: Folds([], None, None, {}).locate_lockbox(None).start,  # type: ignore[arg-type, union-attr]
        lambda: Folds.from_dict({}),  # a KeyError within this package
        lambda: [1].index(2),
        lambda: open("nowhere"),
    ],
)
def test_a_fault_of_the_code_is_no_refusal(fail):
    assert caught(fail) is None


def test_a_full_disk_is_one_line_with_path_and_space_even_below_other_errors(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "new" / "metrics.json"))

    def save() -> None:
        try:
            raise full
        except OSError as error:
            raise RuntimeError("could not save") from error

    text = caught(save) or ""
    assert re.fullmatch(
        r"The disk is full: `.*/new/metrics.json` could not be written, [\d,.]+ MiB are free there; free some. "
        "Nothing that was saved is lost, and the same command continues.",
        text,
    )


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 7 TiB"), RuntimeError("CUDA out of memory.")])
def test_too_little_memory_is_a_text_with_what_to_lower(error):
    text = refusal_text(error) or ""
    assert text.startswith(f"Memory ran out ({error}). Nothing that was saved is lost")
    assert "`training.windows`" in text


def test_a_folder_that_may_not_be_written_is_named():
    error = PermissionError(errno.EACCES, "Permission denied", "data/x")
    assert refusal_text(error) == "`data/x` cannot be opened (Permission denied); let your user read and write it."


def test_clicks_own_errors_are_left_to_click():
    assert refusal_text(click.UsageError("no such option")) is None
    assert refusal_text(yaml.YAMLError("of no file")) is None
