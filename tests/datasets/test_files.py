import inspect
import json

import pandas as pd
import plotly.graph_objects as go
import pytest
from kedro.io import DatasetError

from sentio_kedro.damage import DamagedFileError
from sentio_kedro.datasets.files import CSVDataset, JSONDataset, ParquetDataset, PlotlyDataset, TextDataset

FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})


@pytest.mark.parametrize(
    ("dataset", "name", "data"),
    [
        (ParquetDataset, "frame.parquet", FRAME),
        (JSONDataset, "plain.json", {"a": [1, 2.5, None]}),
        (TextDataset, "report.html", "<p>Größe ≥ 1</p>"),
        (PlotlyDataset, "figure.json", go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))),
    ],
)
def test_what_is_saved_comes_back(tmp_path, dataset, name, data):
    kept = dataset(filepath=str(tmp_path / "deep" / name))
    assert not kept.exists()
    kept.save(data)
    assert kept.exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]
    loaded = kept.load()
    assert loaded.equals(data) if isinstance(data, pd.DataFrame) else loaded == data
    kept.remove()
    assert not kept.exists()


@pytest.mark.parametrize(
    ("dataset", "content", "fault"),
    [
        (ParquetDataset, None, "is missing"),
        (ParquetDataset, b"", "cannot be read (Parquet file size is 0 bytes)"),
        (ParquetDataset, b"PAR1, but only the beginning", "cannot be read (Parquet magic bytes not found in footer"),
        (CSVDataset, b"", "cannot be read (No columns to parse from file)"),
        (CSVDataset, b"a\xff,b\n1,2\n", "is not UTF-8 text (byte 1)"),
        (JSONDataset, b'{"a": 1', "is not whole JSON (line 1, column 8: Expecting ',' delimiter)"),
        (PlotlyDataset, b'{"nothing": 1}', "cannot be read ("),
        (TextDataset, b"\xff", "is not UTF-8 text (byte 0)"),
    ],
)
def test_damage_is_told_in_words_with_the_file(tmp_path, dataset, content, fault):
    path = tmp_path / "artifact"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError) as damaged:
        dataset(filepath=path.as_posix()).load()
    assert isinstance(damaged.value.__cause__, DamagedFileError)
    assert str(damaged.value.__cause__).startswith(f"`{path}` {fault}")


def test_csv_comes_back(tmp_path):
    kept = CSVDataset(filepath=str(tmp_path / "frame.csv"), save_args={"index": False})
    kept.save(FRAME)
    pd.testing.assert_frame_equal(kept.load(), FRAME, check_dtype=False)


def test_failed_save_keeps_the_old_artifact(tmp_path):
    kept = JSONDataset(filepath=str(tmp_path / "metrics.json"))
    kept.save({"sharpe": 1.0})
    with pytest.raises(DatasetError):
        kept.save({"sharpe": 2.0, "figure": object()})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"sharpe": 1.0}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("dataset", "preview"),
    [(ParquetDataset, "TablePreview"), (JSONDataset, "JSONPreview"), (PlotlyDataset, "PlotlyPreview")],
)
def test_previews_are_kedros_own(dataset, preview):
    annotation = inspect.signature(dataset.preview).return_annotation
    assert getattr(annotation, "__name__", str(annotation)) == preview


def test_preview_reads_the_saved_file(tmp_path):
    figure = PlotlyDataset(filepath=str(tmp_path / "figure.json"))
    figure.save(go.Figure(go.Scatter(y=[1, 2])))
    assert figure.preview()["data"][0]["type"] == "scatter"
    plain = JSONDataset(filepath=str(tmp_path / "plain.json"))
    plain.save({"a": 1})
    assert json.loads(plain.preview()) == {"a": 1}
