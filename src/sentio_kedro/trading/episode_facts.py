"""Market data of all rows, for accounts at different rows."""

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

LIMIT_FIELDS = (
    "tradable",
    "var_cap",
    "volatility_cap",
    "must_leave",
    "liquidity",
)  # of ``StepData``; no fill reads them
MERGED_CAPS = ("volatility_cap", "regime_cap", "kelly_cap", "session_cap")  # only the smallest of them binds
STATE_FIELDS = PositionLimits._fields[:7]  # of ``PositionLimits``, without the layers and ``guarded``


class RowTable(NamedTuple):
    """Columns ``[T, ...]``, looked up by row. Columns of one shape share one lookup; constant columns need none.

    Attributes:
        blocks: ``[columns, T, ...]`` for each shape; truth values are numbers, which are quicker to look up.
        constants: Columns that never change, without the row dimension.
        places: Block (-1 for the constants), index in it, and whether the column is bool; None where it is off.
    """

    blocks: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    places: tuple[tuple[int, int, bool] | None, ...]

    @classmethod
    def of(cls, columns: Iterable[Tensor | None], dtype: torch.dtype) -> RowTable:
        """Build the table from ``columns`` ``[T, ...]``, each bool, of ``dtype`` or None."""
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
        blocks = [*(block.index_select(1, rows).unbind(0) for block in self.blocks), self.constants]
        columns: list[Tensor | None] = []
        for place in self.places:
            column = None if place is None else blocks[place[0]][place[1]]
            columns.append(column > 0.0 if column is not None and place is not None and place[2] else column)
        return columns


class World(NamedTuple):
    """Tables of a market that episodes look up.

    Attributes:
        fill_data: Step data that a fill reads.
        limit_data: Step data that limits and masks read.
        opened: Limits (``STATE_FIELDS``), account features and legal actions of an account opened at each row.
        actions: ``[actions]`` from ``level_tensor``.
        levels: Exposures of the levels.
        shortable: As in ``StepData``.
    """

    fill_data: RowTable
    limit_data: RowTable
    opened: RowTable
    actions: Tensor
    levels: Levels | None
    shortable: Tensor | None

    def step_data(self, table: RowTable, rows: Tensor) -> StepData:
        """Look up ``fill_data`` or ``limit_data`` at ``rows`` ``[N]``."""
        return StepData._make(table.at(rows))._replace(levels=self.levels, shortable=self.shortable)


def make_world(market: MarketTensors, parameters: TradingParameters) -> World:
    """Compute the tables of all rows of ``market``."""
    step_data = make_step_data(market, torch.arange(market.bars, device=market.close.device), parameters)
    caps = [cap for cap in (getattr(step_data, name) for name in MERGED_CAPS) if isinstance(cap, Tensor)]
    smallest = torch.stack([cap.expand_as(step_data.close) for cap in caps]).amin(0) if caps else None
    step_data = step_data._replace(volatility_cap=smallest, regime_cap=None, kelly_cap=None, session_cap=None)
    account = opened_accounts(step_data.close[:, 0], market.assets, parameters)
    limits = full_position_limits(account, step_data, parameters)
    observed = account_features(account, limits, parameters), legal_actions(account, limits, step_data, parameters)
    columns = step_data._replace(levels=None, shortable=None)._asdict().items()
    dtype = step_data.close.dtype
    return World(
        fill_data=RowTable.of((None if name in LIMIT_FIELDS else x for name, x in columns), dtype),
        limit_data=RowTable.of((x if name in ("close", *LIMIT_FIELDS) else None for name, x in columns), dtype),
        opened=RowTable.of((*(getattr(limits, name) for name in STATE_FIELDS), *observed), dtype),
        actions=level_tensor(parameters, market.close),
        levels=step_data.levels,
        shortable=step_data.shortable,
    )


def opened_accounts(like: Tensor, assets: int, parameters: TradingParameters) -> AccountState:
    """Open flat accounts of the shape of ``like`` ``[N]``."""
    return open_accounts(torch.full_like(like, parameters.initial_cash), assets, parameters.orders.latency_bars)


def full_position_limits(account: AccountState, row: StepData, parameters: TradingParameters) -> PositionLimits:
    """Compute limits with every field expanded to the accounts, without the layers, which telemetry alone reads."""
    limits = position_limits(account, row, parameters)
    flatten = None if limits.must_flatten is None else limits.must_flatten.expand_as(limits.position[..., :1])
    return limits._replace(hold_cap=limits.hold_cap.expand_as(limits.position), must_flatten=flatten, caps=Caps())
