"""Datasets of ready objects: what is saved comes back, in files that a person can open."""

import inspect
import json

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.datasets import AlignedBarsDataset, FeaturesDataset, FoldsDataset, RegimeModelsDataset
from sentio_kedro.market.features import Features
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.purged_folds import Fold, Segment, Spans
from sentio_kedro.market.regimes import RegimeModel

TIMES = np.datetime64("2024-01-01", "ns") + np.arange(4) * np.timedelta64(30, "m")
CLOSE = np.array([[1.0, 2.0], [1.5, np.nan], [1.25, 2.5], [1.0, 2.25]])
BARS = AlignedBars(TIMES, ("AAA", "BBB"), *[CLOSE] * 5, funding=np.where(np.isfinite(CLOSE), 0.0, np.nan))
FOLD = Fold(0, (Segment(0, 1),), (Segment(1, 2),), (Segment(2, 3),))


def test_bars_come_back_from_a_file_of_long_bars(tmp_path):
    dataset = AlignedBarsDataset(filepath=str(tmp_path / "bars.parquet"))
    dataset.save(BARS)
    assert pd.read_parquet(tmp_path / "bars.parquet")["symbol"].tolist() == ["AAA", "BBB", "AAA", *["AAA", "BBB"] * 2]
    bars = dataset.load()
    np.testing.assert_array_equal(bars.timestamps, TIMES)
    assert (bars.symbols, set(bars.columns())) == (BARS.symbols, set(BARS.columns()))
    for name, column in BARS.columns().items():
        np.testing.assert_array_equal(getattr(bars, name), column)
    assert dataset.preview(nrows=2)["columns"][:2] == ["timestamp", "symbol"]


def test_features_come_back(tmp_path):
    dataset = FeaturesDataset(filepath=str(tmp_path / "features.parquet"))
    values = np.arange(16.0).reshape(4, 2, 2)
    dataset.save(Features(["a", "b"], TIMES, ("AAA", "BBB"), values))
    np.testing.assert_array_equal(dataset.load().on(BARS), values)
    assert len(dataset.preview(nrows=3)["data"]) == 3


def test_folds_come_back(tmp_path):
    dataset = FoldsDataset(filepath=str(tmp_path / "folds.json"))
    folds = Folds.of([FOLD], Spans(1, 1, 1), TIMES, Segment(3, 4))
    dataset.save(folds)
    assert dataset.load() == folds
    assert json.loads(dataset.preview()) == folds.to_dict() == json.loads((tmp_path / "folds.json").read_text())


def test_regime_models_come_back_by_fold(tmp_path):
    dataset = RegimeModelsDataset(filepath=str(tmp_path / "regimes.json"))
    model = RegimeModel(np.array([0.1]), np.array([1.0]), np.ones((1, 1)), np.ones(1), 8)
    dataset.save({3: model})
    loaded = dataset.load()
    assert {fold: one.to_dict() for fold, one in loaded.items()} == {3: model.to_dict()}
    assert set(json.loads(dataset.preview())) == {"3"}


@pytest.mark.parametrize(
    ("dataset", "preview"),
    [(AlignedBarsDataset, "TablePreview"), (FoldsDataset, "JSONPreview"), (RegimeModelsDataset, "JSONPreview")],
)
def test_kedro_viz_knows_what_a_preview_is(dataset, preview):
    annotation = inspect.signature(dataset.preview, eval_str=True).return_annotation
    assert getattr(annotation, "__name__", str(annotation)) == preview
