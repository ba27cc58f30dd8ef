"""Functions of one member's tensors, called for many."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.training.batched.batching import leaves, member_of, over_members, stack_members, with_leaves


class Inner(NamedTuple):
    x: Tensor
    off: Tensor | None
    limit: float


class Outer(NamedTuple):
    inner: Inner
    pair: tuple[Tensor, Tensor]


def outer(value: float) -> Outer:
    return Outer(Inner(torch.tensor([value, 1.0]), None, 3.0), (torch.tensor(value), torch.tensor(-value)))


def test_leaves_are_the_tensors_depth_first_and_can_be_put_back() -> None:
    value = outer(2.0)
    assert [x.tolist() for x in leaves(value)] == [[2.0, 1.0], 2.0, -2.0]
    doubled = with_leaves(value, (2.0 * x for x in leaves(value)))
    assert isinstance(doubled, Outer)
    assert doubled.inner.x.tolist() == [4.0, 2.0]
    assert doubled.inner.off is None
    assert doubled.inner.limit == 3.0
    assert [x.item() for x in doubled.pair] == [4.0, -4.0]


def test_members_are_stacked_and_found_again() -> None:
    stacked = stack_members([outer(1.0), outer(2.0), outer(3.0)])
    assert stacked.inner.x.shape == (3, 2)
    assert stacked.pair[1].tolist() == [-1.0, -2.0, -3.0]
    again = member_of(stacked, 1)
    assert all(torch.equal(a, b) for a, b in zip(leaves(again), leaves(outer(2.0)), strict=True))


def test_members_that_are_built_otherwise_are_refused() -> None:
    other = outer(1.0)
    for wrong in (
        other._replace(inner=other.inner._replace(off=torch.zeros(1))),
        other._replace(inner=other.inner._replace(x=torch.zeros(3))),
    ):
        with pytest.raises(ValueError, match="tensors of the same shapes to be stacked"):
            stack_members([outer(1.0), wrong])


def test_a_function_of_one_member_is_called_for_all() -> None:
    def swapped(value: Outer, scale: Tensor, power: int) -> Outer:
        x = value.inner.x * scale * value.inner.limit
        return value._replace(inner=value.inner._replace(x=x.sum() ** power), pair=(value.pair[1], value.pair[0]))

    values, scales = [outer(1.0), outer(2.0)], torch.tensor([1.0, 10.0])
    together = over_members(swapped, stack_members(values), scales, 2)
    for place, value in enumerate(values):
        expected = swapped(value, scales[place], 2)
        assert all(torch.equal(a, b) for a, b in zip(leaves(member_of(together, place)), leaves(expected), strict=True))
    assert together.inner.off is None
    assert together.inner.limit == 3.0
