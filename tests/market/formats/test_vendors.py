"""A small file of each vendor is named rightly, and its first and last bars are as written."""

from __future__ import annotations

import gzip
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sentio_kedro.market.formats import FORMATS, Reading, read_files, vendor_table

PLAIN = Reading()


@dataclass(frozen=True)
class Case:
    """A file, what it must be called, and its bars: symbol, stamp, open, high, low, close, volume."""

    format: str
    file: str
    content: Any
    first: str
    last: str
    choices: str = ""
    reading: Reading = PLAIN


def _bar(row: pd.Series) -> str:
    volume = row.get("volume", float("nan"))
    stamp = row["timestamp"].isoformat().replace("+00:00", "Z")
    return f"{row['symbol']} {stamp} {row['open']:g} {row['high']:g} {row['low']:g} {row['close']:g} {volume:g}"


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"


KLINE = "10,12,9,11,{},{},1,7,1,1,0"
CASES = {
    "yfinance, one ticker": Case(
        "yahoo_multi",
        "prices.csv",
        _lines(
            "Price,Close,High,Low,Open,Volume",
            "Ticker,AAPL,AAPL,AAPL,AAPL,AAPL",
            "Date,,,,,",
            "2024-01-02,11,12,9,10,100",
            "2024-01-03,12,13,10,11,200",
        ),
        "AAPL 2024-01-02T00:00:00 10 12 9 11 100",
        "AAPL 2024-01-03T00:00:00 11 13 10 12 200",
        "timezone",
    ),
    "yfinance, grouped by ticker, intraday, a ticker listed later": Case(
        "yahoo_multi",
        "prices.csv",
        _lines(
            "Ticker,AAPL,AAPL,AAPL,AAPL,AAPL,MSFT,MSFT,MSFT,MSFT,MSFT",
            "Price,Open,High,Low,Close,Volume,Open,High,Low,Close,Volume",
            "Datetime,,,,,,,,,,",
            "2024-01-02 14:30:00+00:00,10,12,9,11,100,,,,,",
            "2024-01-02 14:35:00+00:00,11,13,10,12,200,20,22,19,21,300",
        ),
        "AAPL 2024-01-02T14:30:00Z 10 12 9 11 100",
        "MSFT 2024-01-02T14:35:00Z 20 22 19 21 300",
    ),
    "symbol and field in one name": Case(
        "side_by_side",
        "wide.csv",
        _lines(
            "Date,AAPL_Open,AAPL_High,AAPL_Low,AAPL_Close,AAPL_Volume,B_C_Open,B_C_High,B_C_Low,B_C_Close,B_C_Volume",
            "2024-01-02,10,12,9,11,100,20,22,19,21,300",
        ),
        "AAPL 2024-01-02T00:00:00 10 12 9 11 100",
        "B_C 2024-01-02T00:00:00 20 22 19 21 300",
        "timezone",
    ),
    "yfinance, history": Case(
        "yahoo_history",
        "AAPL.csv",
        _lines(
            "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits",
            "2024-07-02 00:00:00-04:00,10,12,9,11,100,0.0,0.0",
            "2024-01-03 00:00:00-05:00,11,13,10,12,200,0.24,0.0",
        ),
        "AAPL 2024-01-03T05:00:00Z 11 13 10 12 200",
        "AAPL 2024-07-02T04:00:00Z 10 12 9 11 100",
    ),
    "Yahoo, a row of null": Case(
        "yahoo",
        "BRK-B.csv",
        _lines(
            "Date,Open,High,Low,Close,Adj Close,Volume",
            "2024-01-02,10,12,9,11,5.5,100",
            "2024-01-03,null,null,null,null,null,null",
        ),
        "BRK-B 2024-01-02T00:00:00 10 12 9 11 100",
        "BRK-B 2024-01-03T00:00:00 nan nan nan nan nan",
        "timezone",
    ),
    "Yahoo, adjusted on demand": Case(
        "yahoo",
        "AAPL.csv",
        _lines("Date,Open,High,Low,Close,Adj Close,Volume", "2024-01-02,10,12,9,11,5.5,100"),
        "AAPL 2024-01-02T00:00:00 5 6 4.5 5.5 100",
        "AAPL 2024-01-02T00:00:00 5 6 4.5 5.5 100",
        "timezone",
        Reading(prices="adjusted"),
    ),
    "Yahoo, chart answer": Case(
        "yahoo_chart",
        "answer.json",
        {
            "chart": {
                "result": [
                    {
                        "meta": {"symbol": "AAPL", "exchangeTimezoneName": "America/New_York"},
                        "timestamp": [1704205800, 1704292200],
                        "indicators": {
                            "quote": [
                                {
                                    "open": [10, 11],
                                    "high": [12, 13],
                                    "low": [9, 10],
                                    "close": [11, 12],
                                    "volume": [1, 2],
                                }
                            ],
                            "adjclose": [{"adjclose": [5.5, 6]}],
                        },
                    }
                ],
                "error": None,
            }
        },
        "AAPL 2024-01-02T14:30:00Z 10 12 9 11 1",
        "AAPL 2024-01-03T14:30:00Z 11 13 10 12 2",
    ),
    "pandas index without a name": Case(
        "nameless_index",
        "aapl prices.csv",
        _lines(",Open,High,Low,Close,Volume", "2024-01-02,10,12,9,11,100", "2024-01-03,11,13,10,12,200"),
        "X 2024-01-02T00:00:00 10 12 9 11 100",
        "X 2024-01-03T00:00:00 11 13 10 12 200",
        "timezone",
        Reading(symbol="X"),
    ),
    "alpaca-py frame": Case(
        "alpaca_csv",
        "bars.csv",
        _lines(
            "symbol,timestamp,open,high,low,close,volume,trade_count,vwap",
            "AAPL,2024-01-03 14:30:00+00:00,10,12,9,11,100,5,10.5",
            "MSFT,2024-01-03 14:30:00+00:00,20,22,19,21,300,5,20.5",
        ),
        "AAPL 2024-01-03T14:30:00Z 10 12 9 11 100",
        "MSFT 2024-01-03T14:30:00Z 20 22 19 21 300",
    ),
    "Alpaca REST": Case(
        "alpaca_json",
        "bars.json",
        {
            "bars": {
                name: [{"t": "2024-01-03T14:30:00Z", "o": 10, "h": 12, "l": 9, "c": 11, "v": 100, "n": 5, "vw": 10.5}]
                for name in ("AAPL", "MSFT")
            },
            "next_page_token": None,
        },
        "AAPL 2024-01-03T14:30:00Z 10 12 9 11 100",
        "MSFT 2024-01-03T14:30:00Z 10 12 9 11 100",
    ),
    "Alpaca REST, one symbol": Case(
        "alpaca_json",
        "bars.json",
        {
            "bars": [{"t": "2024-01-03T14:30:00Z", "o": 10, "h": 12, "l": 9, "c": 11, "v": 100, "n": 5, "vw": 10.5}],
            "symbol": "AAPL",
        },
        "AAPL 2024-01-03T14:30:00Z 10 12 9 11 100",
        "AAPL 2024-01-03T14:30:00Z 10 12 9 11 100",
    ),
    "Binance, milliseconds that become microseconds": Case(
        "binance_klines",
        "BTCUSDT-1d-2025-01.csv",
        _lines(
            "1735603200000," + KLINE.format(5, 1735689599999),
            "1735689600000000," + KLINE.format(6, 1735775999999999),
        ),
        "BTCUSDT 2024-12-31T00:00:00Z 10 12 9 11 5",
        "BTCUSDT 2025-01-01T00:00:00Z 10 12 9 11 6",
    ),
    "Binance futures, with a header": Case(
        "binance_klines",
        "ETHUSDT-1h-2024-01.csv",
        _lines(
            "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore",
            "1704067200000," + KLINE.format(5, 1704070799999),
        ),
        "ETHUSDT 2024-01-01T00:00:00Z 10 12 9 11 5",
        "ETHUSDT 2024-01-01T00:00:00Z 10 12 9 11 5",
    ),
    "Kraken OHLCVT": Case(
        "kraken_ohlcvt",
        "XBTUSD_60.csv",
        _lines("1735603200,10,12,9,11,1.5,306", "1735606800,11,13,10,12,2.5,118"),
        "XBTUSD 2024-12-31T00:00:00Z 10 12 9 11 1.5",
        "XBTUSD 2024-12-31T01:00:00Z 11 13 10 12 2.5",
    ),
    "Kraken API": Case(
        "kraken_api",
        "ohlc.json",
        {
            "error": [],
            "result": {"XXBTZUSD": [[1735603200, "10", "12", "9", "11", "10.5", "1.5", 306]], "last": 1735599600},
        },
        "XXBTZUSD 2024-12-31T00:00:00Z 10 12 9 11 1.5",
        "XXBTZUSD 2024-12-31T00:00:00Z 10 12 9 11 1.5",
    ),
    "CryptoDataDownload": Case(
        "cryptodatadownload",
        "Bitstamp_BTCUSD_1h.csv",
        _lines(
            "https://www.CryptoDataDownload.com",
            "unix,date,symbol,open,high,low,close,Volume BTC,Volume USD",
            "1735707600,2025-01-01 05:00:00,BTC/USD,11,13,10,12,2.5,30",
            "1735704000,2025-01-01 04:00:00,BTC/USD,10,12,9,11,1.5,16",
        ),
        "BTC/USD 2025-01-01T04:00:00Z 10 12 9 11 1.5",
        "BTC/USD 2025-01-01T05:00:00Z 11 13 10 12 2.5",
    ),
    "CryptoDataDownload, AM and PM": Case(
        "cryptodatadownload",
        "cdd.csv",
        _lines(
            "Timestamps are UTC timezone,https://www.CryptoDataDownload.com",
            "Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USD",
            "2025-01-01 01-PM,BTCUSD,11,13,10,12,2.5,30",
            "2025-01-01 12-AM,BTCUSD,10,12,9,11,1.5,16",
        ),
        "BTCUSD 2025-01-01T00:00:00Z 10 12 9 11 1.5",
        "BTCUSD 2025-01-01T13:00:00Z 11 13 10 12 2.5",
    ),
    "Stooq": Case(
        "stooq",
        "aapl.us.txt",
        _lines(
            "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>",
            "AAPL.US,5,20240103,080000,10,12,9,11,100,0",
            "AAPL.US,5,20240103,160500,11,13,10,12,200,0",
        ),
        "AAPL.US 2024-01-03T08:00:00 10 12 9 11 100",
        "AAPL.US 2024-01-03T16:05:00 11 13 10 12 200",
        "timezone",
    ),
    "Finam": Case(
        "metastock",
        "sber.txt",
        _lines(
            "<TICKER>;<PER>;<DATE>;<TIME>;<OPEN>;<HIGH>;<LOW>;<CLOSE>;<VOL>",
            "SBER;60;20240103;100000;10.5;12;9;11;100",
        ),
        "SBER 2024-01-03T10:00:00 10.5 12 9 11 100",
        "SBER 2024-01-03T10:00:00 10.5 12 9 11 100",
        "timezone",
    ),
    "MetaTrader 4": Case(
        "metatrader4",
        "EURUSD60.csv",
        _lines("2024.01.02,00:00,1.1,1.3,1.0,1.2,3109", "2024.01.02,01:00,1.2,1.4,1.1,1.3,2368"),
        "EURUSD 2024-01-02T00:00:00 1.1 1.3 1 1.2 3109",
        "EURUSD 2024-01-02T01:00:00 1.2 1.4 1.1 1.3 2368",
        "timezone",
    ),
    "MetaTrader 5": Case(
        "metatrader5",
        "EURUSD_H1_202401020000_202401020100.csv",
        _lines(
            "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>",
            "2024.01.02\t00:00:00\t1.1\t1.3\t1.0\t1.2\t3109\t0\t12",
        ),
        "EURUSD 2024-01-02T00:00:00 1.1 1.3 1 1.2 3109",
        "EURUSD 2024-01-02T00:00:00 1.1 1.3 1 1.2 3109",
        "timezone",
    ),
    "MetaTrader 5, daily shares": Case(
        "metatrader5",
        "SAP_D1.csv",
        _lines(
            "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>",
            "2024.01.02\t1.1\t1.3\t1.0\t1.2\t3109\t77\t12",
        ),
        "SAP 2024-01-02T00:00:00 1.1 1.3 1 1.2 77",
        "SAP 2024-01-02T00:00:00 1.1 1.3 1 1.2 77",
        "timezone",
    ),
    "MetaTrader 5, Python": Case(
        "metatrader5_python",
        "EURUSD.csv",
        _lines(
            ",time,open,high,low,close,tick_volume,spread,real_volume",
            "0,2024-01-02 00:00:00,1.1,1.3,1.0,1.2,3109,1,0",
            "1,2024-01-02 01:00:00,1.2,1.4,1.1,1.3,2368,1,0",
        ),
        "EURUSD 2024-01-02T00:00:00 1.1 1.3 1 1.2 3109",
        "EURUSD 2024-01-02T01:00:00 1.2 1.4 1.1 1.3 2368",
        "timezone",
    ),
    "TradingView": Case(
        "tradingview",
        "BATS_AAPL, 30.csv",
        _lines(
            "time,open,high,low,close,Volume,MA",
            "2024-03-08T09:30:00-05:00,10,12,9,11,100,NaN",
            "2024-03-11T09:30:00-04:00,11,13,10,12,200,11.5",
        ),
        "AAPL 2024-03-08T14:30:00Z 10 12 9 11 100",
        "AAPL 2024-03-11T13:30:00Z 11 13 10 12 200",
    ),
    "TradingView, seconds": Case(
        "tradingview",
        "BINANCE_BTCUSDT, 60.csv",
        _lines("time,open,high,low,close,Volume", "1709908200,10,12,9,11,100"),
        "BTCUSDT 2024-03-08T14:30:00Z 10 12 9 11 100",
        "BTCUSDT 2024-03-08T14:30:00Z 10 12 9 11 100",
    ),
    "investing.com": Case(
        "investing",
        "Gold Futures Historical Data.csv",
        "\ufeff"
        + _lines(
            '"Date","Price","Open","High","Low","Vol.","Change %"',
            '"01/13/2024","3,012.74","3,000.74","3,084.97","2,902.61","1.30M","0.37%"',
            '"01/12/2024","2,522.74","2,568.23","2,584.97","2,502.61","934.38K","-1.5%"',
            '"01/11/2024","2,522.74","2,568.23","2,584.97","2,502.61","-","0.00%"',
        ),
        "GC 2024-01-11T00:00:00 2568.23 2584.97 2502.61 2522.74 nan",
        "GC 2024-01-13T00:00:00 3000.74 3084.97 2902.61 3012.74 1.3e+06",
        "timezone",
        Reading(symbol="GC"),
    ),
    "investing.com, German": Case(
        "investing_german",
        "DAX.csv",
        _lines(
            '"Datum","Zuletzt","Eröffn.","Hoch","Tief","Vol.","+/- %"',
            '"02.01.2024","16.769,36","16.828,27","16.963,47","16.666,83","57,57M","0,11%"',
        ),
        "DAX 2024-01-02T00:00:00 16828.3 16963.5 16666.8 16769.4 5.757e+07",
        "DAX 2024-01-02T00:00:00 16828.3 16963.5 16666.8 16769.4 5.757e+07",
        "timezone",
    ),
    "German, semicolons": Case(
        "german",
        "BASF.csv",
        _lines("Datum;Erster;Hoch;Tief;Schlusskurs;Stuecke;Volumen", "02.01.2024;10,5;12;9;11,25;1.000;11.250").encode(
            "cp1252"
        ),
        "BASF 2024-01-02T00:00:00 10.5 12 9 11.25 1000",
        "BASF 2024-01-02T00:00:00 10.5 12 9 11.25 1000",
        "timezone",
    ),
    "NinjaTrader": Case(
        "ninjatrader",
        "ES 03-24.Last.txt",
        _lines("20240308 143100;10;12;9;11;100", "20240308 143200;11;13;10;12;200"),
        "ES 2024-03-08T14:31:00Z 10 12 9 11 100",
        "ES 2024-03-08T14:32:00Z 11 13 10 12 200",
    ),
    "HistData": Case(
        "histdata",
        "DAT_ASCII_EURUSD_M1_2024.csv",
        _lines("20240708 120000;1.1;1.3;1.0;1.2;0", "20240708 120100;1.2;1.4;1.1;1.3;0"),
        "EURUSD 2024-07-08T17:00:00Z 1.1 1.3 1 1.2 0",
        "EURUSD 2024-07-08T17:01:00Z 1.2 1.4 1.1 1.3 0",
    ),
    "FirstRate": Case(
        "firstrate",
        "AAPL_1min.txt",
        _lines("2024-07-08 09:30:00,10,12,9,11,100", "2024-07-08 09:31:00,11,13,10,12,200"),
        "AAPL 2024-07-08T13:30:00Z 10 12 9 11 100",
        "AAPL 2024-07-08T13:31:00Z 11 13 10 12 200",
    ),
    "Kibot": Case(
        "headerless_date_time",
        "IBM.txt",
        _lines("01/31/2024,09:30,10,12,9,11,100", "02/01/2024,09:31,11,13,10,12,200"),
        "IBM 2024-01-31T09:30:00 10 12 9 11 100",
        "IBM 2024-02-01T09:31:00 11 13 10 12 200",
        "timezone",
    ),
    "Dukascopy": Case(
        "dukascopy",
        "EURUSD_Candlestick_1_M_BID_01.02.2024-02.02.2024.csv",
        _lines("Gmt time,Open,High,Low,Close,Volume", "01.02.2024 00:01:00.000,1.1,1.3,1.0,1.2,30.5"),
        "EURUSD 2024-02-01T00:01:00Z 1.1 1.3 1 1.2 30.5",
        "EURUSD 2024-02-01T00:01:00Z 1.1 1.3 1 1.2 30.5",
    ),
    "Dukascopy, local time": Case(
        "plain",
        "EURUSD_1h.csv",
        _lines("Local time,Open,High,Low,Close,Volume", "01.02.2024 01:01:00.000 GMT+0100,1.1,1.3,1.0,1.2,30.5"),
        "EURUSD 2024-02-01T00:01:00Z 1.1 1.3 1 1.2 30.5",
        "EURUSD 2024-02-01T00:01:00Z 1.1 1.3 1 1.2 30.5",
    ),
    "Alpha Vantage CSV": Case(
        "alpha_vantage",
        "IBM.csv",
        _lines(
            "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient",
            "2024-01-03,11,13,10,12,12,200,0.0000,1.0",
            "2024-01-02,10,12,9,11,11,100,0.0000,1.0",
        ),
        "IBM 2024-01-02T05:00:00Z 10 12 9 11 100",
        "IBM 2024-01-03T05:00:00Z 11 13 10 12 200",
    ),
    "Alpha Vantage JSON": Case(
        "alpha_vantage_json",
        "query.json",
        {
            "Meta Data": {"1. Information": "Intraday", "2. Symbol": "IBM", "6. Time Zone": "US/Eastern"},
            "Time Series (5min)": {
                "2024-07-02 19:55:00": {
                    "1. open": "11",
                    "2. high": "13",
                    "3. low": "10",
                    "4. close": "12",
                    "5. volume": "2",
                },
                "2024-07-02 19:50:00": {
                    "1. open": "10",
                    "2. high": "12",
                    "3. low": "9",
                    "4. close": "11",
                    "5. volume": "1",
                },
            },
        },
        "IBM 2024-07-02T23:50:00Z 10 12 9 11 1",
        "IBM 2024-07-02T23:55:00Z 11 13 10 12 2",
    ),
    "Polygon": Case(
        "polygon",
        "aggs.json",
        {
            "ticker": "AAPL",
            "adjusted": True,
            "results": [{"v": 100, "vw": 10.5, "o": 10, "c": 11, "h": 12, "l": 9, "t": 1704205800000, "n": 5}],
            "status": "OK",
        },
        "AAPL 2024-01-02T14:30:00Z 10 12 9 11 100",
        "AAPL 2024-01-02T14:30:00Z 10 12 9 11 100",
    ),
    "Polygon flat file": Case(
        "polygon_flat",
        "2024-01-02.csv.gz",
        gzip.compress(
            b"ticker,volume,open,close,high,low,window_start,transactions\nAAPL,100,10,11,12,9,1704205800000000000,5\n"
        ),
        "AAPL 2024-01-02T14:30:00Z 10 12 9 11 100",
        "AAPL 2024-01-02T14:30:00Z 10 12 9 11 100",
    ),
    "Tiingo": Case(
        "tiingo",
        "AAPL.csv",
        _lines(
            "date,close,high,low,open,volume,adjClose,adjHigh,adjLow,adjOpen,adjVolume,divCash,splitFactor",
            "2024-01-02,11,12,9,10,100,5.5,6,4.5,5,200,0.24,1.0",
        ),
        "AAPL 2024-01-02T00:00:00 10 12 9 11 100",
        "AAPL 2024-01-02T00:00:00 10 12 9 11 100",
        "timezone",
    ),
    "Quandl": Case(
        "quandl",
        "WIKI-AAPL.csv",
        _lines(
            "Date,Open,High,Low,Close,Volume,Ex-Dividend,Split Ratio,"
            "Adj. Open,Adj. High,Adj. Low,Adj. Close,Adj. Volume",
            "2018-01-03,11,13,10,12,200,0.0,1.0,1,1,1,1,1",
            "2018-01-02,10,12,9,11,100,0.0,1.0,1,1,1,1,1",
        ),
        "WIKI-AAPL 2018-01-02T05:00:00Z 10 12 9 11 100",
        "WIKI-AAPL 2018-01-03T05:00:00Z 11 13 10 12 200",
    ),
    "nasdaq.com": Case(
        "nasdaq",
        "HistoricalData.csv",
        _lines(
            "Date,Close/Last,Volume,Open,High,Low",
            "01/03/2024,$12.00,200,$11.00,$13.00,$10.00",
            "01/02/2024,$11.00,100,$10.00,$12.00,$9.00",
        ),
        "AAPL 2024-01-02T05:00:00Z 10 12 9 11 100",
        "AAPL 2024-01-03T05:00:00Z 11 13 10 12 200",
        "",
        Reading(symbol="AAPL"),
    ),
    "Barchart, a line at the end": Case(
        "barchart",
        "aapl_intraday.csv",
        _lines(
            "Time,Open,High,Low,Latest,Change,%Change,Volume",
            "2024-01-02 09:35,11,13,10,12,1,9.09%,200",
            "2024-01-02 09:30,10,12,9,11,0.5,4.8%,100",
            '"Downloaded from Barchart.com as of 01-03-2024 05:00am CST"',
        ),
        "AAPL 2024-01-02T09:30:00 10 12 9 11 100",
        "AAPL 2024-01-02T09:35:00 11 13 10 12 200",
        "timezone",
        Reading(symbol="AAPL"),
    ),
    "Interactive Brokers": Case(
        "interactive_brokers",
        "SPY.csv",
        _lines(
            ",date,open,high,low,close,volume,average,barCount",
            "0,2024-07-02 09:30:00-04:00,10,12,9,11,100.0,10.5,5",
            "1,2024-07-02 09:31:00-04:00,11,13,10,12,200.0,11.5,6",
        ),
        "SPY 2024-07-02T13:30:00Z 10 12 9 11 100",
        "SPY 2024-07-02T13:31:00Z 11 13 10 12 200",
    ),
    "Interactive Brokers, times with the name of a zone": Case(
        "interactive_brokers",
        "SPY.csv",
        _lines(
            "date,open,high,low,close,volume,average,barCount",
            "20240702 09:30:00 US/Eastern,10,12,9,11,100,10.5,5",
            "20241202  09:31:00 US/Eastern,11,13,10,12,200,11.5,6",
        ),
        "SPY 2024-07-02T13:30:00Z 10 12 9 11 100",
        "SPY 2024-12-02T14:31:00Z 11 13 10 12 200",
    ),
    "Sierra Chart": Case(
        "sierra_chart",
        "ESH24.scid_BarData.txt",
        _lines(
            "Date, Time, Open, High, Low, Last, Volume, NumberOfTrades, BidVolume, AskVolume",
            "2024/1/2, 09:30:00, 10, 12, 9, 11, 100, 5, 40, 60",
            "2024/1/12, 09:31:00.0, 11, 13, 10, 12, 200, 5, 90, 110",
        ),
        "ES 2024-01-02T09:30:00 10 12 9 11 100",
        "ES 2024-01-12T09:31:00 11 13 10 12 200",
        "timezone",
        Reading(symbol="ES"),
    ),
    "Databento": Case(
        "databento",
        "ohlcv.csv",
        _lines(
            "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol",
            "2024-01-02T14:30:00.000000000Z,33,1,15,10,12,9,11,100,ESH4",
        ),
        "ESH4 2024-01-02T14:30:00Z 10 12 9 11 100",
        "ESH4 2024-01-02T14:30:00Z 10 12 9 11 100",
    ),
    "Lean, minutes": Case(
        "lean",
        "20200102_trade.zip",
        {
            "20200102_spy_minute_trade.csv": _lines(
                "34200000,100000,120000,90000,110000,100", "34260000,110000,130000,100000,120000,200"
            )
        },
        "SPY 2020-01-02T14:30:00Z 10 12 9 11 100",
        "SPY 2020-01-02T14:31:00Z 11 13 10 12 200",
    ),
    "Lean, days": Case(
        "lean_daily",
        "spy.zip",
        {"spy.csv": "20200102 00:00,100000,120000,90000,110000,100\n20200103 00:00,110000,130000,100000,120000,200\n"},
        "SPY 2020-01-02T05:00:00Z 10 12 9 11 100",
        "SPY 2020-01-03T05:00:00Z 11 13 10 12 200",
    ),
    "FinRL": Case(
        "finrl",
        "train.csv",
        _lines(
            ",date,tic,close,high,low,open,volume,day",
            "0,2024-01-02,AAPL,11,12,9,10,100,1",
            "1,2024-01-02,NA,21,22,19,20,1,1",
        ),
        "AAPL 2024-01-02T00:00:00 10 12 9 11 100",
        "NA 2024-01-02T00:00:00 20 22 19 21 1",
        "timezone",
    ),
    "Kaggle S&P 500": Case(
        "kaggle_sp500",
        "all_stocks_5yr.csv",
        _lines(
            "date,open,high,low,close,volume,Name", "2013-02-08,10,12,9,11,100,AAL", "2013-02-08,20,22,19,21,300,ZTS"
        ),
        "AAL 2013-02-08T05:00:00Z 10 12 9 11 100",
        "ZTS 2013-02-08T05:00:00Z 20 22 19 21 300",
    ),
    "Kaggle Bitstamp": Case(
        "kaggle_bitstamp",
        "bitstampUSD_1-min_data.csv",
        _lines(
            "Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency),Weighted_Price",
            "1325317920,4.39,4.39,4.39,4.39,0.45,2.0,4.39",
            "1325317980,NaN,NaN,NaN,NaN,NaN,NaN,NaN",
        ),
        "BTC 2011-12-31T07:52:00Z 4.39 4.39 4.39 4.39 0.45",
        "BTC 2011-12-31T07:53:00Z nan nan nan nan nan",
        "",
        Reading(symbol="BTC"),
    ),
    "NSE bhavcopy, two series": Case(
        "nse_bhavcopy",
        "cm02JAN2024bhav.csv",
        _lines(
            "SYMBOL,SERIES,OPEN,HIGH,LOW,CLOSE,LAST,PREVCLOSE,TOTTRDQTY,TOTTRDVAL,TIMESTAMP,TOTALTRADES,ISIN,",
            "M&M,EQ,10,12,9,11,11,10,100,1100,02-JAN-2024,999,INE101A01026,",
            "M&M,N2,100,120,90,110,110,100,1,110,02-JAN-2024,9,INE101A07000,",
        ),
        "M&M 2024-01-01T18:30:00Z 10 12 9 11 100",
        "M&M 2024-01-01T18:30:00Z 10 12 9 11 100",
    ),
    "NSE UDiFF": Case(
        "nse_udiff",
        "BhavCopy_NSE_CM_0_0_0_20240708_F_0000.csv",
        _lines(
            "TradDt,BizDt,Sgmt,ISIN,TckrSymb,SctySrs,OpnPric,HghPric,LwPric,ClsPric,TtlTradgVol",
            "2024-07-08,2024-07-08,CM,INE002A01018,RELIANCE,EQ,10,12,9,11,100",
        ),
        "RELIANCE 2024-07-07T18:30:00Z 10 12 9 11 100",
        "RELIANCE 2024-07-07T18:30:00Z 10 12 9 11 100",
    ),
    "Japan, Shift JIS": Case(
        "japan_kdb",
        "stocks_7203-T.csv",
        _lines(
            "7203-T,東証プライム,自動車,日足",
            "日付,始値,高値,安値,終値,出来高,売買代金",
            '2024/02/12,"2,367","2,373","2,364","2,370","463,257",1',
        ).encode("cp932"),
        "7203-T 2024-02-11T15:00:00Z 2367 2373 2364 2370 463257",
        "7203-T 2024-02-11T15:00:00Z 2367 2373 2364 2370 463257",
    ),
    "Japan, no first line": Case(
        "japan",
        "toyota.csv",
        _lines("日付,始値,高値,安値,終値,出来高,終値調整値", "2024-02-12,10,12,9,11,100,5.5").encode("cp932"),
        "7203 2024-02-11T15:00:00Z 10 12 9 11 100",
        "7203 2024-02-11T15:00:00Z 10 12 9 11 100",
        "",
        Reading(symbol="7203"),
    ),
    "Korea, codes": Case(
        "korea_krx",
        "kospi.csv",
        _lines(
            "date,code,open,high,low,close,volume", "20240102,005930,10,12,9,11,100", "20240102,000660,20,22,19,21,300"
        ),
        "000660 2024-01-02T00:00:00 20 22 19 21 300",
        "005930 2024-01-02T00:00:00 10 12 9 11 100",
        "timezone",
    ),
    "Korea, KRX portal": Case(
        "korea_hangul",
        "data_0000.csv",
        _lines(
            "일자,종가,대비,등락률,시가,고가,저가,거래량,거래대금",
            '2024/01/02,"11,000",100,0.9,"10,000","12,000","9,000","1,234,567",1',
        ).encode("cp949"),
        "005930 2024-01-01T15:00:00Z 10000 12000 9000 11000 1.23457e+06",
        "005930 2024-01-01T15:00:00Z 10000 12000 9000 11000 1.23457e+06",
        "",
        Reading(symbol="005930"),
    ),
    "Tushare": Case(
        "tushare",
        "daily.csv",
        _lines(
            "ts_code,trade_date,open,high,low,close,pre_close,change,pct_chg,vol,amount",
            "000001.SZ,20240103,11,13,10,12,11,1,9.09,200,2400",
            "000001.SZ,20240102,10,12,9,11,10,1,10,100,1100",
        ),
        "000001.SZ 2024-01-01T16:00:00Z 10 12 9 11 100",
        "000001.SZ 2024-01-02T16:00:00Z 11 13 10 12 200",
    ),
    "AKShare": Case(
        "akshare",
        "hist.csv",
        _lines(",日期,股票代码,开盘,收盘,最高,最低,成交量,成交额,振幅", "0,2024-01-02,000001,10,11,12,9,100,1100,5.0"),
        "000001 2024-01-02T00:00:00 10 12 9 11 100",
        "000001 2024-01-02T00:00:00 10 12 9 11 100",
        "timezone",
    ),
    "Moscow": Case(
        "moex",
        "SBER.csv",
        _lines(
            "open;close;high;low;value;volume;begin;end", "10;11;12;9;1100;100;2024-01-03 10:00:00;2024-01-03 10:59:59"
        ),
        "SBER 2024-01-03T07:00:00Z 10 12 9 11 100",
        "SBER 2024-01-03T07:00:00Z 10 12 9 11 100",
    ),
    "ccxt": Case(
        "ccxt",
        "BTCUSDT.json",
        [[1704067200000, 10, 12, 9, 11, 1.5], [1704070800000, 11, 13, 10, 12, 2.5]],
        "BTCUSDT 2024-01-01T00:00:00Z 10 12 9 11 1.5",
        "BTCUSDT 2024-01-01T01:00:00Z 11 13 10 12 2.5",
    ),
    "Coinbase": Case(
        "coinbase",
        "BTC-USD.json",
        [[1704070800, 10, 13, 11, 12, 2.5], [1704067200, 9, 12, 10, 11, 1.5]],
        "BTC-USD 2024-01-01T00:00:00Z 10 12 9 11 1.5",
        "BTC-USD 2024-01-01T01:00:00Z 11 13 10 12 2.5",
    ),
    "Bitfinex": Case(
        "bitfinex",
        "TBTCUSD.json",
        [[1704067200000, 10, 11, 12, 9, 1.5]],
        "TBTCUSD 2024-01-01T00:00:00Z 10 12 9 11 1.5",
        "TBTCUSD 2024-01-01T00:00:00Z 10 12 9 11 1.5",
    ),
    "Bybit": Case(
        "bybit",
        "kline.json",
        {
            "retCode": 0,
            "retMsg": "OK",
            "result": {"symbol": "BTCUSDT", "list": [["1704067200000", "10", "12", "9", "11", "1.5", "16"]]},
        },
        "BTCUSDT 2024-01-01T00:00:00Z 10 12 9 11 1.5",
        "BTCUSDT 2024-01-01T00:00:00Z 10 12 9 11 1.5",
    ),
    "OKX": Case(
        "okx",
        "BTC-USDT.json",
        {"code": "0", "msg": "", "data": [["1704067200000", "10", "12", "9", "11", "1.5", "1", "16", "1"]]},
        "BTC-USDT 2024-01-01T00:00:00Z 10 12 9 11 1.5",
        "BTC-USDT 2024-01-01T00:00:00Z 10 12 9 11 1.5",
    ),
    "OANDA": Case(
        "oanda",
        "candles.json",
        {
            "instrument": "EUR_USD",
            "granularity": "M1",
            "candles": [
                {
                    "complete": True,
                    "volume": 35,
                    "time": "2024-01-02T14:30:00.000000000Z",
                    "mid": {"o": "1.1", "h": "1.3", "l": "1.0", "c": "1.2"},
                }
            ],
        },
        "EUR_USD 2024-01-02T14:30:00Z 1.1 1.3 1 1.2 35",
        "EUR_USD 2024-01-02T14:30:00Z 1.1 1.3 1 1.2 35",
    ),
    "Upbit, the time of the last trade beside the bar's": Case(
        "upbit",
        "minutes.json",
        [
            {
                "market": "KRW-BTC",
                "candle_date_time_utc": "2018-04-18T10:16:00",
                "candle_date_time_kst": "2018-04-18T19:16:00",
                "opening_price": 10,
                "high_price": 12,
                "low_price": 9,
                "trade_price": 11,
                "timestamp": 1524046594584,
                "candle_acc_trade_price": 110,
                "candle_acc_trade_volume": 10,
                "unit": 1,
            }
        ],
        "KRW-BTC 2018-04-18T10:16:00Z 10 12 9 11 10",
        "KRW-BTC 2018-04-18T10:16:00Z 10 12 9 11 10",
    ),
    "KuCoin": Case(
        "kucoin",
        "BTC-USDT.json",
        {"code": "200000", "data": [["1704067200", "10", "11", "12", "9", "1.5", "16"]]},
        "BTC-USDT 2024-01-01T00:00:00Z 10 12 9 11 1.5",
        "BTC-USDT 2024-01-01T00:00:00Z 10 12 9 11 1.5",
    ),
    "HTX": Case(
        "htx",
        "BTCUSDT.json",
        {
            "ch": "market.btcusdt.kline.1day",
            "status": "ok",
            "data": [
                {"id": 1704067200, "open": 10, "close": 11, "low": 9, "high": 12, "amount": 1.5, "vol": 16, "count": 3}
            ],
        },
        "BTCUSDT 2024-01-01T00:00:00Z 10 12 9 11 1.5",
        "BTCUSDT 2024-01-01T00:00:00Z 10 12 9 11 1.5",
    ),
    "MEXC": Case(
        "mexc",
        "BTCUSDT.json",
        [[1704067200000, "10", "12", "9", "11", "1.5", 1704070800000, "16"]],
        "BTCUSDT 2024-01-01T00:00:00Z 10 12 9 11 1.5",
        "BTCUSDT 2024-01-01T00:00:00Z 10 12 9 11 1.5",
    ),
    "CRSP": Case(
        "crsp",
        "crsp.csv",
        _lines("PERMNO,date,TICKER,BIDLO,ASKHI,PRC,VOL,OPENPRC", "14593,20200102,AAPL,9,12,11,100,10"),
        "AAPL 2020-01-02T05:00:00Z 10 12 9 11 100",
        "AAPL 2020-01-02T05:00:00Z 10 12 9 11 100",
    ),
    "Twelve Data": Case(
        "plain",
        "series.json",
        {
            "meta": {"symbol": "AAPL", "interval": "1min", "exchange_timezone": "America/New_York"},
            "values": [
                {
                    "datetime": "2024-07-02 15:59:00",
                    "open": "10",
                    "high": "12",
                    "low": "9",
                    "close": "11",
                    "volume": "5",
                }
            ],
            "status": "ok",
        },
        "AAPL 2024-07-02T19:59:00Z 10 12 9 11 5",
        "AAPL 2024-07-02T19:59:00Z 10 12 9 11 5",
    ),
    "Deribit": Case(
        "plain",
        "BTC-PERPETUAL.json",
        {
            "jsonrpc": "2.0",
            "result": {
                "volume": [1.5],
                "ticks": [1704067200000],
                "status": "ok",
                "open": [10],
                "low": [9],
                "high": [12],
                "close": [11],
                "cost": [16],
            },
        },
        "BTC-PERPETUAL 2024-01-01T00:00:00Z 10 12 9 11 1.5",
        "BTC-PERPETUAL 2024-01-01T00:00:00Z 10 12 9 11 1.5",
    ),
    "Bloomberg": Case(
        "plain",
        "SPX.csv",
        _lines("Date,PX_OPEN,PX_HIGH,PX_LOW,PX_LAST,PX_VOLUME", "1/31/2024,10,12,9,11,100"),
        "SPX 2024-01-31T00:00:00 10 12 9 11 100",
        "SPX 2024-01-31T00:00:00 10 12 9 11 100",
        "timezone",
    ),
    "Bombay, months in words": Case(
        "plain",
        "500325.BO.csv",
        _lines(
            "Date,Open Price,High Price,Low Price,Close Price,WAP,No.of Shares",
            "30-May-2024,10,12,9,11,10.5,100",
            "3-June-2024,11,13,10,12,11.5,200",
        ),
        "500325.BO 2024-05-30T00:00:00 10 12 9 11 100",
        "500325.BO 2024-06-03T00:00:00 11 13 10 12 200",
        "timezone",
    ),
    "hours as ten digits": Case(
        "plain",
        "EURUSD.csv",
        _lines("Time,Open,High,Low,Close,Volume", "2024010209,1.1,1.3,1.0,1.2,30", "2024010210,1.1,1.3,1.0,1.2,30"),
        "EURUSD 2024-01-02T09:00:00 1.1 1.3 1 1.2 30",
        "EURUSD 2024-01-02T10:00:00 1.1 1.3 1 1.2 30",
        "timezone",
    ),
    "OKX CSV": Case(
        "plain",
        "BTC-USDT.csv",
        _lines("ts,open,high,low,close,vol,vol_ccy", "1704067200000,10,12,9,11,1.5,16"),
        "BTC-USDT 2024-01-01T00:00:00Z 10 12 9 11 1.5",
        "BTC-USDT 2024-01-01T00:00:00Z 10 12 9 11 1.5",
    ),
    "Finnhub": Case(
        "finnhub",
        "AAPL.json",
        {"c": [11], "h": [12], "l": [9], "o": [10], "s": "ok", "t": [1704205800], "v": [100]},
        "AAPL 2024-01-02T14:30:00Z 10 12 9 11 100",
        "AAPL 2024-01-02T14:30:00Z 10 12 9 11 100",
    ),
    "our own columns, in capitals": Case(
        "plain",
        "x.csv",
        _lines("Timestamp,Symbol,Open,High,Low,Close,Volume,VIX", "2024-01-02T14:30:00Z,000001,10,12,9,11,100,13.5"),
        "000001 2024-01-02T14:30:00Z 10 12 9 11 100",
        "000001 2024-01-02T14:30:00Z 10 12 9 11 100",
    ),
    "date and time apart, leading zeros lost, dates d/m/Y": Case(
        "plain",
        "SPY.csv",
        _lines(
            "Date,Time,Open,High,Low,Close,Vol", "1/2/2024,93000,10,12,9,11,100", "13/2/2024,160000,11,13,10,12,200"
        ),
        "SPY 2024-02-01T09:30:00 10 12 9 11 100",
        "SPY 2024-02-13T16:00:00 11 13 10 12 200",
        "timezone",
    ),
    "semicolons and decimal commas, UTF-16": Case(
        "plain",
        "SPY.csv",
        _lines("Date;Open;High;Low;Close;Volume", "2024-01-02;10,5;12,0;9,25;11,75;1.000").encode("utf-16"),
        "SPY 2024-01-02T00:00:00 10.5 12 9.25 11.75 1000",
        "SPY 2024-01-02T00:00:00 10.5 12 9.25 11.75 1000",
        "timezone",
    ),
    "JSON lines": Case(
        "plain",
        "bars.jsonl",
        _lines(
            '{"time": "2024-01-02T14:30:00Z", "ticker": "A", "open": 10, "high": 12, "low": 9, "close": 11, "v": 100}',
            '{"time": "2024-01-02T14:31:00Z", "ticker": "A", "open": 11, "high": 13, "low": 10, "close": 12, "v": 200}',
        ),
        "A 2024-01-02T14:30:00Z 10 12 9 11 100",
        "A 2024-01-02T14:31:00Z 11 13 10 12 200",
    ),
    "pandas to_json, a column each": Case(
        "plain",
        "SPY.json",
        {
            "open": {"1704205800000": 10},
            "high": {"1704205800000": 12},
            "low": {"1704205800000": 9},
            "close": {"1704205800000": 11},
            "volume": {"1704205800000": 100},
        },
        "SPY 2024-01-02T14:30:00Z 10 12 9 11 100",
        "SPY 2024-01-02T14:30:00Z 10 12 9 11 100",
    ),
    "a column that names its zone": Case(
        "plain",
        "SPY.csv",
        _lines("Date (UTC),Open,High,Low,Close,Volume", "2024-01-02 14:30,10,12,9,11,100"),
        "SPY 2024-01-02T14:30:00Z 10 12 9 11 100",
        "SPY 2024-01-02T14:30:00Z 10 12 9 11 100",
    ),
    "Kaggle, coins with names and symbols": Case(
        "plain",
        "coin_Bitcoin.csv",
        _lines(
            "SNo,Name,Symbol,Date,High,Low,Open,Close,Volume,Marketcap",
            "1,Bitcoin,BTC,2013-04-29 23:59:59,12,9,10,11,100,16",
        ),
        "BTC 2013-04-29T23:59:59 10 12 9 11 100",
        "BTC 2013-04-29T23:59:59 10 12 9 11 100",
        "timezone",
    ),
    "names of one's own": Case(
        "plain",
        "SPY.csv",
        _lines("when,first price,top,bottom,final,shares", "2024-01-02T14:30:00Z,10,12,9,11,100"),
        "SPY 2024-01-02T14:30:00Z 10 12 9 11 100",
        "SPY 2024-01-02T14:30:00Z 10 12 9 11 100",
        "",
        Reading(
            columns={
                "when": "timestamp",
                "first price": "open",
                "top": "high",
                "bottom": "low",
                "final": "close",
                "shares": "volume",
            }
        ),
    ),
    "a delimiter at the end of each row": Case(
        "plain",
        "SPY.csv",
        _lines("Date,Open,High,Low,Close,Volume", "2024-01-02,10,12,9,11,100,", "2024-01-03,11,13,10,12,200,"),
        "SPY 2024-01-02T00:00:00 10 12 9 11 100",
        "SPY 2024-01-03T00:00:00 11 13 10 12 200",
        "timezone",
    ),
    "line ends of an old Mac": Case(
        "plain",
        "SPY.csv",
        b"Date,Open,High,Low,Close,Volume\r2024-01-02,10,12,9,11,100\r2024-01-03,11,13,10,12,200\r",
        "SPY 2024-01-02T00:00:00 10 12 9 11 100",
        "SPY 2024-01-03T00:00:00 11 13 10 12 200",
        "timezone",
    ),
    "no header at all": Case(
        "headerless",
        "mine.csv",
        _lines("2024-01-02 14:30,10,12,9,11,100"),
        "SPY 2024-01-02T14:30:00 10 12 9 11 100",
        "SPY 2024-01-02T14:30:00 10 12 9 11 100",
        "timezone",
        Reading(symbol="SPY"),
    ),
}


