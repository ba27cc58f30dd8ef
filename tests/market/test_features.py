import numpy as np
import pytest
from tests.market.ingestion.test_bars import frame_of

from sentio_kedro.config import FeatureColumn, IngestionParameters
from sentio_kedro.market.features import Features
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.ingestion.bars import align_bars

COLUMNS = [FeatureColumn(name="r", indicator="log_return"), FeatureColumn(name="v", indicator="volatility", bars=2)]


@pytest.fixture
def bars():
    return align_bars(frame_of().drop(index=[2]), IngestionParameters())


@pytest.fixture
def features(bars):
    return Features(["r", "v"], bars.timestamps, bars.symbols, compute_features(bars, COLUMNS))


def test_a_frame_has_a_row_per_bar_and_symbol_and_comes_back(features, bars):
    frame = features.to_frame()
    assert list(frame.columns) == ["timestamp", "symbol", "r", "v"]
    assert len(frame) == len(bars.timestamps) * len(bars.symbols)
    again = Features.from_frame(frame)
    assert (again.names, tuple(again.symbols)) == (["r", "v"], bars.symbols)
    np.testing.assert_array_equal(again.on(bars), features.values)


def test_features_of_another_grid_are_refused(features, bars):
    with pytest.raises(ValueError, match=r"must have a row for each of \d+ bars x 2 symbols of `aligned_bars`"):
        features.on(bars.rows(slice(1, None)))
    frame = features.to_frame()
    for wrong in (frame.iloc[:-1], frame.iloc[::-1]):
        with pytest.raises(ValueError, match="must have a row per bar and symbol"):
            Features.from_frame(wrong)
