"""Functions of one member's tensors applied to the stacked tensors of many members.

Arguments and results may be nested tuples of tensors, named or not; other values are shared by all members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, TypeVarTuple

import torch
from torch import Tensor

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


def leaves(value: object) -> Iterator[Tensor]:
    """List the tensors of ``value``, depth first."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from leaves(part)


def with_leaves(value: T, tensors: Iterator[Tensor]) -> T:
    """Return ``value`` with ``tensors`` in place of its tensors, in the order of ``leaves``."""
    replaced: Any = value
    if isinstance(value, Tensor):
        replaced = next(tensors)
    elif isinstance(value, tuple):
        parts = [with_leaves(part, tensors) for part in value]
        replaced = value._make(parts) if hasattr(value, "_make") else tuple(parts)
    return replaced  # type: ignore[no-any-return]


def stack_members(values: Sequence[T]) -> T:
    """Stack the tensors of values that are built alike, one value per member: ``[M, ...]`` each.

    Raises:
        ValueError: If one value holds a tensor where another holds none, or if shapes differ.
    """
    columns = [list(leaves(value)) for value in values]
    shapes = [[tuple(x.shape) for x in column] for column in columns]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"Members must hold tensors of the same shapes to be stacked, held {shapes}.")
    return with_leaves(values[0], iter([torch.stack(column) for column in zip(*columns, strict=True)]))


def member_of(values: T, place: int) -> T:
    """Return one member's part of stacked ``values``."""
    return with_leaves(values, (x[place] for x in leaves(values)))


def over_members(function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """Call a pure ``function`` for all members at once (``torch.vmap``).

    Every tensor of arguments and result has a leading dimension of members ``[M, ...]``. No branch of the function may
    depend on the values of tensors.
    """
    returned: list[T] = []

    def of_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
        returned.append(function(*with_leaves(arguments, iter(tensors))))
        return tuple(leaves(returned[-1]))

    results = torch.vmap(of_tensors)(*leaves(arguments))
    return with_leaves(returned[0], iter(results))
