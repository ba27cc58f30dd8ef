"""Facts of all rows of a market, for accounts that stand at different ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import AccountState, open_accounts
from sentio_kedro.trading.action_masks import legal_actions, level_tensor
from sentio_kedro.trading.observations import account_features
from sentio_kedro.trading.position_limits import Caps, PositionLimits, position_limits
from sentio_kedro.trading.precompute import make_step_data
from sentio_kedro.trading.step_data import Levels, StepData

LOOKED_AT = ("tradable", "var_cap", "volatility_cap", "must_leave", "liquidity")  # that a fill does not read
CAPS = ("volatility_cap", "regime_cap", "kelly_cap", "session_cap")  # that nothing but their least matters of


class RowTable(NamedTuple):
    """Columns ``[T, ...]`` of which accounts at different rows look up theirs.

    Columns of one shape lie together, so that one lookup serves them all, and truth values lie there as numbers, which
    are quicker to look up. A column that never changes is not looked up.

    Attributes:
        blocks: ``[columns, T, ...]`` for each shape.
        constants: Columns that never change, without the row dimension.
        places: Where each column is: block (-1 for the constants), place in it, and whether it holds truth values;
            null where it is off.
    """

    blocks: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    places: tuple[tuple[int, int, bool] | None, ...]

    @classmethod
    def of(cls, columns: Iterable[Tensor | None], dtype: torch.dtype) -> RowTable:
        """Arrange ``columns``, each ``[T, ...]``, of truth values or of ``dtype``, or null."""
        constants: list[Tensor] = []
        groups: dict[torch.Size, list[Tensor]] = {}
        places: list[tuple[int, int, bool] | None] = []
        for column in columns:
            if column is None:
                places.append(None)
            elif bool((column == column[:1]).all()):
                places.append((-1, len(constants), False))
                constants.append(column[0].clone())
            else:
                group = groups.setdefault(column.shape[1:], [])
                places.append((list(groups).index(column.shape[1:]), len(group), column.dtype == torch.bool))
                group.append(column.to(dtype))
        return cls(tuple(torch.stack(group) for group in groups.values()), tuple(constants), tuple(places))

    def at(self, rows: Tensor) -> list[Tensor | None]:
        """Look up all columns at ``rows`` ``[N]``: ``[N, ...]`` each, constants without N."""
        found = [*(block.index_select(1, rows).unbind(0) for block in self.blocks), self.constants]
        columns: list[Tensor | None] = []
        for place in self.places:
            column = None if place is None else found[place[0]][place[1]]
            columns.append(column > 0.0 if column is not None and place is not None and place[2] else column)
        return columns


class Fresh(NamedTuple):
    """View and observation of an account that has just been opened.

    Attributes:
        position: As in ``PositionLimits``.
        committed: As in ``PositionLimits``.
        cap: As in ``PositionLimits``.
        hold_cap: As in ``PositionLimits``.
        headroom: As in ``PositionLimits``.
        must_flatten: As in ``PositionLimits``.
        called: As in ``PositionLimits``.
        account: As in ``Observation``.
        legal: As in ``Observation``.
    """

    position: Tensor
    committed: Tensor
    cap: Tensor
    hold_cap: Tensor
    headroom: Tensor
    must_flatten: Tensor | None
    called: Tensor | None
    account: Tensor
    legal: Tensor


VIEWED = Fresh._fields[
    :-2
]  # fields of ``PositionLimits`` that episodes keep; the others are None or only for telemetry


class World(NamedTuple):
    """What episodes look up of their market.

    Attributes:
        fills: Facts that a fill reads.
        looks: Facts that accounts look at.
        fresh: ``Fresh``, which the row alone decides.
        actions: ``[actions]`` from ``level_tensor``.
        levels: Table of the levels.
        shortable: ``[A]`` who may be sold short.
    """

    fills: RowTable
    looks: RowTable
    fresh: RowTable
    actions: Tensor
    levels: Levels | None
    shortable: Tensor | None

    def step_data(self, table: RowTable, rows: Tensor) -> StepData:
        """Look up the facts of ``table``, which is ``fills`` or ``looks``, at ``rows`` ``[N]``."""
        return StepData._make(table.at(rows))._replace(levels=self.levels, shortable=self.shortable)


def make_world(market: MarketTensors, parameters: TradingParameters) -> World:
    """Compute what episodes look up, for all rows of ``market``."""
    step_data = make_step_data(market, torch.arange(market.bars, device=market.close.device), parameters)
    known = [cap for cap in (getattr(step_data, name) for name in CAPS) if isinstance(cap, Tensor)]
    least = torch.stack([cap.expand_as(step_data.close) for cap in known]).amin(0) if known else None
    step_data = step_data._replace(volatility_cap=least, regime_cap=None, kelly_cap=None, session_cap=None)
    account = opened_accounts(step_data.close[:, 0], market.assets, parameters)
    view = full_position_limits(account, step_data, parameters)
    seen = account_features(account, view, parameters), legal_actions(account, view, step_data, parameters)
    columns = step_data._replace(levels=None, shortable=None)._asdict().items()
    looked, dtype = ("close", *LOOKED_AT), step_data.close.dtype
    return World(
        fills=RowTable.of((None if name in LOOKED_AT else x for name, x in columns), dtype),
        looks=RowTable.of((x if name in looked else None for name, x in columns), dtype),
        fresh=RowTable.of((*(getattr(view, name) for name in VIEWED), *seen), dtype),
        actions=level_tensor(parameters, market.close),
        levels=step_data.levels,
        shortable=step_data.shortable,
    )


def opened_accounts(like: Tensor, assets: int, parameters: TradingParameters) -> AccountState:
    """Open flat accounts of the shape of ``like`` ``[N]``."""
    return open_accounts(torch.full_like(like, parameters.initial_cash), assets, parameters.orders.latency_bars)


def full_position_limits(account: AccountState, row: StepData, parameters: TradingParameters) -> PositionLimits:
    """Look, with every field as large as the accounts ask, and without the layers, which telemetry alone reads."""
    view = position_limits(account, row, parameters)
    flatten = None if view.must_flatten is None else view.must_flatten.expand_as(view.position[..., :1])
    return view._replace(hold_cap=view.hold_cap.expand_as(view.position), must_flatten=flatten, caps=Caps())
