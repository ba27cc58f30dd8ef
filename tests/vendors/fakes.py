"""Local servers that answer as the vendors do, from a market whose truth is known, with faults on command.

What they answer follows the clients' own code and the vendors' documents; no recorded traffic stands behind them.
"""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd

ZONE = "America/New_York"
BREAKING = ("429", "500", "reset", "truncated", "html")
SPOILING = ("overlap", "missing", "unsorted", "duplicate")
DAY = pd.Timedelta(days=1)


def market(ends: pd.DatetimeIndex, seed: int = 0) -> pd.DataFrame:
    """Bars as traded, prices exact in eighths; no events."""
    rng = np.random.default_rng(seed)
    close = 100.0 + np.cumsum(rng.integers(-8, 9, len(ends))) / 8.0
    open_ = np.append(100.0, close[:-1])
    return pd.DataFrame(
        {
            "timestamp": ends,
            "open": open_,
            "high": np.maximum(open_, close) + 0.125,
            "low": np.minimum(open_, close) - 0.125,
            "close": close,
            "volume": 1000.0 * rng.integers(100, 200, len(ends)),
            "dividend": 0.0,
            "split": 1.0,
        }
    )


def exchange_days(first: str, last: str, holidays: tuple[str, ...] = ()) -> pd.DatetimeIndex:
    """Ends of the daily bars of an exchange: the UTC midnight after each date."""
    dates = pd.bdate_range(first, last).difference(pd.DatetimeIndex(holidays))
    return (dates + DAY).tz_localize("UTC").as_unit("ns")


def exchange_hours(first: str, last: str) -> pd.DatetimeIndex:
    """Ends of the hours of New York's sessions; the last one is half over at the close."""
    begins = [day + pd.Timedelta(hours=9.5 + hour) for day in pd.bdate_range(first, last, tz=ZONE) for hour in range(7)]
    return (pd.DatetimeIndex(begins).tz_convert("UTC") + pd.Timedelta(hours=1)).as_unit("ns")


