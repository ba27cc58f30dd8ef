"""Executes the notebooks on a finished run."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
DRAWN = {"anatomy_of_an_agent": 7, "comparing_models": 3, "data_and_regimes": 3, "folds_and_leakage": 3}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_its_folder(path, finished, tmp_path, monkeypatch):
    folder = finished.copy(tmp_path).path / "notebooks"
    folder.mkdir()
    shutil.copy(path, folder)
    monkeypatch.setenv("KEDRO_ENV", finished.env)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    assert "smoke" in notebook.cells[1].outputs[-1]["data"]["text/plain"]
    drawn = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "application/vnd.plotly.v1+json" in output.get("data", {})
    ]
    assert len(drawn) >= DRAWN[path.stem]
    if path.stem == "comparing_models":
        printed = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]
        assert any("1 tested of 1 runs" in text for text in printed)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_defines_nothing_and_is_kept_without_outputs(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.source for cell in cells if cell.outputs or cell.execution_count] == []
    assert [cell.source for cell in cells if "def " in cell.source or "class " in cell.source] == []


def test_every_notebook_is_there_and_known():
    assert [path.stem for path in NOTEBOOKS] == sorted(DRAWN)
