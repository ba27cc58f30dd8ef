"""Moving averages of weights: the mean of the last updates' networks is calmer than the last one."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from sentio_kedro.agent.network.network import PolicyNetwork


@torch.no_grad()
def averaged_weights(
    average: Mapping[str, Tensor], weights: Mapping[str, Tensor], decay: float, updates: int
) -> dict[str, Tensor]:
    """Take the weights of one more update into their exponential moving average.

    The weights of update i count decay^(updates - i), and the counts are divided by their sum, so that the weights
    before the first update do not linger in short trainings (the correction of Adam, Kingma and Ba 2015, section 3).

    Args:
        average: The average so far; empty before the first update.
        weights: State dict after the update. It is copied, never kept.
        decay: Share of an update's count that is left one update later, in [0, 1); 0 keeps the last weights alone.
        updates: Updates that the result averages, this one included; 1 gives the weights themselves.

    Returns:
        The new average. Tensors that are not floating (counters) are the latest ones.

    Raises:
        ValueError: If ``decay`` is not in [0, 1), ``updates`` is not positive, or names differ.
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"`decay` must be in [0, 1), was {decay}; 0 switches averaging off.")
    if updates < 1:
        raise ValueError(f"`updates` must be at least 1, the update that is averaged, was {updates}.")
    if updates == 1 or decay == 0.0:
        return {name: value.detach().clone() for name, value in weights.items()}
    if average.keys() != weights.keys():
        names = sorted(average.keys() ^ weights.keys())
        raise ValueError(f"`average` must hold the names of `weights`, differed in {names}; start again at update 1.")
    share = (1.0 - decay) / (1.0 - decay**updates)
    return {
        name: _mixed(average[name], value.detach(), share) if value.is_floating_point() else value.detach().clone()
        for name, value in weights.items()
    }


def _mixed(average: Tensor, value: Tensor, share: float) -> Tensor:
    """Move from ``average`` towards ``value``; what is equal stays, the infinite scale of an unheard column too."""
    return torch.where(average == value, value, torch.lerp(average, value, share))


def with_weights(network: PolicyNetwork, weights: Mapping[str, Tensor]) -> PolicyNetwork:
    """Return a copy of ``network`` with ``weights``, to be judged; the network itself is left alone."""
    judged = copy.deepcopy(network)
    judged.load_state_dict(weights)
    return judged