def write(folder: Path, name: str, content: Any) -> Path:
    """Write a text, bytes, JSON, or an archive of texts."""
    path = folder / name
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for member, text in content.items():
                archive.writestr(member, text)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_the_vendor_is_named_and_read(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = write(tmp_path, case.file, case.content)

    bars = read_files(path, case.reading)

    assert bars.detection.format.name == case.format
    assert " ".join(choice.key for choice in bars.detection.choices) == case.choices
    assert (_bar(bars.frame.iloc[0]), _bar(bars.frame.iloc[-1])) == (case.first, case.last)


def test_every_format_has_a_file_here_and_a_row_in_the_table() -> None:
    assert {row.format for row in vendor_table()} == set(FORMATS)
    assert {case.format for case in CASES.values()} | {"wide", "duckdb"} == set(FORMATS)


@pytest.mark.parametrize(
    ("file", "symbol"),
    [("US30.csv", "US30"), ("US500.csv", "US500"), ("GER40.csv", "GER40"), ("EURUSD60.csv", "EURUSD")],
)
def test_digits_of_a_symbol_are_no_period_of_metatrader(file: str, symbol: str, tmp_path: Path) -> None:
    rows = [f"2024.01.02,{hour:02d}:00,100.1,100.5,99.9,100.2,{hour + 5}" for hour in range(4)]
    bars = read_files(write(tmp_path, file, "\n".join(rows)), Reading(timezone="UTC"))
    assert bars.detection.format.name == "metatrader4"
    assert set(bars.frame["symbol"]) == {symbol}


def test_yahoo_prices_beside_an_adjusted_close_keep_their_dividends(tmp_path: Path) -> None:
    head = "Date,Open,High,Low,Close,Adj Close,Volume,Dividends,Stock Splits\n"
    rows = [f"2024-01-0{day} 00:00:00-05:00,10.0,10.5,9.5,10.1,9.9,100,{0.2 * (day == 4)},0.0" for day in (2, 3, 4, 5)]
    bars = read_files(write(tmp_path, "AAPL.csv", head + "\n".join(rows)), Reading())
    assert bars.detection.format.name == "yahoo"
    assert bars.frame["dividend"].tolist() == [0.0, 0.0, 0.2, 0.0]