class Fake:
    """A server on a port of its own.

    Attributes:
        length: Length of the bars.
        bars: Truth by symbol; the server sees those that began by ``now``.
        now: The vendor's clock.
        script: Faults of the next answers with data, oldest first.
        asked: Addresses that were asked for, and headers.
    """

    def __init__(self) -> None:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake._serve(self)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(fake.now.timestamp(), usegmt=True)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda request, address: None  # clients are killed
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.reset({}, pd.Timestamp("2024-01-01", tz="UTC"))

    def reset(self, bars: dict[str, pd.DataFrame], now: pd.Timestamp) -> None:
        """Begin anew."""
        self.bars, self.now, self.script, self.asked = bars, now, [], []
        self.hours: dict[str, pd.DataFrame] = {}

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append((handler.path, dict(handler.headers)))
        fault = self.script.pop(0) if self.script and self.has_data(parts.path) else None
        body = self.answer(parts.path, query, fault).encode()
        status, headers = 200, {"Content-Type": "application/json"}
        if fault == "401":
            status, body = 401, b"{}"
        elif fault == "429":
            status, headers, body = 429, {"Retry-After": "7"}, b"{}"
        elif fault == "500":
            status, body = 500, b"{}"
        elif fault == "truncated":
            body = body[: len(body) // 2]
        elif fault == "html":
            headers, body = {"Content-Type": "text/html"}, b"<!DOCTYPE html><html><body>Please log in</body></html>"
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if fault == "reset":
            handler.wfile.write(body[: len(body) // 2])
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
            return
        handler.wfile.write(body)

    def visible(self, symbol: str, length: pd.Timedelta) -> pd.DataFrame:
        """Bars that have begun, the unfinished one included."""
        bars = self.bars[symbol]
        return bars[bars["timestamp"] - length < self.now].reset_index(drop=True)

    @staticmethod
    def spoiled(rows: list[Any], fault: str | None, before: list[Any]) -> list[Any]:
        """Rows of a page with a fault that leaves its form as it should be."""
        if fault == "overlap":
            return [*before[-2:], *rows]
        if fault == "missing":
            return [*rows[: len(rows) // 2], *rows[len(rows) // 2 + 1 :]]
        if fault == "unsorted":
            return rows[::-1]
        if fault == "duplicate":
            return [*rows, *rows[-3:]]
        return rows

    def has_data(self, path: str) -> bool:
        raise NotImplementedError

    def answer(self, path: str, query: dict[str, str], fault: str | None) -> str:
        raise NotImplementedError


class FakeYahoo(Fake):
    """The chart address of Yahoo: prices and dividends over every later split up to now."""

    length = DAY

    def has_data(self, path: str) -> bool:
        return "/v8/finance/chart/" in path

    def answer(self, path: str, query: dict[str, str], fault: str | None) -> str:
        bars, symbol = self.visible(path.rpartition("/")[2], DAY), path.rpartition("/")[2]
        opens = [int((end - DAY).tz_localize(None).tz_localize(ZONE).timestamp() + 34200) for end in bars["timestamp"]]
        periods = [[{"start": at, "end": at + 23400, "timezone": "EST", "gmtoffset": 0}] for at in opens]
        if query["interval"] == "1h":
            bars = self.hours[symbol]
            opens = [int(end.timestamp()) - 3600 for end in bars["timestamp"]]
        later = (bars["split"][::-1].cumprod()[::-1] / bars["split"]).to_numpy()
        first, last = int(query["period1"]), int(query["period2"])
        rows = [
            (
                at,
                *(bars[name][row] / later[row] for name in ("open", "high", "low", "close")),
                bars["volume"][row] * later[row],
            )
            for row, at in enumerate(opens)
        ]
        asked = [row for row in rows if first <= row[0] < last]
        asked = self.spoiled(asked, fault, [row for row in rows if row[0] < first])
        inside = [row for row, at in enumerate(opens) if first <= at < last]
        dividends = {
            str(opens[row]): {"amount": bars["dividend"][row] / later[row], "date": opens[row]}
            for row in inside
            if bars["dividend"][row]
        }
        splits = {
            str(opens[row]): {"date": opens[row], "numerator": bars["split"][row], "denominator": 1.0}
            for row in inside
            if bars["split"][row] != 1.0
        }
        values = list(zip(*(row[1:] for row in asked), strict=True)) or [()] * 5
        columns = dict(zip(("open", "high", "low", "close", "volume"), values, strict=True))
        meta = {
            "currency": "USD",
            "instrumentType": "EQUITY",
            "exchangeTimezoneName": ZONE,
            "validRanges": [],
            "priceHint": 2,
            "tradingPeriods": periods,
        }
        result = {
            "meta": meta,
            "timestamp": [row[0] for row in asked],
            "events": {"dividends": dividends, "splits": splits},
            "indicators": {"quote": [columns], "adjclose": [{"adjclose": columns["close"]}]},
        }
        return json.dumps({"chart": {"result": [result], "error": None}})


class FakeAlpaca(Fake):
    """Stock bars and corporate actions of Alpaca; ``page`` rows an answer."""

    length = DAY
    page = 1000

    def has_data(self, path: str) -> bool:
        return path == "/v2/stocks/bars"

    def answer(self, path: str, query: dict[str, str], fault: str | None) -> str:
        names = query["symbols"].split(",")
        if path == "/v1/corporate-actions":
            return json.dumps({"corporate_actions": self._actions(names, query), "next_page_token": None})
        assert (query["adjustment"], query["feed"]) == ("raw", "iex")
        start, end = pd.Timestamp(query["start"]), pd.Timestamp(query["end"])
        rows = [
            (
                symbol,
                {"t": f"{begin:%Y-%m-%dT%H:%M:%SZ}", **dict(zip("ohlcv", bar, strict=True)), "n": 1, "vw": 1.0},
                begin,
            )
            for symbol in sorted(names)
            if symbol in self.bars
            for begin, bar in self._rows(symbol, query["timeframe"] == "1Hour")
        ]
        asked = [row for row in rows if start <= row[2] <= end]
        offset = int(query.get("page_token") or 0)
        shown = self.spoiled(asked[offset : offset + self.page], fault, [row for row in rows if row[2] < start])
        bars: dict[str, list[Any]] = {}
        for symbol, row, _ in shown:
            bars.setdefault(symbol, []).append(row)
        token = str(offset + self.page) if offset + self.page < len(asked) else None
        return json.dumps({"bars": bars, "next_page_token": token})

    def _rows(self, symbol: str, hours: bool) -> Iterator[tuple[pd.Timestamp, list[float]]]:
        bars = self.hours[symbol] if hours else self.visible(symbol, DAY)
        for end, *values in bars[["timestamp", "open", "high", "low", "close", "volume"]].itertuples(index=False):
            midnight = (end - DAY).tz_localize(None).tz_localize(ZONE).tz_convert("UTC")
            yield end - pd.Timedelta(hours=1) if hours else midnight, values

    def _actions(self, names: list[str], query: dict[str, str]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {"cash_dividends": [], "forward_splits": [], "reverse_splits": []}
        for symbol in names:
            for bar in self.bars.get(symbol, pd.DataFrame()).itertuples():
                date = f"{bar.timestamp - DAY:%Y-%m-%d}"
                if not query["start"] <= date <= query["end"]:
                    continue
                if bar.dividend:
                    found["cash_dividends"].append({"symbol": symbol, "rate": bar.dividend, "ex_date": date})
                if bar.split != 1.0:
                    kind = "forward_splits" if bar.split > 1.0 else "reverse_splits"
                    found[kind].append({"symbol": symbol, "new_rate": bar.split, "old_rate": 1.0, "ex_date": date})
        return {kind: actions for kind, actions in found.items() if actions}


class FakeBinance(Fake):
    """Spot klines of Binance, at most ``page`` an answer."""

    length = pd.Timedelta(hours=1)
    page = 20

    def has_data(self, path: str) -> bool:
        return path == "/api/v3/klines"

    def answer(self, path: str, query: dict[str, str], fault: str | None) -> str:
        if path == "/api/v3/time":
            return json.dumps({"serverTime": int(self.now.timestamp() * 1000)})
        if path == "/api/v3/exchangeInfo":
            return json.dumps({"symbols": [self._market(symbol) for symbol in self.bars]})
        bars = self.visible(next(name for name in self.bars if name.replace("/", "") == query["symbol"]), self.length)
        rows = []
        for end, *values in bars[["timestamp", "open", "high", "low", "close", "volume"]].itertuples(index=False):
            begin = int((end - self.length).timestamp() * 1000)
            rows.append(
                [begin, *(str(value) for value in values), int(end.timestamp() * 1000) - 1, "0", 1, "0", "0", "0"]
            )
        asked = [row for row in rows if row[0] >= int(query["startTime"])][: min(self.page, int(query["limit"]))]
        return json.dumps(self.spoiled(asked, fault, [row for row in rows if row[0] < int(query["startTime"])]))

    @staticmethod
    def _market(symbol: str) -> dict[str, Any]:
        base, quote = symbol.split("/")
        return {
            "symbol": base + quote,
            "status": "TRADING",
            "baseAsset": base,
            "quoteAsset": quote,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "isSpotTradingAllowed": True,
            "permissions": ["SPOT"],
            "filters": [],
        }


class FakeStooq(Fake):
    """Daily rows of Stooq at one address."""

    length = DAY

    def has_data(self, path: str) -> bool:
        return True

    def answer(self, path: str, query: dict[str, str], fault: str | None) -> str:
        bars = self.visible(query["s"], self.length)
        rows = [
            f"{end - DAY:%Y-%m-%d},{o},{h},{lo},{c},{v}"
            for end, o, h, lo, c, v in bars[["timestamp", "open", "high", "low", "close", "volume"]].itertuples(
                index=False
            )
        ]
        return "\n".join(["Date,Open,High,Low,Close,Volume", *self.spoiled(rows, fault, rows)]) + "\n"


@contextmanager
def serving(fake: Fake) -> Iterator[Fake]:
    """Run a fake in a thread."""
    thread = threading.Thread(target=lambda: fake.server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.server.shutdown()
        fake.server.server_close()
        thread.join()
