"""Daily bars of Stooq: files, a folder or a zip as stooq.com/db offers them, or its address. No library."""

from __future__ import annotations

import io
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, urljoin, urlsplit

import pandas as pd

from sentio_kedro.vendors.contract import INTERVALS, PRICES, VendorError
from sentio_kedro.vendors.pages import date_ends, inside, page
from sentio_kedro.vendors.transport import TIMEOUT, Transport

URL = "https://stooq.com"
URL_PATH = "/q/d/l/?s={symbol}&i=d"


@dataclass(frozen=True)
class _Reply:
    status_code: int
    headers: dict[str, str]
    text: str


class Stooq:
    """Daily bars of Stooq. Its prices are adjusted already and it tells no events: dividends are 0, splits 1."""

    source = "stooq-1d"
    batch = 1
    always_open = False
    rewrites = True

    def __init__(self, interval: str, transport: Transport, url: str | None = None) -> None:
        """Take a file, a folder, a zip, or an address, with ``{symbol}`` unless it is a host's; null is Stooq's own.

        Raises:
            VendorError: If bars are not daily: Stooq does not say in which zone its others are.
        """
        if interval != "1d":
            raise VendorError(f"`interval` must be 1d for stooq, was {interval!r}; change it or `vendor`.")
        self.length = INTERVALS[interval]
        self._place, self._transport = url or URL, transport
        if urlsplit(self._place).scheme in ("http", "https") and urlsplit(self._place).path in ("", "/"):
            self._place = urljoin(self._place, URL_PATH)

    def fetch(self, symbols: Sequence[str], start: pd.Timestamp, end: pd.Timestamp) -> Iterator[pd.DataFrame]:
        """Yield the one page of a symbol as the contract says."""
        (symbol,) = symbols
        text = self._online(symbol) if self._place.startswith(("http://", "https://")) else self._local(symbol)
        frame = pd.read_csv(io.StringIO(text), skipinitialspace=True, dtype={"<DATE>": str, "Date": str})
        frame.columns = [name.strip("<> ").lower() for name in frame.columns]
        frame = frame.rename(columns={"vol": "volume"})
        if "ticker" in frame.columns:  # one file may hold several
            frame = frame[frame["ticker"].astype(str).str.lower().isin(_names(symbol))]
        if "volume" not in frame.columns:  # of indices and currencies
            frame["volume"] = 0.0
        lacking = [name for name in ("date", *PRICES) if name not in frame.columns]
        dates = pd.to_datetime(pd.Series(dtype=str) if lacking else frame["date"], errors="coerce")
        if lacking or frame.empty or dates.isna().any():
            raise VendorError(
                f"`stooq` must have daily bars of {symbol} with <DATE>, <OPEN>, <HIGH>, <LOW>, <CLOSE>, has "
                f"{len(frame)} rows of {list(frame.columns)[:8]}; check the symbol (Stooq writes aapl.us) and `url`."
            )
        if "per" in frame.columns and (frame["per"].astype(str) != "D").any():
            raise VendorError(f"`stooq` must have daily bars of {symbol} (<PER> D); give the daily files as `url`.")
        now = pd.Timestamp(self._transport.now(), unit="s", tz="UTC")
        bars = page(symbol, date_ends(pd.DatetimeIndex(dates)), frame)
        yield inside(bars, start, min(end, now), self.length)

    def _online(self, symbol: str) -> str:
        address = self._place.replace("{symbol}", quote(symbol.lower()))
        answer: _Reply = self._transport.reply(lambda: _get(address), address, _fault)
        return answer.text

    def _local(self, symbol: str) -> str:
        place = Path(self._place)
        names = {f"{name}{suffix}" for name in _names(symbol) for suffix in (".txt", ".csv")}
        try:
            if zipfile.is_zipfile(place):
                with zipfile.ZipFile(place) as archive:
                    found = [name for name in archive.namelist() if Path(name).name.lower() in names]
                    content = archive.read(found[0]) if found else None
            elif place.is_dir():
                files = [path for path in sorted(place.rglob("*")) if path.name.lower() in names]
                content = files[0].read_bytes() if files else None
            else:
                content = place.read_bytes()
            text = None if content is None else content.decode()
        except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
            raise VendorError(
                f"`url` `{place}` cannot be read ({error}); give the file, folder or zip again."
            ) from None
        wrong = "has no file of it" if text is None else _fault(text)
        if text is None or wrong:
            raise VendorError(
                f"`url` `{place}` must hold bars of {symbol}, but {wrong}; download it again, or correct it."
            )
        return text


def _names(symbol: str) -> tuple[str, str]:
    return symbol.lower(), f"{symbol.lower()}.us"


def _get(address: str) -> _Reply:
    request = urllib.request.Request(address, headers={"User-Agent": "sentio_kedro"})  # noqa: S310 - http or https
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            body = answer.read()
            if len(body) < int(answer.headers.get("Content-Length", 0)):
                raise OSError("the answer ends early")
            return _Reply(answer.status, dict(answer.headers), body.decode("utf-8", "replace"))
    except HTTPError as error:
        return _Reply(error.code, dict(error.headers), error.read().decode("utf-8", "replace"))


def _fault(text: str) -> str | None:
    """Return what is wrong with a text that must be rows of Stooq, or None."""
    head = text.lstrip()[:200].lower()
    if head.startswith(("<!doctype", "<html", "<?xml", "<head")):
        return "is a page, not data"
    if not head or head.startswith(("no data", "exceeded")):
        return f"says {head!r}"
    widths = {line.count(",") for line in text.split("\n") if line.strip()}
    return None if len(widths) == 1 and text.endswith("\n") else "ends in the middle of a row"
