"""Values of delivered bars: numbers, prices that fit together, units of the optional columns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from decimal import Decimal

import numpy as np
import pandas as pd

from sentio_kedro.market.ingestion.checks.columns import OPTIONAL_COLUMNS, PRICE_COLUMNS, VALUE_COLUMNS, VOLUME_REMEDY
from sentio_kedro.market.ingestion.checks.keys import Delivered, Mask
from sentio_kedro.market.ingestion.problems import Problem, shown
from sentio_kedro.market.ingestion.timestamps import Floats

ROUNDING = 1e-6  # of a price, up to which an order violation is rounding
LARGEST_SPREAD = 0.5  # fraction of the mid price
LARGEST_FUNDING = 0.1  # fraction of the notional
MANY = 3  # rows from which on one remedy is suggested for all
MOST = 0.6  # of the rows that violate an order
EMPTY_TEXTS = ("", "null", "nan", "na", "n/a", "none", "-")

Values = dict[str, Floats]


def numbers(column: pd.Series) -> Floats:
    """Return a column of a feed as numbers [n]; NaN where there is none."""
    if column.dtype == np.float64:
        return column.to_numpy()  # no copy
    if column.dtype.kind == "c" or not pd.api.types.is_numeric_dtype(column.dtype):
        texts = column if isinstance(column.dtype, pd.StringDtype) else column.astype(object).map(_text_or_number)
        column = pd.to_numeric(texts, errors="coerce")
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _text_or_number(value: object) -> object:
    """Return a text, or a number that a float holds, as it is; None for dates, lists and the like."""
    if isinstance(value, int):
        return value if abs(value) <= sys.float_info.max else None
    if isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, str | float | np.integer | np.floating) else None


def delivered_values(frame: pd.DataFrame | Mapping[str, pd.Series]) -> Values:
    """Return the numbers of long bars by column, [n] each; NaN where there is none."""
    return {name: numbers(frame[name]) for name in (*VALUE_COLUMNS, *OPTIONAL_COLUMNS) if name in frame}


def tidied(values: Mapping[str, Floats]) -> Values:
    """Widen high and low where rounding leaves open or close outside of them, and read a split of 0 as none.

    Args:
        values: Numbers of bars by column, [n] each.

    Returns:
        The same arrays where nothing changes; no price moves by more than ``ROUNDING``.
    """
    tidy = dict(values)
    if set(PRICE_COLUMNS) <= tidy.keys():
        open_, high, low, close = (tidy[name] for name in PRICE_COLUMNS)
        top, bottom = np.fmax(open_, close), np.fmin(open_, close)
        raised = (top > high) & (top - high <= ROUNDING * top)
        lowered = (bottom < low) & (low - bottom <= ROUNDING * top)
        tidy["high"] = np.where(raised, top, high) if raised.any() else high
        tidy["low"] = np.where(lowered, bottom, low) if lowered.any() else low
    if "split" in tidy and (tidy["split"] == 0.0).any():
        tidy["split"] = np.where(tidy["split"] == 0.0, 1.0, tidy["split"])
    return tidy


def value_problems(bars: Delivered, values: Values) -> tuple[list[Problem], Mask]:
    """List values that are no numbers, do not fit together or are in another unit.

    Returns:
        The problems, and the rows [n] without prices, which are missing bars.
    """
    frame = bars.frame
    finite = {name: np.isfinite(number) for name, number in values.items()}
    blank = ~np.logical_or.reduce([finite[name] for name in PRICE_COLUMNS])
    blank &= ~finite["volume"] | (values["volume"] == 0.0)
    rows = np.flatnonzero(blank)
    if rows.size:
        kept = frame.take(rows)
        blank[rows] = np.logical_and.reduce([empty_cells(kept[name]) for name in PRICE_COLUMNS])
        blank[rows] &= empty_cells(kept["volume"]) | (values["volume"][rows] == 0.0)
    return [
        *_blank_problems(bars, values, blank),
        *_number_problems(bars, finite, blank),
        *_price_problems(bars, values, finite),
        *_amount_problems(bars, values, finite),
        *_constant_problems(bars, values),
    ], blank


def empty_cells(column: pd.Series) -> Mask:
    """Return where a column is empty [n]; a file that keeps NA as text has texts such as null instead."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.isna().to_numpy(dtype=bool)
    texts = column.map(lambda value: isinstance(value, str) and value.casefold() in EMPTY_TEXTS, na_action="ignore")
    return (column.isna() | texts.astype("boolean").fillna(True)).to_numpy(dtype=bool)


