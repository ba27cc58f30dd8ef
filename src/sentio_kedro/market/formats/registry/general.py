"""The formats, by name. A new vendor is an entry here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sentio_kedro.market.formats.records import BarFormat
from sentio_kedro.market.formats.registry.exchanges import EXCHANGES
from sentio_kedro.market.formats.registry.interfaces import INTERFACES
from sentio_kedro.market.formats.registry.platforms import PLATFORMS

PLAIN = BarFormat(
    name="plain",
    vendor="Any file with a header and the usual names",
    columns={
        **dict.fromkeys(
            (
                *("datetime", "date time", "date/time", "date_time", "dt", "unix", "epoch", "ts"),
                *("open time", "open_time", "opentime", "starttime", "start_time", "begin", "begins_at", "t", "period"),
                *(
                    "trade_date",
                    "tradedate",
                    "trading day",
                    "unix timestamp",
                    "unix_timestamp",
                    "timestamp_utc",
                    "index",
                ),
                *("timestamp (utc)", "time (utc)", "date (utc)", "unnamed: 0", "", "local time", "utc", "bar_time"),
                *(
                    "candle_date_time_utc",
                    "time_period_start",
                    "window_start",
                    "start",
                    "ticks",
                    "key",
                    "minute",
                    "ts_event",
                    "eob",
                    "bob",
                ),
            ),
            "timestamp",
        ),
        **dict.fromkeys(
            ("ticker", "tic", "code", "name", "instrument", "pair", "asset", "ts_code", "secid", "act_symbol", "stock"),
            "symbol",
        ),
        **dict.fromkeys(
            ("o", "open price", "openprice", "open_price", "opening price", "1. open", "px_open", "first"), "open"
        ),
        **dict.fromkeys(("h", "high price", "highprice", "high_price", "max", "px_high", "2. high", "highest"), "high"),
        **dict.fromkeys(("l", "low price", "lowprice", "low_price", "min", "px_low", "3. low", "lowest"), "low"),
        **dict.fromkeys(
            (
                "c",
                "close price",
                "closeprice",
                "close_price",
                "closing price",
                "4. close",
                "close/last",
                "px_last",
                "latest",
            ),
            "close",
        ),
        **dict.fromkeys(
            (
                "v",
                "vol",
                "vol.",
                "qty",
                "quantity",
                "5. volume",
                "px_volume",
                "no.of shares",
                "tick_volume",
                "volume (shares)",
            ),
            "volume",
        ),
    },
    ignored=dict.fromkeys(
        ("adj close", "adj_close", "adjclose", "adjusted close", "adjusted_close", "adj. close", "close_adj"),
        "is not the close that was traded",
    ),
    label=None,
    symbol="column",
    note="Without a column of symbols, a file name such as AAPL.csv or AAPL_1min.csv names it.",
)
HEADERLESS = BarFormat(
    name="headerless",
    vendor="Any file without header: timestamp, open, high, low, close, volume",
    positions=("timestamp", "open", "high", "low", "close", "volume"),
    label=None,
    note="The order of the columns is checked by high and low of each row.",
)
HEADERLESS_TWO = BarFormat(
    name="headerless_date_time",
    vendor="Any file without header: date, time, open, high, low, close, volume",
    positions=("date", "time", "open", "high", "low", "close", "volume"),
    label=None,
    note="Such as Kibot's and PiTrading's; the order of the columns is checked by high and low of each row.",
)
SIDE_BY_SIDE = BarFormat(
    name="side_by_side",
    vendor="Any file with columns such as AAPL_Open, AAPL_High, ...",
    columns=PLAIN.columns,
    label=None,
    symbol="column names",
    ignored=PLAIN.ignored,
)
WIDE = BarFormat(
    name="wide",
    vendor="One column a symbol (closes only)",
    note="Refused: a bar needs open, high, low, close and volume.",
)
DUCKDB = BarFormat(
    name="duckdb",
    vendor="A DuckDB database",
    columns=PLAIN.columns,
    label=None,
    symbol="column",
    note="`table` or `query` names the bars; needs the extra `data`.",
)

FORMATS: Mapping[str, BarFormat] = MappingProxyType(
    {
        one.name: one
        for one in (*PLATFORMS, *EXCHANGES, *INTERFACES, PLAIN, HEADERLESS, HEADERLESS_TWO, SIDE_BY_SIDE, DUCKDB, WIDE)
    }
)
"""All formats by name."""
