"""Arrays that do not fit in memory: beyond a size they lie in a temporary file that the system reads and writes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

LARGEST_IN_MEMORY = 2**27  # bytes; a large panel needs dozens of arrays
BLOCK = 2**22  # numbers of a column that are computed at a time


def large_array(shape: Sequence[int], dtype: DTypeLike = np.float64) -> Any:
    """Return zeros of any size: in memory, or mapped from a file in the folder that ``TMPDIR`` names if they are large.

    The file has no name and is gone with the array.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= LARGEST_IN_MEMORY:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, mode="w+", shape=tuple(shape))


def by_assets(compute: Callable[[slice], Mapping[str, Any]], rows: int, assets: int) -> Mapping[str, Any]:
    """Compute columns a few assets at a time, so that what is needed for them does not grow with the panel.

    Args:
        compute: Returns arrays ``[n, a]`` by name for a slice of assets; those of one asset depend on it alone.
        rows: Rows of the bars.
        assets: Number of assets A.

    Returns:
        Arrays ``[n, A]`` by name.
    """
    size = max(1, BLOCK // rows)
    if size >= assets:
        return compute(slice(0, assets))
    whole: dict[str, Any] = {}
    for start in range(0, assets, size):
        part = slice(start, min(start + size, assets))
        for name, values in compute(part).items():
            if name not in whole:
                whole[name] = large_array((len(values), assets), values.dtype)
            whole[name][:, part] = values
    return whole
