"""Simulation of accounts over market rows, for callers in Python."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import numpy as np
import torch

from sentio_kedro.trading.records import (
    BOUNDS,
    FILL,
    LAYERS,
    LIMIT,
    TOTAL,
    Accounts,
    Floats,
    Integers,
    Market,
    Scratch,
    Terms,
    records,
)
from sentio_kedro.trading.step.policies import ACCOUNT_FEATURES, HEADS, LANES, SAMPLED, TARGETS, Policies
from sentio_kedro.trading.step.walk import Ledger, Route, walk_parallel, walk_serial

logger = logging.getLogger(__name__)
RUIN = 1e-9  # of the first equity; smaller equity counts as zero


def simulate(
    market: Market,
    accounts: Accounts,
    policies: Policies,
    terms: Terms,
    rows: Integers | None = None,
    paths: Integers | None = None,
    models: Integers | None = None,
    *,
    first_step: int = 0,
    fills: bool = True,
    trace: bool = False,
    layers: bool = False,
) -> Ledger:
    """Let N accounts trade over decision rows; ``accounts`` are changed in place.

    One caller in the main thread uses all threads; training threads walk serially. The results are the same. Where a
    part of ``market`` or ``policies`` is a tensor on a GPU, the accounts walk there.

    Args:
        market: Facts of the rows.
        accounts: Accounts at the close of their first row.
        policies: What they decide by.
        terms: Limits and costs.
        rows: ``[P, S]`` decision rows of P paths; None is all rows of the market. Where a row does not follow the one
            before, prices go on from there.
        paths: ``[N]`` path of each account; None is the first.
        models: ``[N]`` regime model of each account; None is the first.
        first_step: Step of the first decision, for the policies' noise, starts and ends.
        fills: Record the ledger.
        trace: Record actions, legal levels, features and whether accounts are alive.
        layers: Record what each layer of the mask forbids.

    Raises:
        ValueError: If an index leads outside of its array.
    """
    size = accounts.size
    rows = np.arange(len(market.facts))[None] if rows is None else np.ascontiguousarray(rows)
    paths = np.zeros(size, np.int64) if paths is None else paths
    models = np.zeros(size, np.int64) if models is None else models
    route = Route(rows, paths, models, first_step)
    require_inside(market, accounts, policies, route)
    ledger = make_ledger(rows.shape[1], accounts, len(terms.levels), fills=fills, trace=trace, layers=layers)
    scratch = make_scratch(accounts, len(terms.levels), policies.projected.shape[-1])
    alone = size > 1 and threading.current_thread() is threading.main_thread()
    walk = walk_parallel if alone else walk_serial
    if any(isinstance(part, torch.Tensor) for part in (*market, *policies)):
        from sentio_kedro.trading.step.gpu_walk import walk_on_gpu as walk  # noqa: PLC0415 - loads numba.cuda
    walk(route, market, accounts, terms, policies, scratch, ledger)
    return ledger


@cache
def walks_on(device: torch.device) -> bool:
    """Whether accounts can walk on a device of torch: a GPU, with numba-cuda installed; a warning says so once."""
    if device.type != "cuda":
        return False
    if find_spec("numba_cuda") is None:
        logger.warning("Accounts walk on the CPU: install sentio_kedro[gpu] to let them walk on the GPU.")
        return False
    return True


def require_inside(market: Market, accounts: Accounts, policies: Policies, route: Route) -> None:
    """Refuse indices that compiled code, which does not check them, would follow outside of an array.

    Raises:
        ValueError: With the name of the index and its bounds.
    """
    rows, paths, models, first_step = route
    _require_below("rows", rows, len(market.facts))
    _require_below("paths", paths, len(rows))
    _require_below("models", models, market.regimes.shape[1])
    require_indices(accounts)
    step = first_step + np.arange(rows.shape[1])
    read = (
        ((HEADS, SAMPLED), "projected", policies.projected),
        ((TARGETS,), "targets", policies.targets),
        ((SAMPLED,), "noise", policies.noise),
    )
    for kinds, name, table in read:
        n = np.flatnonzero(np.isin(policies.kind, kinds))
        decides = (step >= policies.starts[n, None]) & (step < policies.closes[n, None])
        row = rows[paths[n]] - policies.first_row[n, None] if name != "noise" else np.broadcast_to(step, decides.shape)
        columns = policies.draws if name == "noise" else policies.source
        _require_below(f"rows of `{name}`", row[decides], len(table))
        _require_below(f"columns of `{name}`", columns[n], table.shape[1])


def require_indices(accounts: Accounts) -> None:
    """Refuse accounts whose latency or place in the ring of session highs lies outside of their arrays.

    Raises:
        ValueError: With the name and its bounds.
    """
    _require_below("latency", accounts.account.latency, accounts.in_flight.shape[-1] + 1)
    _require_below("session_slot", accounts.account.session_slot, accounts.session_highs.shape[-1])


def _require_below(name: str, values: Integers, size: int) -> None:
    if values.size and (values.min() < 0 or values.max() >= size):
        raise ValueError(
            f"{name} must lie in [0, {size}), reached from {values.min()} to {values.max()}; give as many entries as "
            "the accounts, rows and policies name."
        )


def make_scratch(accounts: Accounts, levels: int, hidden: int = 0) -> Scratch:
    """Memory of a step of every account, with ``hidden`` units of the networks that decide."""
    size, assets = accounts.holdings.shape
    units, powers, series = np.zeros((3, size, hidden))
    logits, probabilities = np.zeros((2, size, LANES * -(-levels // LANES)))
    return Scratch(
        bounds=records((size,), BOUNDS),
        limits=records((size, assets), LIMIT),
        legal=np.zeros((size, assets, levels), np.bool_),
        features=np.zeros((size, assets, ACCOUNT_FEATURES)),
        actions=np.zeros((size, assets), np.int64),
        fills=records((size, assets), FILL),
        total=records((size,), TOTAL),
        hidden=units,
        powers=powers,
        series=series,
        bits=powers.view(np.int64),
        logits=logits,
        probabilities=probabilities,
    )


def make_ledger(steps: int, accounts: Accounts, levels: int, *, fills: bool, trace: bool, layers: bool) -> Ledger:
    """Memory of what S steps record; parts that are off have no steps."""
    size, assets = accounts.holdings.shape
    recorded, traced, counted = (steps if on else 0 for on in (fills, trace, layers))
    return Ledger(
        fills=records((recorded, size, assets), FILL),
        total=records((steps, size), TOTAL),
        actions=np.zeros((traced, size, assets), np.int64),
        legal=np.zeros((traced, size, assets, levels), np.bool_),
        features=np.zeros((traced, size, assets, ACCOUNT_FEATURES)),
        alive=np.zeros((traced, size), np.bool_),
        layers=np.zeros((counted, size, len(LAYERS))),
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread inside: operations on single rows are too small for several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def net_returns(ledger: Ledger) -> Floats:
    """Simple returns of equity per step ``[S, N]``: -1 at bankruptcy, 0 afterwards."""
    floor = np.maximum(ledger.total.equity_before[:1], 1e-12) * RUIN
    return np.asarray(np.maximum(ledger.total.equity, floor) / np.maximum(ledger.total.equity_before, floor) - 1.0)


def asset_profit(ledger: Ledger) -> Floats:
    """Net profit of each asset ``[S, N, A]``, quote currency; financing is the account's."""
    fills = ledger.fills
    costs = fills.commission + fills.spread + fills.impact + fills.borrow + fills.funding
    return np.asarray(fills.price_pnl + fills.dividends - costs)


def asset_rewards(ledger: Ledger, unit: Floats, allocation: Floats | float = 1.0) -> Floats:
    """Rewards ``[S, N, A]``: net profit of each asset over equity, in ``unit`` ``[S, N, A]`` (fractions of equity).

    Assets share interest by their ``allocation`` ``[A]``.
    """
    net = asset_profit(ledger)
    share = np.broadcast_to(allocation, net.shape[-1:])
    net = net - ledger.total.financing[..., None] * (share / share.sum())
    return np.asarray(net / np.maximum(ledger.total.equity_before, 1e-6)[..., None] / unit)
