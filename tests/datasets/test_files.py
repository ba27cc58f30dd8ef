import inspect
import json

import pandas as pd
import plotly.graph_objects as go
import pytest
from kedro.io import DatasetError

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