def _named(bars: Delivered, wrong: Mapping[str, Mask]) -> tuple[Mask, Callable[[int], str]]:
    """Return where any column is wrong [n], and the text of the wrong values of a row."""
    masks = [*wrong.values(), np.zeros(len(bars.frame), dtype=bool)]
    return np.logical_or.reduce(masks), lambda row: ", ".join(
        f"{name}={shown(bars.frame[name].iloc[row])}" for name, mask in wrong.items() if mask[row]
    )


def _blank_problems(bars: Delivered, values: Values, blank: Mask) -> list[Problem]:
    if not blank.any():
        return []
    acting = {
        name: blank & np.isfinite(values[name]) & (values[name] != of_none)
        for name, of_none in (("dividend", 0.0), ("split", 1.0))
        if name in values
    }
    if "split" in acting:
        acting["split"] &= values["split"] != 0.0
    rule = "a row without prices has a dividend or a split, which would be lost: write it on the symbol's next bar"
    lost, text = _named(bars, acting)
    return [
        *bars.problem(rule, lost, text),
        *bars.problem(
            "rows without prices were dropped as missing bars", blank & ~lost, lambda row: f"row {row}", "repaired"
        ),
    ]


def _number_problems(bars: Delivered, finite: Mapping[str, Mask], blank: Mask) -> list[Problem]:
    wrong = {name: ~mask & ~blank for name, mask in finite.items()}
    for name in OPTIONAL_COLUMNS:
        if name in wrong and not finite[name].all():
            wrong[name] = ~finite[name] & ~_blank_options(bars.frame[name])
    bare = wrong["volume"] & np.logical_and.reduce([finite[name] for name in PRICE_COLUMNS])
    rows = np.flatnonzero(bare)
    bare[rows] = empty_cells(bars.frame["volume"].take(rows)) if rows.size else False
    wrong["volume"] = wrong["volume"] & ~bare
    texts: dict[str, Mask] = {}
    for name, mask in wrong.items():
        if mask.any() and not pd.api.types.is_numeric_dtype(bars.frame[name].dtype):
            places = np.flatnonzero(mask)
            written = (
                bars.frame[name]
                .take(places)
                .map(lambda value: isinstance(value, str) and any(map(str.isdigit, value)), na_action="ignore")
            )
            texts[name] = np.zeros(len(mask), dtype=bool)
            texts[name][places] = (written == True).to_numpy(dtype=bool)  # noqa: E712 - empty cells stay empty
            wrong[name] = mask & ~texts[name]
    where, of_text = _named(bars, texts)
    rules = [
        ("values must be finite numbers: fill in or drop the bar (a missing bar is allowed)", *_named(bars, wrong)),
        (
            "values must be finite numbers, not texts with units or separators such as K, M, % or 1,000: write plain "
            "numbers (commas alone are read with `load_args: {thousands: ','}`)",
            where,
            lambda row: f"{of_text(row)} is a text",
        ),
        (f"volume is empty: write 0 where nothing was traded; {VOLUME_REMEDY}", *_named(bars, {"volume": bare})),
    ]
    return [problem for rule, mask, text in rules for problem in bars.problem(rule, mask, text)]


def _blank_options(column: pd.Series) -> Mask:
    texts = not pd.api.types.is_numeric_dtype(column.dtype)
    return (column.isna() | (column == "") if texts else column.isna()).to_numpy(dtype=bool, na_value=True)


