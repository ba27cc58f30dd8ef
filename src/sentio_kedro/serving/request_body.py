"""The body of a request to the served model, read strictly: bars as a long frame, and parameters."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError

from sentio_kedro.config.fields import parameters
from sentio_kedro.market.ingestion.bar_checks import COLUMNS, OPTIONAL_COLUMNS

T = TypeVar("T")
EXAMPLES, LONGEST = 10, 60  # problems that a refusal names, and characters of a value that it shows


@parameters
class Split:
    """A frame as pandas' ``to_json(orient="split")`` writes it.

    Attributes:
        columns: Names of the columns.
        data: Rows of cells.
        index: Ignored.
    """

    columns: list[str]
    data: list[list[Any]]
    index: Any = None


@parameters
class Body:
    """A request in MLflow's format.

    Attributes:
        dataframe_split: Bars as columns and rows.
        dataframe_records: Bars as one object per row.
        params: Parameters by name.
    """

    dataframe_split: Split | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    params: dict[str, Any] | None = Field(default_factory=dict)


_BODY = TypeAdapter(Body)


def read_request(body: bytes, own: Sequence[str] = ()) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the bars of a request, in the columns that bars have and the ``own`` ones, and its parameters.

    Raises:
        ValueError: If it is not JSON, of another shape, or a cell is neither a number nor, where bars have text, text.
    """
    wanted = "The body must be a JSON object with either `dataframe_split` or `dataframe_records`, and `params`"
    given = read_json(body, "The body")
    document = validated(lambda: _BODY.validate_python(given), wanted)
    if (document.dataframe_split is None) == (document.dataframe_records is None):
        raise ValueError(f"{wanted}; it has {'both' if document.dataframe_records else 'neither'} of them.")
    try:
        frame = _frame(document)
    except UnicodeEncodeError as error:
        raise ValueError("Texts of bars must be characters, held half a surrogate pair; correct it.") from error
    twice = sorted(set(frame.columns[frame.columns.duplicated()]))
    if twice:
        raise ValueError(f"The columns of bars must differ, {twice} are doubled; name each once.")
    known = [name for name in frame.columns if name in (*COLUMNS, *OPTIONAL_COLUMNS, *own)]
    return pd.DataFrame({name: _typed(name, frame[name]) for name in known}), document.params or {}


def read_json(text: str | bytes, name: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        text: The object.
        name: What it is, for messages.

    Raises:
        ValueError: If it is not JSON, no object, too deep, or names a key twice.
    """
    try:
        document = json.loads(text, object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} must be JSON in UTF-8, byte {error.start} is no text; encode it so.") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{name} must be a JSON object: {error.msg} at line {error.lineno}, column {error.colno}; correct it."
        ) from error
    except KeyError as error:
        raise ValueError(f"{name} must name a key once, named {shown(error.args[0])} twice; leave one out.") from error
    except RecursionError as error:
        raise ValueError(f"{name} must be a JSON object, was nested too deeply; flatten it.") from error
    except ValueError as error:
        raise ValueError(f"{name} must not hold integers of thousands of digits; correct the number.") from error
    if not isinstance(document, dict):
        raise ValueError(f"{name} must be a JSON object, was {shown(document)}; give names and values.")
    return document


def validated(read: Callable[[], T], wanted: str) -> T:
    """Validate what a request gives.

    Args:
        read: Validation by pydantic.
        wanted: What it must be in words, which begin the refusal.

    Raises:
        ValueError: With the first problems by name, bound and value.
    """
    try:
        return read()
    except ValidationError as error:
        problems = [
            f"`{'.'.join(map(str, problem['loc']))}`: {problem['msg']}, was {shown(problem['input'])}"
            for problem in error.errors(include_url=False, include_context=False)[:EXAMPLES]
        ]
        more = error.error_count() - len(problems)
        problems += [f"and {more} more"] if more else []
        raise ValueError(f"{wanted}; {'; '.join(problems)}.") from error


def shown(value: Any) -> str:
    """Render a value in some 60 characters."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, int) and value.bit_length() > LONGEST:  # thousands of digits cannot be rendered
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise KeyError(next(name for name in names if names.count(name) > 1))
    return found


def _frame(document: Body) -> pd.DataFrame:
    split = document.dataframe_split
    if split is None:
        return pd.DataFrame(document.dataframe_records)
    width = len(split.columns)
    row = next((row for row, cells in enumerate(split.data) if len(cells) != width), None)
    if row is not None:
        raise ValueError(
            f"Rows of `dataframe_split.data` must have a cell for each of the {width} columns, row {row} has "
            f"{len(split.data[row])}; give null where a bar has no value."
        )
    return pd.DataFrame(split.data, columns=split.columns, dtype=None if split.data else object)


def _typed(name: str, column: pd.Series) -> pd.Series:
    """Return a column of text, or of numbers as floats."""
    is_text = name in ("timestamp", "symbol")
    if not is_text and column.dtype.kind in "iuf":
        return column.astype(float)
    kinds = (str,) if is_text else (int, float, type(None))
    cells = column.tolist()
    wrong = [row for row, cell in enumerate(cells) if type(cell) not in kinds or (is_text and not cell.isprintable())]
    if wrong:
        raise ValueError(
            f"`{name}` must hold {'printable text' if is_text else 'numbers'}, held {shown(cells[wrong[0]])} in row "
            f"{wrong[0]} ({len(wrong)} of {len(cells)} rows are wrong); correct it."
        )
    if is_text:
        return column
    try:
        return column.astype(float)
    except OverflowError as error:
        raise ValueError(f"`{name}` holds an integer that is larger than 1.8e308; correct it.") from error
