"""Walks of accounts on an NVIDIA GPU, one thread per account, by the source of the compiled walk.

This has never run on a card. The tests run it in numba's simulator, and compile it with NVIDIA's compiler where
numba-cuda (the extra ``gpu``) is installed. ``simulate`` calls it if a part of the market or of the policies is a
tensor. Products and sums are rounded one by one, as on a CPU; exp, log and log1p may differ from a CPU's in the last
bit, and min and max pass over NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numba import config, cuda
from numba.cuda.cudadrv import nvvm
from torch import Tensor

from sentio_kedro.trading.records import Accounts, Market, Scratch, Terms
from sentio_kedro.trading.step.policies import Policies
from sentio_kedro.trading.step.walk import Ledger, Route, walk_account

THREADS = 32  # of a block; a thread needs 254 registers, and small blocks spread over all processors of the card


def walk_thread(
    route: Route,
    market: Market,
    accounts: Accounts,
    terms: Terms,
    policies: Policies,
    scratch: Scratch,
    ledger: Ledger,
) -> None:
    """Walk the account of this thread: the kernel, with all arrays in the memory of the device."""
    n = cuda.grid(1)
    if n < len(route.paths):
        walk_account(n, route, market, accounts, terms, policies, scratch, ledger)


SIMULATED = config.ENABLE_CUDASIM  # type: ignore[attr-defined]
OPTIONS = {} if SIMULATED else {"lto": False}  # a linker that compiles would contract products and sums
_kernel = cuda.jit(**OPTIONS)(walk_thread)


@contextmanager
def rounded_separately() -> Iterator[None]:
    """Compile no product and sum into one operation that rounds once, which ``cuda.jit`` has no option for."""
    compile_ir = nvvm.compile_ir
    nvvm.compile_ir = lambda code, **options: compile_ir(code, fma=False, **options)
    try:
        yield
    finally:
        nvvm.compile_ir = compile_ir


def walk_on_gpu(
    route: Route,
    market: Market,
    accounts: Accounts,
    terms: Terms,
    policies: Policies,
    scratch: Scratch,
    ledger: Ledger,
) -> None:
    """``walk_serial`` on the device of the first tensor in ``market`` or ``policies``, on torch's current stream.

    Tensors on the device in double precision are read where they are. Other parts are copied there; accounts and
    ledger are copied back, so that they change in place. Tensors on the CPU are for numba's simulator.
    """
    like = next(part for part in (*market, *policies) if isinstance(part, Tensor))
    held = [_moved(part, like.device) for part in accounts]
    kept = [_blank(part, like.device) for part in ledger]
    working = {name: _blank(part, like.device) for name, part in scratch._asdict().items()}
    working["bits"] = working["powers"]  # the same memory

    def given(parts: tuple[Any, ...]) -> Iterator[Any]:
        return (_typed(_moved(part, like.device), part) for part in parts)

    with torch.cuda.device_of(like), rounded_separately():  # type: ignore[no-untyped-call]
        stream = cuda.external_stream(torch.cuda.current_stream().cuda_stream) if like.is_cuda else 0
        _kernel[-(-accounts.size // THREADS), THREADS, stream](
            Route._make([*given(route[:3]), int(route.first_step)]),
            Market(*given(market)),
            Accounts._make(map(_typed, held, accounts)),
            Terms(*given(terms)),
            Policies(*given(policies)),
            Scratch._make(map(_typed, working.values(), scratch)),
            Ledger._make(map(_typed, kept, ledger)),
        )
    for array, data in zip((*accounts, *ledger), held + kept, strict=True):
        array[...] = data.cpu().numpy().view(array.dtype).reshape(array.shape)


def _moved(part: Any, device: torch.device) -> Tensor:
    """Return a tensor in double precision as it is, and a copy of an array's bytes on the device."""
    if isinstance(part, Tensor):
        return part.detach().to(device, torch.float64).contiguous()
    flat = np.ascontiguousarray(part).reshape(-1).view(np.uint8, np.ndarray)
    return torch.from_numpy(flat).to(device, copy=True)


def _blank(array: Any, device: torch.device) -> Tensor:
    """Zeroed bytes on the device, as many as an array has."""
    return torch.zeros(array.nbytes, dtype=torch.uint8, device=device)


def _typed(data: Tensor, like: Any) -> Any:
    """Let the kernel see bytes as an array of the shape and type of ``like``, and a tensor as itself."""
    array = cuda.as_cuda_array(data) if data.is_cuda else data.numpy()
    if isinstance(like, Tensor):
        return array
    array = array.view(like.dtype).reshape(like.shape)
    return array if data.is_cuda else array.view(type(like))
