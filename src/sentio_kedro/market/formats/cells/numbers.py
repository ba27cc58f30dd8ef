"""Cells of vendors' files as numbers: thousands, decimal commas, K, M and B, percent signs, and words for nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

NOTHING = frozenset({"", "-", "--", "—", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "-nan", ".", "inf", "-inf"})
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$"
_COMMA = re.compile(r"^[+-]?\d+(?:\.\d{3})*,(?!\d{3}$)\d+$|^[+-]?\d{1,3}(?:\.\d{3})+,\d+$")
_POINT = re.compile(r"^[+-]?\d+(?:,\d{3})*\.(?!\d{3}$)\d+$|^[+-]?\d{1,3}(?:,\d{3})+\.\d+$")
_GROUP = re.compile(r"^[+-]?\d{1,3},\d{3}$")


def is_number(cell: object) -> bool:
    """Return whether a cell is a number or a word for none, however it is written."""
    if isinstance(cell, bool):
        return False
    if cell is None or isinstance(cell, int | float):
        return True
    text = str(cell).strip().lower()
    plain = re.sub(r"[\s,'$€£¥%]", "", text).rstrip("kmbt")
    return text in NOTHING or re.fullmatch(_NUMBER, plain) is not None


def decimal_mark(cells: Sequence[str], delimiter: str) -> tuple[str, bool]:
    """Return the decimal mark of prices, and whether a cell shows it beyond doubt.

    Args:
        cells: Prices as texts.
        delimiter: What separates the fields.
    """
    cells = [re.sub(r"[\s']", "", cell) for cell in cells]  # of thousands
    comma = any(_COMMA.match(cell) for cell in cells)
    point = any(_POINT.match(cell) for cell in cells)
    if comma != point:
        return ("," if comma else "."), True
    doubtful = any(_GROUP.match(cell) for cell in cells)
    return ("," if doubtful and delimiter in ("\t", ";") else "."), not doubtful


def read_numbers(column: pd.Series, mark: str = ".") -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return a column's numbers [n], NaN where there is none, and where a cell is no number [n].

    Args:
        column: Texts or numbers.
        mark: Decimal mark of the texts.
    """
    if pd.api.types.is_bool_dtype(column.dtype):
        return np.full(len(column), np.nan), np.ones(len(column), dtype=bool)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan), np.zeros(len(column), dtype=bool)
    texts = column if isinstance(column.dtype, pd.StringDtype) else column.astype("string")
    array = pa.array(texts.fillna(""), type=pa.string())
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    if mark == ".":
        try:
            return _cast(array), np.zeros(len(column), dtype=bool)
        except pa.ArrowInvalid:
            pass
    return _cleaned(pd.Series(array.to_pandas(), dtype="str").str.strip().str.lower(), mark)


def _cast(array: pa.Array) -> NDArray[np.float64]:
    nothing = pc.is_in(array, pa.array(sorted({"", "NaN", "nan", "null", "None", "NULL"})))
    numbers = pc.cast(pc.if_else(nothing, None, array), pa.float64())
    values: NDArray[np.float64] = pc.fill_null(numbers, float("nan")).to_numpy(zero_copy_only=False)
    return values


def _cleaned(text: pd.Series, mark: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    nothing = text.isin(NOTHING).to_numpy(dtype=bool)
    other = "," if mark == "." else "."
    text = text.str.replace(r"^\((.*)\)$", r"-\1", regex=True).str.replace(r"[\s\u00a0'$€£¥]", "", regex=True)
    point, group = re.escape(mark), re.escape(other)
    grouped = rf"^[+-]?\d{{1,3}}(?:{group}\d{{2,3}})*{group}\d{{3}}(?:{point}\d*)?[kmbt%]*$"  # also in lakhs
    strange = text.str.contains(other, regex=False) & ~text.str.contains(grouped, regex=True)
    text = text.str.replace(other, "", regex=False).str.replace(mark, ".", regex=False)
    percent = text.str.endswith("%").to_numpy(dtype=bool)
    unit = text.str.removesuffix("%").str.slice(-1).map(_UNITS).fillna(1.0).to_numpy(dtype=np.float64)
    digits = text.str.removesuffix("%").str.rstrip("kmbt")
    values = pd.to_numeric(digits, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = (np.isnan(values) | strange.to_numpy(dtype=bool)) & ~nothing
    values = np.where(nothing, np.nan, values * unit / np.where(percent, 100.0, 1.0))
    return values, wrong
