"""Files of bars as one frame of our long columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.market.formats.cells.numbers import read_numbers
from sentio_kedro.market.formats.cells.stamps import read_stamps
from sentio_kedro.market.formats.detection import Settled, choices, described, refuse_two_symbols, settled
from sentio_kedro.market.formats.files.contents import files_of
from sentio_kedro.market.formats.files.sheets import plain_name
from sentio_kedro.market.formats.matching import ADJUSTED, OF_THE_DAY, OPTIONAL, PRICES, head_stamps
from sentio_kedro.market.formats.records import BarFileError, Detection, Reading
from sentio_kedro.market.ingestion.problems import shown
from sentio_kedro.market.ingestion.timestamps import localize_timestamps

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bars:
    """Bars that were read, and what was found out about their files.

    Attributes:
        frame: Long bars: ``timestamp`` (UTC if the zone is known, else naive), ``symbol``, ``open``, ``high``, ``low``,
            ``close``, ``volume`` and further numbers, sorted by symbol and timestamp.
        detection: What the files are.
        told: What was left out or taken instead, one sentence each.
    """

    frame: pd.DataFrame
    detection: Detection
    told: tuple[str, ...]


def read_bars(paths: str | Path | Sequence[str | Path], reading: Reading | None = None) -> pd.DataFrame:
    """Read files of bars as one frame; see ``read_files``."""
    return read_files(paths, reading or Reading()).frame


def read_files(paths: str | Path | Sequence[str | Path], reading: Reading) -> Bars:
    """Read files of bars.

    Args:
        paths: A file, a folder, a glob, or several of them.
        reading: What the files do not say, or what is to be taken instead.

    Raises:
        BarFileError: If a file cannot be read, or something must be named; with file, line, value and remedy.
    """
    files = files_of(paths)
    tables = settled(files, reading)
    for choice in choices(tables):
        if choice.key != "timezone":  # naive timestamps get their zone from `ingestion.timezone`
            raise BarFileError(files[0], "cannot be read yet", choice.question)
    detection = described(files, tables, reading)
    told: dict[str, None] = dict.fromkeys(detection.told)
    frames = [_Reader(one, reading, told).frame() for one in tables]
    zoned = {
        isinstance(frame["timestamp"].dtype, pd.DatetimeTZDtype): one for frame, one in zip(frames, tables, strict=True)
    }
    if len(zoned) > 1:
        places = " and ".join(f"`{zoned[kind].sheet.source.place}`" for kind in (True, False))
        raise BarFileError(
            files[0], f"and others: {places} differ, the first names a zone, the second does not", "set `timezone`"
        )
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0].reset_index(drop=True)
    return Bars(_sorted(frame, told), detection, tuple(told))


def _sorted(frame: pd.DataFrame, told: dict[str, None]) -> pd.DataFrame:
    symbols = pd.factorize(frame["symbol"], sort=True)[0]
    stamps = frame["timestamp"].to_numpy(dtype="datetime64[ns]").astype(np.int64)
    same = np.diff(symbols) == 0
    back = (np.diff(stamps) < 0) & same
    if (np.diff(symbols) < 0).any() or back.any():
        if back.any():
            told["Rows are sorted by symbol and timestamp; the files have later rows before earlier ones."] = None
        frame = frame.iloc[np.lexsort((stamps, symbols))].reset_index(drop=True)
    return frame


class _Reader:
    """Reading of one table; a class for what each refusal needs."""

    def __init__(self, one: Settled, reading: Reading, told: dict[str, None]) -> None:
        self.one, self.reading, self.told = one, reading, told
        self.sheet, self.match = one.sheet, one.match
        self.header = self.sheet.header or self.match.format.positions
        self.raw = self._rows()

    def frame(self) -> pd.DataFrame:
        """Return the bars of the table."""
        ours, raw = self.match.ours, self.raw
        columns: dict[str, object] = {"timestamp": self._timestamps(), "symbol": self._symbols()}
        prices = {name: self._numbers(ours[name], name) * self.match.format.scale for name in PRICES}
        adjusted = self.reading.prices == "adjusted"
        if adjusted:
            self._adjust(prices)
        columns |= prices
        volume = self._volume()
        columns |= {} if volume is None else {"volume": volume}
        optional = [name for name in OPTIONAL if name in ours and not (adjusted and name in ("dividend", "split"))]
        columns |= {name: self._numbers(ours[name], name) for name in optional}
        for place, name in self.match.extra.items():
            values, wrong = read_numbers(raw[place], self.match.mark)
            if wrong.any():
                cell = shown(raw[place].iloc[int(np.argmax(wrong))])
                self.told[f"Column `{name}` is left out: it is no number, such as {cell}."] = None
            elif name not in columns:
                columns[name] = values
        frame = pd.DataFrame(columns, index=raw.index)
        if "symbol" not in ours:
            refuse_two_symbols(self.sheet, frame)
        return frame

    def fault(self, row: int, text: str, remedy: str) -> BarFileError:
        """Return the refusal of a row of ``raw``."""
        return BarFileError(self.sheet.source.place, text, remedy, self.sheet.line(int(self.raw.index[row])))

    def _rows(self) -> pd.DataFrame:
        raw = self.sheet.load()
        if raw.attrs.get("told"):
            self.told[raw.attrs["told"]] = None
        place = self.match.ours.get("timestamp", self.match.ours.get("date", 0))
        empty = raw[place].isna() | (raw[place].astype("str").str.strip() == "") if len(raw) else pd.Series(dtype=bool)
        if empty.any():
            blank = empty & raw.drop(columns=place).replace("", np.nan).isna().all(axis=1)
            raw = raw[~blank]
        for name, value in self.match.format.keep.items():
            places = [number for number, one in enumerate(self.header) if plain_name(one) == name]
            if places:
                kept = raw[places[0]].str.strip() == value
                if not kept.all():
                    self.told[
                        f"{(~kept).sum()} row(s) whose `{self.header[places[0]]}` is not {value} are left out."
                    ] = None
                raw = raw[kept]
        if raw.empty:
            raise BarFileError(self.sheet.source.place, "has no rows", "download it again")
        return raw

    def _timestamps(self) -> pd.Series:
        if self.match.format.stamps == OF_THE_DAY:
            return self._of_the_day()
        stamps = read_stamps(head_stamps(self.sheet, self.match.ours, self.raw), self.one.order, self.fault)
        if stamps.told:
            self.told[stamps.told] = None
        values = stamps.values.set_axis(self.raw.index)
        if isinstance(values.dtype, pd.DatetimeTZDtype) or self.one.zone is None:
            return values
        return self._localized(values, self.one.zone)

    def _localized(self, values: pd.Series, zone: str) -> pd.Series:
        try:
            zoned = localize_timestamps(values, zone)
        except (KeyError, ValueError) as error:
            raise BarFileError(
                self.sheet.source.place,
                f"cannot be read in the zone {zone!r}, which is unknown",
                "set `timezone` to a name such as America/New_York",
            ) from error
        lost = np.flatnonzero(zoned.isna().to_numpy())
        if lost.size:
            raise self.fault(
                int(lost[0]),
                f"has the timestamp {values.iloc[lost[0]]}, which daylight saving skips or doubles in {zone}",
                "set `timezone` to the zone that the timestamps are of, or export them with a zone",
            )
        return zoned

    def _of_the_day(self) -> pd.Series:
        found = re.fullmatch(self.match.format.file_pattern or "", self.sheet.source.stem)
        if found is None:
            raise BarFileError(
                self.sheet.source.place,
                "has no date in its name, and its times are of a day",
                "keep the vendor's file names",
            )
        times = self._numbers(self.match.ours["timestamp"], "timestamp")
        values = pd.Series(pd.Timestamp(found["date"]) + pd.to_timedelta(times, unit="ms"), index=self.raw.index)
        return self._localized(values.dt.as_unit("ns"), self.one.zone or "UTC")

    def _symbols(self) -> object:
        place = self.match.ours.get("symbol")
        if place is None:
            return pd.Series(self.one.symbol, index=self.raw.index, dtype="str")
        column = self.raw[place]
        if pd.api.types.is_numeric_dtype(column.dtype):
            raise self.fault(
                0,
                f"has the symbol {shown(column.iloc[0])}, a number, which has lost leading zeros",
                "write symbols as texts",
            )
        text = column.astype("str").str.strip()
        empty = np.flatnonzero((column.isna() | (text == "")).to_numpy(dtype=bool))
        if empty.size:
            raise self.fault(int(empty[0]), "has no symbol", "name it, or delete the row")
        return text

    def _numbers(self, place: int, name: str) -> Numbers:
        values, wrong = read_numbers(self.raw[place], self.match.mark)
        rows = np.flatnonzero(wrong)
        if rows.size:
            cell = self.raw[place].iloc[rows[0]]
            raise self.fault(
                int(rows[0]),
                f"has {shown(cell)} for `{name}`, which is no number ({rows.size} such row(s))",
                "correct it",
            )
        return values

    def _volume(self) -> Numbers | None:
        ours, kind = self.match.ours, self.match.format
        volume = self._numbers(ours["volume"], "volume") if "volume" in ours else None
        other = next((name for name in kind.fallback if name in ours), None)
        if other is None or (volume is not None and np.nan_to_num(volume).any()):
            return volume
        self.told[f"Volume is 0 or absent: `{self.header[ours[other]]}` is taken for it."] = None
        return self._numbers(ours[other], other)

    def _adjust(self, prices: dict[str, Numbers]) -> None:
        """Scale prices, in place, by what the vendor's adjusted close says."""
        place = next((number for number, name in enumerate(self.header) if plain_name(name) in ADJUSTED), None)
        if place is None:
            raise BarFileError(
                self.sheet.source.place, "has no adjusted close for `prices: adjusted`", "set `prices: as_traded`"
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = self._numbers(place, str(self.header[place])) / prices["close"]
        for name in PRICES:
            prices[name] = prices[name] * factor
        self.told[
            f"Open, high, low and close are scaled by `{self.header[place]}` / close; dividends and splits are in them."
        ] = None
