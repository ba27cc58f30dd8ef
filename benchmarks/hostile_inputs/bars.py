"""Bar files with one thing wrong, or only unusual, and the bars that the unusual ones must become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from hostile_inputs.trials import Expected

PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume")

WORDS = ("bars", "symbol", "price", "close", "high", "volume", "split", "funding", "timestamp")

Change = Callable[[pd.DataFrame, int], pd.DataFrame]


@dataclass(frozen=True)
class HostileBars:
    """A change of a bar file.

    Attributes:
        name: The change.
        frame: The bars; None where ``content`` is the file.
        content: Bytes of the file.
        suffix: ``parquet`` or ``csv``.
        expected: What a run must make of it.
    """

    name: str
    frame: pd.DataFrame | None
    content: bytes
    suffix: str
    expected: Expected

    def write(self, folder: Path) -> Path:
        """Write the file and return its path."""
        path = folder / f"hostile.{self.suffix}"
        if self.frame is None:
            path.write_bytes(self.content)
        elif self.suffix == "csv":
            self.frame.to_csv(path, index=False)
        else:
            self.frame.to_parquet(path)
        return path


def at(frame: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    """Return ``frame`` with one value set, of any type."""
    values = frame[column].astype(object) if not isinstance(value, float) else frame[column].copy()
    values.iloc[row % len(frame)] = value
    return frame.assign(**{column: values})


def stamped(frame: pd.DataFrame, row: int, text: str) -> pd.DataFrame:
    """Return ``frame`` with timestamps as texts, one of which is ``text``."""
    texts = frame["timestamp"].map(lambda stamp: stamp.isoformat()).astype(object)
    texts.iloc[row % len(frame)] = text
    return frame.assign(timestamp=texts)


def constant(frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``frame`` with one symbol whose price never changes."""
    rows = frame["symbol"] == frame["symbol"].iloc[0]
    return frame.assign(**{name: frame[name].where(~rows, 50.0) for name in PRICES})


def renamed(frame: pd.DataFrame, symbol: str) -> pd.DataFrame:
    """Return ``frame`` with another name of its first symbol."""
    return frame.assign(symbol=frame["symbol"].astype(object).where(frame["symbol"] != frame["symbol"].iloc[0], symbol))


def copied(frame: pd.DataFrame, symbol: str) -> pd.DataFrame:
    """Return ``frame`` with a copy of its first symbol under another name."""
    extra = frame[frame["symbol"] == frame["symbol"].iloc[0]].assign(symbol=symbol)
    return pd.concat([frame, extra]).sort_values(["timestamp", "symbol"], ignore_index=True)


