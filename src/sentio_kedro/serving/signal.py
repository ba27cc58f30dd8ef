"""Target positions and their explanation at one bar."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.market.ingestion.aligned_bars import Mask
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.trading.records import LAYERS
from sentio_kedro.trading.step.orders import whole_lots

START_TOLERANCE = 0.1  # of the largest position: targets of two starts that are further apart disagree


@dataclass(frozen=True, eq=False)
class Signal:
    """Target positions of agents that decide as one, from the next open on, for accounts ``[...]``; ``[]`` for one.

    Attributes:
        timestamp: End of the bar of the decision, UTC.
        symbols: A assets.
        agents: How many agents decide as one.
        target: ``[..., A]`` position once the orders are filled at this close, fraction of equity; negative is short.
        shares: ``[..., A]`` the same in shares, orders under way included.
        orders: ``[..., A]`` orders to send now, shares; negative sells.
        regime: ``[K]`` filtered regime probabilities, calm to volatile.
        tail_risk: ``[..., A]`` expected loss of the worst 5 % of the critics' outcomes, fraction of equity,
            discounted by the agents' gamma.
        actions: ``[..., A]`` index of the chosen level in ``trading.levels``; -1 of agents that abstain.
        legal: ``[..., A, B]`` legal levels.
        binding: ``[..., A, layers]`` layers of the mask that cut or forbid a level, by ``LAYERS``.
        close: ``[A]`` last known closes.
        largest: ``[A]`` position that the limits on size allow at this bar, fraction of equity.
        untested: Whether the agents' rule was fitted on all bars.
        other_target: ``[A]`` target of a second account, begun flat halfway through the bars that a single account
            traded before this decision; null if it traded none.
    """

    timestamp: np.datetime64
    symbols: tuple[str, ...]
    agents: int
    target: Floats
    shares: Floats
    orders: Floats
    regime: Floats
    tail_risk: Floats
    actions: NDArray[np.int64]
    legal: Mask
    binding: Mask
    close: Floats
    largest: Floats
    untested: bool = False
    other_target: Floats | None = None

    def start_agrees(self) -> Mask:
        """Whether the second account's targets ``[A]`` are those of the first, within ``START_TOLERANCE``."""
        other = self.target if self.other_target is None else self.other_target
        return np.asarray(np.abs(self.target - other) <= START_TOLERANCE * self.largest)

    def binding_layers(self) -> list[str]:
        """Name the layers that bind for each asset of a single account, separated by commas."""
        return [",".join(np.array(LAYERS)[row]) for row in self.binding]

    def sized(self, equity: float, lot: Floats) -> Signal:
        """Return the targets in shares of another equity, in whole lots ``[A]``; a lot of 0 is any number."""
        return replace(self, shares=in_lots(self.target * equity / self.close, lot))

    def frame(self) -> pd.DataFrame:
        """Return one row per symbol, for a single account.

        Returns:
            ``timestamp``, ``symbol``, ``target``, ``shares``, ``order``, ``regime`` (likeliest state), ``state_0`` and
            on (probabilities), ``tail_risk``, ``binding`` (layers of the mask, separated by commas), ``agents``,
            ``other_target`` and ``start_agrees``, both missing without a second account, ``untested``.
        """
        compared = self.other_target is not None
        states = {f"state_{state}": float(probability) for state, probability in enumerate(self.regime)}
        return pd.DataFrame(
            {
                "timestamp": pd.Timestamp(self.timestamp).tz_localize("UTC"),
                "symbol": list(self.symbols),
                "target": self.target,
                "shares": self.shares,
                "order": self.orders,
                "regime": int(np.argmax(self.regime)),
                **states,
                "tail_risk": self.tail_risk,
                "binding": self.binding_layers(),
                "agents": self.agents,
                "other_target": self.other_target if compared else np.nan,
                "start_agrees": pd.array(self.start_agrees() if compared else [None] * len(self.symbols), "boolean"),
                "untested": self.untested,
            }
        )


def in_lots(shares: Floats, lot: Floats) -> Floats:
    """Round shares ``[...]`` towards zero to whole lots."""
    return np.asarray(np.vectorize(whole_lots, otypes=[np.float64])(shares, lot))
