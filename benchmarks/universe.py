"""Whole runs on a dated universe: do bars of symbols that are no members change any artifact?

    python benchmarks/universe.py

Four shipped stocks, of which one joins late and two leave. The same ``kedro run`` is made of the bars without those
that nobody may see, of all bars with those a hundred times as high, and of both without the table, the trap: then all
must differ but the folds, which the grid alone makes. Bars to leave by are as high only of a stock without an
allocation, which nobody ever holds. Prints JSON: by artifact, whether it is the same in both runs.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).parents[1]
TABLE = "symbol,start,end\nAAPL,2012-09-04,\nBABA,2014-11-20,\nGE,2012-09-04,2015-03-31\nXOM,2012-09-04,2015-01-30\n"
EXIT_BARS = 3
NEVER_HELD = "XOM"
PRICES = ["open", "high", "low", "close"]
STAGES = "ingestion,features,cross_validation,regimes,forecasting,training,backtest"
PARAMETERS: dict[str, dict[str, Any]] = {
    "universe": {"exit_bars": EXIT_BARS},
    "trading": {"allocation": {"AAPL": 0.4, "BABA": 0.3, "GE": 0.3, NEVER_HELD: 0.0}},
    "features": {
        "columns": [{"name": "return_1", "indicator": "log_return"}, {"name": "rank", "indicator": "return_rank"}]
    },
}
ARTIFACTS = (
    *("features.parquet", "folds.json", "regime_models.json", "training_curves.parquet", "weights.safetensors"),
    *("accounts.parquet", "positions.parquet", "trades.parquet", "holdings.parquet", "actions.parquet"),
    *("masks.parquet", "value_at_risk.parquet", "robustness.parquet"),
)


def main() -> None:
    """Run all four and print what is the same."""
    bars = pd.read_parquet(ROOT / "data" / "01_raw" / "us_stocks_daily.parquet")
    table = pd.read_csv(io.StringIO(TABLE)).set_index("symbol")
    bars = bars[bars["symbol"].isin(table.index)].reset_index(drop=True)
    outside, exits = spans(bars, table)
    factor = np.where(outside | (exits & (bars["symbol"] == NEVER_HELD)), 100.0, 1.0)[:, None]
    wild = bars.assign(**dict(zip(PRICES, (bars[PRICES] * factor).to_numpy().T, strict=True)))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, dated in (("with the table", True), ("without it", False)):
            pair = [hashes(Path(folder) / f"{dated}_{k}", x, dated=dated) for k, x in enumerate((bars[~outside], wild))]
            found[name] = {artifact: pair[0][artifact] == pair[1][artifact] for artifact in ARTIFACTS}
    print(json.dumps({"unseen_bars": int(outside.sum()), "same": found}, indent=2))


def spans(bars: pd.DataFrame, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return which bars nobody may see, and which are those to leave by."""
    day = bars["timestamp"].dt.tz_localize(None).dt.normalize()
    start, end = (pd.to_datetime(bars["symbol"].map(table[name])) for name in ("start", "end"))
    after = (day > end).to_numpy()
    place = pd.Series(after).groupby(bars["symbol"]).cumsum().to_numpy()
    exits = after & (place <= EXIT_BARS)
    return (day < start).to_numpy() | (after & ~exits), exits


def hashes(folder: Path, bars: pd.DataFrame, *, dated: bool) -> dict[str, str]:
    """Make the run in a project in ``folder`` and return the hashes of its artifacts, by name."""
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("credentials*"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "src").mkdir()
    raw, conf = folder / "data" / "01_raw", folder / "conf" / "smoke"
    raw.mkdir(parents=True)
    bars.to_parquet(raw / "bars.parquet")
    (raw / "universe.csv").write_text(TABLE)
    catalog = {"bars": {"type": "pandas.ParquetDataset", "filepath": "data/01_raw/bars.parquet"}}
    if dated:
        catalog["universe"] = {"type": "pandas.CSVDataset", "filepath": "data/01_raw/universe.csv"}
    (conf / "catalog.yml").write_text(yaml.safe_dump(catalog))
    own = {**PARAMETERS, "ingestion": {"universe": "dated" if dated else "survivorship_biased"}}
    for section, values in own.items():
        path = conf / ("parameters_training.yml" if section == "trading" else f"parameters_{section}.yml")
        given = yaml.safe_load(path.read_text()) if path.exists() else {}
        path.write_text(yaml.safe_dump({**given, section: {**given.get(section, {}), **values}}))
    command = [sys.executable, "-m", "kedro", "run", "--env=smoke", "--pipelines", STAGES]
    environment = {**os.environ, "DO_NOT_TRACK": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=sys.stderr)  # noqa: S603 - a fixed command
    digests = {}
    for name in ARTIFACTS:
        paths = sorted((folder / "data" / "smoke").rglob(name))
        digests[name] = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
        if not paths:
            raise FileNotFoundError(f"The run left no `{name}`.")
    return digests


if __name__ == "__main__":
    main()