def _price_problems(bars: Delivered, values: Values, finite: Mapping[str, Mask]) -> list[Problem]:
    open_, high, low, close = (values[name] for name in PRICE_COLUMNS)
    with np.errstate(invalid="ignore"):
        top, bottom = np.maximum(open_, close), np.minimum(open_, close)
        suspects = np.flatnonzero((top > high) | (bottom < low) | (low <= 0.0) | ~(bottom > 0.0) | ~(high > 0.0))
    wrong = {
        name: np.zeros(len(high), dtype=bool) for name in (*PRICE_COLUMNS, "order", "ends", "rounded", "close alone")
    }
    if not suspects.size:
        return []
    at = {name: values[name][suspects] for name in PRICE_COLUMNS}
    whole = np.logical_and.reduce([finite[name][suspects] for name in (*PRICE_COLUMNS, "volume")])
    for name in PRICE_COLUMNS:
        wrong[name][suspects] = finite[name][suspects] & (at[name] <= 0.0)
    highest, lowest = np.fmax(at["open"], at["close"]), np.fmin(at["open"], at["close"])
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.fmax(highest - at["high"], at["low"] - lowest) / np.abs(highest)
    crossed = whole & (at["high"] < at["low"])
    outside = whole & (size > 0.0)
    wrong["order"][suspects] = crossed & (size > ROUNDING)
    wrong["ends"][suspects] = outside & ~crossed & (size > ROUNDING)
    wrong["rounded"][suspects] = outside & (size <= ROUNDING)
    opens_inside = (at["open"] <= at["high"]) & (at["open"] >= at["low"])
    wrong["close alone"][suspects] = outside & (size > ROUNDING) & opens_inside
    sizes = dict(zip(suspects.tolist(), size.tolist(), strict=True))

    def all_prices(row: int) -> str:
        prices = ", ".join(f"{name}={shown(values[name][row])}" for name in PRICE_COLUMNS)
        return f"row {row} {prices}: {sizes[row]:.2g} of the price"

    remedy = "correct or drop the bar"
    if wrong["close alone"].sum() >= max(MANY, MOST * wrong["ends"].sum()):
        remedy = (
            "is `close` an adjusted close? then scale open, high and low by adjusted close / close, or take the close "
            "as traded"
        )
    return [
        *bars.problem(
            "prices must be above 0: drop the bar or correct the price",
            *_named(bars, {name: wrong[name] for name in PRICE_COLUMNS}),
        ),
        *bars.problem("high must not be below low: check the column order of the feed", wrong["order"], all_prices),
        *bars.problem(f"open and close must lie in [low, high]: {remedy}", wrong["ends"], all_prices),
        *bars.problem(
            "open or close lay outside [low, high] by rounding: high and low were widened to hold them",
            wrong["rounded"],
            all_prices,
            "repaired",
        ),
    ]


def _amount_problems(bars: Delivered, values: Values, finite: Mapping[str, Mask]) -> list[Problem]:
    signed: tuple[str, ...] = ("volume", "spread", "split")
    below = {name: finite[name] & (values[name] < 0.0) for name in signed if name in values}
    zero_split = {"split": values["split"] == 0.0} if "split" in values else {}
    wide = {"spread": finite["spread"] & (values["spread"] >= LARGEST_SPREAD)} if "spread" in values else {}
    large = (
        {"funding": finite["funding"] & (np.abs(values["funding"]) >= LARGEST_FUNDING)} if "funding" in values else {}
    )
    rules: list[tuple[str, dict[str, Mask], str]] = [
        ("volume and spread must be 0 or more, split above 0: correct the value", below, "refused"),
        (
            "dividend must be 0 or more: correct the value",
            {"dividend": values["dividend"] < 0.0} if "dividend" in values else {},
            "refused",
        ),
        (
            f"spread must be below {LARGEST_SPREAD}, a fraction of the mid price; larger ones look like points or "
            "basis points: divide (ask - bid) by the mid price",
            wide,
            "refused",
        ),
        (
            f"funding must lie between -{LARGEST_FUNDING} and {LARGEST_FUNDING}, a fraction of the notional for a bar; "
            "larger ones look like percent or a rate a year: divide",
            large,
            "refused",
        ),
        ("a split of 0 was read as none", zero_split, "told"),
    ]
    return [
        problem
        for rule, wrong, severity in rules
        for problem in bars.problem(rule, *_named(bars, wrong), severity)  # type: ignore[arg-type]
    ]


def _constant_problems(bars: Delivered, values: Values) -> list[Problem]:
    """List symbols of two bars or more whose low and high are one number."""
    rows = pd.DataFrame({name: values[name] for name in ("low", "high")}, copy=False).groupby(bars.place, sort=True)
    low, high, count = rows["low"].min(), rows["high"].max(), rows.size()
    flat = low.index[(count > 1) & (low == high) & (low.index >= 0)]
    if not len(flat):
        return []
    first = np.isin(bars.place, flat) & ~pd.Series(bars.place).duplicated().to_numpy()
    return bars.problem(
        "prices never change: drop the symbol, or check that its feed is alive",
        first,
        lambda row: f"price={shown(values['low'][row])}",
    )