def in_microseconds(frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``frame`` in microseconds, with two stamps that nanoseconds cannot hold."""
    stamps = frame["timestamp"].dt.as_unit("us")
    return frame.assign(timestamp=(stamps + pd.Timedelta(days=110_000)).where(frame.index >= len(frame) - 2, stamps))


def with_text(frame: pd.DataFrame, row: int, name: str) -> pd.DataFrame:
    """Return ``frame`` with a column of texts, one of which is no number."""
    return frame.assign(**{name: frame[name].astype(str).where(frame.index != row % len(frame), "abc")})


NO_STAMPS = (
    *("9999-12-31T00:00:00+00:00", "1500-01-01T00:00:00+00:00", "2300-01-01T00:00:00+00:00", "0001-01-01T00:00:00Z"),
    *("yesterday", "", "2016-13-01T00:00:00Z", "nan", "2016-02-30T00:00:00Z"),
)
NO_SYMBOLS = ("", " ", "x" * 65, "x" * 100_000, "a\nb", "\x00", "AAA ", "\u200b", "\u202eAAA", "\x1b[31mAAA")

# Each with the texts of which a refusal must hold one.
WRONG: dict[str, tuple[Change, tuple[str, ...]]] = {
    **{
        f"no {name}": (lambda f, r, name=name: f.drop(columns=name), (name,))
        for name in (*NUMBERS, "timestamp", "symbol")
    },
    **{
        f"{name} is {value}": (lambda f, r, name=name, value=value: at(f, r, name, value), (name,))
        for name in NUMBERS
        for value in (np.nan, np.inf, -np.inf, -1.0)
    },
    **{f"{name} is 0": (lambda f, r, name=name: at(f, r, name, 0.0), (name, "price")) for name in PRICES},
    **{f"{name} is a text": (lambda f, r, name=name: with_text(f, r, name), (name,)) for name in NUMBERS},
    **{
        f"a stamp {text!r}": (lambda f, r, text=text: stamped(f, len(f) - 1, text), ("timestamp",))
        for text in NO_STAMPS
    },
    **{f"symbol {name[:12]!r}": (lambda f, r, name=name: renamed(f, name), ("symbol",)) for name in NO_SYMBOLS},
    "high below low": (lambda f, r: f.assign(high=f["low"], low=f["high"]), ("high", "low")),
    "close above high": (lambda f, r: at(f, r, "close", float(f["high"].max() * 2)), ("close",)),
    "an epoch": (lambda f, r: f.assign(timestamp=f["timestamp"].astype("int64")), ("timestamp",)),
    "twice": (lambda f, r: pd.concat([f, f.iloc[[r % len(f)]]], ignore_index=True), ("timestamp",)),
    "backwards": (lambda f, r: f.iloc[::-1].reset_index(drop=True), ("timestamp",)),
    "naive": (lambda f, r: f.assign(timestamp=f["timestamp"].dt.tz_localize(None)), ("timestamp",)),
    "one naive": (lambda f, r: stamped(f, r, "2015-01-05T00:00:00"), ("timestamp",)),
    "stamps of 2300 in microseconds": (lambda f, r: in_microseconds(f), ("timestamp",)),
    "no stamp": (lambda f, r: f.assign(timestamp=f["timestamp"].where(f.index != r % len(f))), ("timestamp",)),
    "no bar": (lambda f, r: f.iloc[:0], ("bars", "0 rows")),
    "one bar": (lambda f, r: f.iloc[:1], ("bar",)),
    "few bars": (lambda f, r: f.iloc[: 2 + r % 40], ("bar",)),
    "constant": (lambda f, r: constant(f), ("price", "symbol")),
    "all constant": (lambda f, r: f.assign(**dict.fromkeys(PRICES, 50.0)), ("price", "symbol")),
    "no symbol": (lambda f, r: at(f, r, "symbol", None), ("symbol",)),
    "symbols aaa and AAA": (lambda f, r: copied(f, "aaa"), ("symbol", "aaa")),
    "symbols 'AAA ' and AAA": (lambda f, r: copied(f, "AAA "), ("symbol", "AAA")),
    "symbols are lists": (lambda f, r: f.assign(symbol=[["AAA"]] * len(f)), ("symbol",)),
    "split of 0": (lambda f, r: at(f.assign(split=1.0), r, "split", 0.0), ("split",)),
    "dividend below 0": (lambda f, r: at(f.assign(dividend=0.0), r, "dividend", -1.0), ("dividend",)),
    "dividend of a text": (lambda f, r: at(f.assign(dividend=""), r, "dividend", "abc"), ("dividend",)),
    "spread of infinity": (lambda f, r: at(f.assign(spread=0.0), r, "spread", np.inf), ("spread",)),
}
"""Changes that no run can be right with."""

EXTREME: dict[str, Change] = {
    "prices of 1e308": lambda f, r: f.assign(**{name: f[name] * 1e306 for name in PRICES}),
    "prices of 1e-310": lambda f, r: f.assign(**{name: f[name] * 1e-312 for name in PRICES}),
    "volume of 1e308": lambda f, r: at(f, r, "volume", 1e308),
    "split of 1e300": lambda f, r: at(f.assign(split=1.0), r, "split", 1e300),
    "funding of 1e300": lambda f, r: at(f.assign(funding=0.0), r, "funding", 1e300),
}
"""Changes that need not be refused, if what comes of them is finite."""

UNUSUAL: dict[str, Change] = {
    "as it is": lambda f, r: f,
    "stacked": lambda f, r: f.sort_values(["symbol", "timestamp"], ignore_index=True),
    "another order of columns": lambda f, r: f[list(f.columns[::-1])],
    "more columns": lambda f, r: f.assign(note="x", vwap=f["close"], **{"": 1.0}),
    "another index": lambda f, r: f.set_index(f.index[::-1]),
    "repeated index": lambda f, r: f.set_index(np.zeros(len(f), dtype=int)),
    "numbers as texts": lambda f, r: f.assign(**{name: f[name].map(repr) for name in NUMBERS}),
    "32 bits": lambda f, r: f.assign(volume=f["volume"].round().astype("int32")),
    "nullable": lambda f, r: f.convert_dtypes(),
    "symbols as categories": lambda f, r: f.assign(symbol=f["symbol"].astype("category")),
    "texts": lambda f, r: stamped(f, 0, f["timestamp"].iloc[0].isoformat()),
    "another zone": lambda f, r: f.assign(timestamp=f["timestamp"].dt.tz_convert("Asia/Tokyo")),
    "seconds": lambda f, r: f.assign(timestamp=f["timestamp"].dt.as_unit("s")),
    "a missing bar": lambda f, r: f.drop(index=(r + 3) % len(f)).reset_index(drop=True),
    "empty dividends": lambda f, r: f.assign(dividend=np.nan),
    "no volume at all": lambda f, r: at(f, r, "volume", 0.0),
    "symbols of 64 letters": lambda f, r: renamed(f, "x" * 64),
    "foreign symbols": lambda f, r: renamed(f, "東証7203"),
    "markup": lambda f, r: renamed(f, "<!--<script>"),
    "a path": lambda f, r: renamed(f, "../../etc"),
}
"""Changes that must not matter, or only to what they change."""


def hostile_bars(frame: pd.DataFrame) -> st.SearchStrategy[HostileBars]:
    """Return changed bar files.

    Args:
        frame: Bars that are accepted, long.
    """
    wrong = st.builds(
        lambda name, row, suffix: _wrong(frame, name, row, suffix),
        st.sampled_from(sorted(WRONG)),
        st.integers(0, len(frame) - 1),
        st.sampled_from(("parquet", "csv")),
    )
    accepted = UNUSUAL | EXTREME
    unusual = st.builds(
        lambda name, row, suffix: HostileBars(
            f"{name} ({suffix})", accepted[name](frame, row), b"", suffix, Expected(name, False, WORDS)
        ),
        st.sampled_from(sorted(accepted)),
        st.integers(0, len(frame) - 1),
        st.sampled_from(("parquet", "csv")),
    )
    broken = st.builds(
        lambda content, suffix: HostileBars(
            f"{len(content)} bytes of {suffix}", None, content, suffix, Expected(f"{content[:20]!r}", True, ("bars",))
        ),
        st.one_of(st.just(b""), st.binary(max_size=40), st.integers(1, 5_000).map(lambda size: _parquet(frame)[:size])),
        st.sampled_from(("parquet", "csv")),
    )
    return st.one_of(wrong, wrong, wrong, unusual, broken)


def _wrong(frame: pd.DataFrame, name: str, row: int, suffix: str) -> HostileBars:
    change, names = WRONG[name]
    if "list" in name or "1e-310" in name:
        suffix = "parquet"
    return HostileBars(f"{name} ({suffix})", change(frame, row), b"", suffix, Expected(name, True, names))


def _parquet(frame: pd.DataFrame) -> bytes:
    content: bytes = frame.to_parquet(None)
    return content


def independent_pivot(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return each value column by timestamp and symbol, with pandas alone."""
    stamps = pd.to_datetime(
        frame["timestamp"], utc=True, format="ISO8601" if frame["timestamp"].dtype == object else None
    )
    plain = frame.assign(timestamp=stamps, symbol=frame["symbol"].astype(str))
    return {
        name: plain.assign(value=pd.to_numeric(plain[name]).astype(float)).pivot(
            index="timestamp", columns="symbol", values="value"
        )
        for name in NUMBERS
    }
