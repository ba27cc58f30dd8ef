"""Datasets of ready objects: what is saved comes back, in files that a person can open."""

import inspect
import json

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from sentio_kedro.datasets import (
    AccountStatesDataset,
    AlignedBarsDataset,
    FeaturesDataset,
    FoldsDataset,
    RegimeModelsDataset,
)
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


def test_accounts_come_back_as_plain_data(tmp_path):
    dataset = AccountStatesDataset(filepath=str(tmp_path / "account_states.json"))
    states = {"fold_0": {"cash": 1.5, "time": "2024-01-01T00:00:00Z", "shares": {"AAA": 2.0}}}
    dataset.save(states)
    assert dataset.load() == states


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


ROWS = {"start": 0, "stop": 1, "first": "2024-01-01T00:00:00Z", "last": "2024-01-01T00:00:00Z"}
SAVED = Folds.of([FOLD], Spans(1, 1, 1), TIMES).to_dict()
MODEL = {"means": [0.1], "deviations": [1.0], "transition": [[1.0]], "stationary": [1.0], "memory": 8}


@pytest.mark.parametrize(
    ("dataset", "content", "fault"),
    [
        (FoldsDataset, {}, "`spans`: Field required; `folds`: Field required; `lockbox`: Field required"),
        (FoldsDataset, {**SAVED, "spans": {"input": "1"}}, "`spans.input`: Input should be a valid integer"),
        (FoldsDataset, {**SAVED, "spans": {"input": 1}}, "missing 2 required positional arguments"),
        (FoldsDataset, {**SAVED, "folds": [{"number": 0}]}, "`folds.0.train`: Field required"),
        (FoldsDataset, {**SAVED, "lockbox": {**ROWS, "stop": 2.5}}, "`lockbox.stop`: Input should be a valid integer"),
        (RegimeModelsDataset, {"0": {}}, "lacks 'means'"),
        (RegimeModelsDataset, {"first": MODEL}, "invalid literal for int"),
        (
            RegimeModelsDataset,
            {"0": {**MODEL, "means": [0.1, 0.2]}},
            "`deviations` of a regime model must be",
        ),
        (
            RegimeModelsDataset,
            {"0": {**MODEL, "means": [float("nan")]}},
            "`means` of a regime model must be",
        ),
        (RegimeModelsDataset, {"0": {**MODEL, "memory": None}}, "has another form than is saved here"),
        (AccountStatesDataset, {"fold_0": {"shares": {"BTC": 1.0}}}, "`fold_0.cash`: Field required"),
        (AccountStatesDataset, [1], "`all of it`: Input should be a valid dictionary"),
        (AccountStatesDataset, {"fold_0": 3}, "Input should be a dictionary or an instance of Account"),
        (RegimeModelsDataset, {"0": [1]}, "has another form than is saved here"),
    ],
)
def test_json_of_another_shape_names_the_file_and_what_is_wrong(tmp_path, dataset, content, fault):
    path = tmp_path / "artifact.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError) as damaged:
        dataset(filepath=path.as_posix()).load()
    told = str(damaged.value.__cause__)
    assert told.startswith(f"`{path}` ")
    assert fault in told


@pytest.mark.parametrize(
    ("dataset", "frame", "fault"),
    [
        (FeaturesDataset, pd.DataFrame({"symbol": ["A"]}), "lacks 'timestamp'"),
        (FeaturesDataset, pd.DataFrame({"timestamp": [1], "symbol": ["A"]}), "has another form than is saved here"),
        (AlignedBarsDataset, pd.DataFrame({"symbol": ["A"]}), "Aligned bars lack the columns ['timestamp', 'open'"),
    ],
)
def test_a_table_of_other_columns_names_the_file_and_what_is_wrong(tmp_path, dataset, frame, fault):
    path = tmp_path / "artifact.parquet"
    frame.to_parquet(path)
    with pytest.raises(DatasetError) as damaged:
        dataset(filepath=path.as_posix()).load()
    told = str(damaged.value.__cause__)
    assert told.startswith(f"`{path}` ")
    assert fault in told
