import pandas as pd
import pytest

from sentio_kedro.locks import held_locks
from sentio_kedro.store import StoredBars


@pytest.fixture
def vendor(project):
    rows = [f"{day:%Y-%m-%d},1,2,0.5,1.5,100" for day in pd.bdate_range("2024-01-01", "2024-01-31")]
    (project.path / "aaa.csv").write_text("\n".join(["Date,Open,High,Low,Close,Volume", *rows]) + "\n")
    with (project.path / "conf" / project.env / "catalog.yml").open("a") as catalog:
        catalog.write(
            "vendor_bars: {type: sentio_kedro.datasets.VendorBars, vendor: stooq, symbols: [aaa], interval: 1d, "
            f"start: 2024-01-01, url: {project.path / 'aaa.csv'}}}\n"
            f"bar_store: {{type: sentio_kedro.datasets.BarStore, filepath: {project.path / 'store'}}}\n"
        )
    return project


def test_a_download_reads_no_bars_opens_no_run_and_goes_on_beside_a_training(vendor):
    (vendor.path / "data" / "01_raw" / "bars.parquet").unlink()
    with held_locks([vendor.artifact("")], "kedro run: training"):
        vendor.run("download", params={"download": {"until": "2024-01-05"}})
        vendor.run("download")
    marks = StoredBars(str(vendor.path / "store")).watermarks()
    assert marks[["source", "symbol", "bars", "revisions"]].to_numpy().tolist() == [["stooq-1d", "aaa", 23, 0]]
    assert not vendor.artifact("").exists()
    assert not list(vendor.path.glob("mlflow.db*"))


def test_a_download_is_a_command_of_its_own(vendor):
    with pytest.raises(ValueError, match="then `kedro run --pipelines ingestion`"):
        vendor.run("download", "ingestion")
