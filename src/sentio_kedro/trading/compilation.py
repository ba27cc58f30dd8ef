"""Compilation of scalar loops by numba, with a cache that sees an edit in any compiled source."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FunctionType
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")
PACKAGE = Path(__file__).resolve().parent.parent
COMPILED = ("trading", "agent", "serving")  # packages whose sources are compiled


def sources_hash(folders: Iterable[Path]) -> str:
    """Hash names and contents of all Python files in ``folders``, in order."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder(package: Path, home: Path) -> Path:
    """Choose the folder of compiled code: inside ``package``, below ``home`` if that cannot be written.

    Numba looks for changes in the file of the outermost function only. The name of the folder is a hash of all sources
    that may be compiled, so that an edit in a function that is called starts a new folder.
    """
    name = f"numba-{sources_hash(package / part for part in COMPILED)}"
    for parent in (package / "__pycache__", home / ".cache" / "sentio_kedro", Path(tempfile.gettempdir())):
        folder = parent / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.mkdtemp(prefix=name))


if not os.environ.get("NUMBA_THREADING_LAYER"):
    # OpenMP's threads wait in busy loops: beside another busy process a walk took twenty times as long
    numba.config.THREADING_LAYER = "workqueue"  # type: ignore[attr-defined]
if not os.environ.get("NUMBA_CACHE_DIR"):
    numba.config.CACHE_DIR = str(  # type: ignore[attr-defined]
        cache_folder(PACKAGE, Path.home())
    )


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a scalar function at its first call; it runs without Python's lock and is inlined where it is called.

    It allocates no memory, so it need not count references: counting takes four times as long as an account's step.
    Arrays cannot be made or assigned in it as a whole; records and numbers can. Division by zero gives infinity or NaN.
    """
    options = {"nogil": True, "cache": True, "forceinline": True, "error_model": "numpy", "_nrt": False}
    return numba.njit(**options)(function)  # type: ignore[call-overload]


def compiled_twice(function: Callable[P, R]) -> tuple[Callable[P, R], Callable[P, R]]:
    """Compile a function for one thread, and with its ``prange`` loops spread over all threads.

    The second is not for callers that are threads themselves. Numba names a cached function by its qualified name and
    first line, so that the second is a copy under another name.
    """
    source = cast(FunctionType, function)
    copy = FunctionType(source.__code__, source.__globals__, f"{source.__name__}_parallel")
    copy.__qualname__, copy.__doc__ = f"{source.__qualname__}_parallel", source.__doc__
    return compiled(function), numba.njit(nogil=True, cache=True, parallel=True)(copy)
