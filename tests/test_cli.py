"""`kedro run` is the project's own, and shows a refusal as one text."""

import logging
import shutil
from collections.abc import Callable

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from kedro.framework.cli.cli import KedroCLI
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import find_run_command
from kedro.framework.hooks.manager import _NullPluginManager
from kedro.framework.project import configure_project
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner
from tests.conftest import ROOT

from sentio_kedro.__main__ import main
from sentio_kedro.cli import Run, run

Typed = Callable[..., Result]


@pytest.fixture
def typed(project, monkeypatch) -> Typed:
    """Types options of `kedro run` in the project's folder."""
    monkeypatch.chdir(project.path)
    configure_project("sentio_kedro")
    return lambda *options: CliRunner().invoke(run, ["--env", "tiny", *options])


def command(error: BaseException) -> click.Command:
    def fail() -> None:
        raise error

    return Run("run", callback=fail)


def test_kedro_and_the_package_find_the_projects_run_with_all_options(project):
    assert find_run_command("sentio_kedro") is run
    shutil.copy(ROOT / "pyproject.toml", project.path)
    (project.path / "src").mkdir()
    assert KedroCLI(project.path).get_command(click.Context(run), "run") is run
    assert run.params == kedro_run.params
    assert run.callback is kedro_run.callback


def test_a_refusal_is_one_text_and_exit_code_1(typed):
    refused = typed("--pipeline", "trainnig")
    assert refused.exit_code == 1
    assert refused.stderr == "Error: There is no pipeline `trainnig`; did you mean `training`?\n"


def test_as_a_function_the_package_raises_what_was_raised(project, monkeypatch):
    monkeypatch.chdir(project.path)
    with pytest.raises(ValueError, match="Failed to find the pipeline named 'trainnig'"):
        main(["--pipeline", "trainnig"], standalone_mode=False)


def test_a_fault_of_the_code_keeps_its_traceback():
    failed = CliRunner().invoke(command(KeyError("row")), [])
    assert isinstance(failed.exception, KeyError)
    assert failed.stderr == ""


def test_an_interrupt_is_one_line():
    stopped = CliRunner().invoke(command(KeyboardInterrupt()), [])
    assert stopped.exit_code == 1
    assert stopped.stderr == ("Error: Interrupted. Nothing that was saved is lost, and the same command continues.\n")


def test_wrong_options_are_shown_by_click(typed):
    assert "Error: No such option '--foo'." in typed("--foo").stderr
    both = typed("--pipeline", "training", "--pipelines", "training").stderr
    assert both == "Error: Options '--pipeline' and '--pipelines' cannot be used together\n"


def test_kedros_advice_to_resume_in_the_middle_of_a_stage_is_left_out(caplog):
    def fail() -> None:
        np.zeros(2).reshape(3)

    def failing() -> None:
        SequentialRunner().run(Pipeline([node(fail, None, "x", name="fail")]), DataCatalog(), _NullPluginManager())

    with caplog.at_level(logging.INFO, logger="kedro"):
        failed = CliRunner().invoke(Run("run", callback=failing), [])
        assert isinstance(failed.exception, ValueError)
        assert "No nodes ran" not in caplog.text
        with pytest.raises(ValueError, match="reshape"):
            failing()
    assert "No nodes ran" in caplog.text
