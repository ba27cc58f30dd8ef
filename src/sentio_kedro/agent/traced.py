"""The encoders of many members as one flat list of tensor operations.

For a single bar, calling modules costs more than their arithmetic. Tracing records the operations of the encoder on a
window for all members at once; constants (masks, rotations) are computed once. The results are those of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.func import functional_call, stack_module_state
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from sentio_kedro.agent.network.encoder import Encoder, NetworkShape, receptive_field
from sentio_kedro.config import NetworkParameters

ATEN = torch.ops.aten
WITHOUT_EFFECT = (ATEN.detach.default, ATEN.alias.default)
DIRECT: dict[Any, Callable[..., Tensor]] = {
    ATEN.view.default: Tensor.view,
    ATEN._unsafe_view.default: Tensor.view,
    ATEN.expand.default: Tensor.expand,
    ATEN.transpose.int: Tensor.transpose,
    ATEN.add.Tensor: torch.add,
    ATEN.sub.Tensor: torch.sub,
    ATEN.mul.Tensor: torch.mul,
    ATEN.bmm.default: torch.bmm,
}
"""The same operations by another entry, which costs a third as much."""
Embed = Callable[[Tensor], Tensor]
"""Embeds the last bar of a window ``[T, A, F]`` by M members: ``[M, 1, A, D]``."""


class StackedEncoders:
    """M encoders of the same shape, called together."""

    def __init__(self, encoders: Sequence[Encoder], shape: NetworkShape) -> None:
        """Stack their weights."""
        self.shape, self.parameters = shape, encoders[0].parameters_
        parameters, buffers = stack_module_state(list(encoders))
        self.names = (*parameters, *buffers)
        self.weights = (*parameters.values(), *buffers.values())
        self._shell = encoders[0]

    def embed(self, window: Tensor) -> Tensor:
        """Embed the last bar of a window ``[T, A, F]``: ``[M, 1, A, D]``."""
        return _embed(self._shell, self.names, window, self.weights)

    def traced(self) -> Embed:
        """Return ``embed`` for windows as long as the receptive field.

        The first trace of a shape takes about a second; it is shared by later ones.
        """
        graph = _trace(self.parameters, self.shape, self.names, len(self.weights[0]), self.weights[0].dtype)
        rows = receptive_field(self.parameters)

        def embed(window: Tensor) -> Tensor:
            return torch.as_tensor(graph(window, *self.weights)) if len(window) == rows else self.embed(window)

        return embed


def _embed(shell: Encoder, names: Sequence[str], window: Tensor, weights: Sequence[Tensor]) -> Tensor:
    def of_member(*values: Tensor) -> Tensor:
        return torch.as_tensor(functional_call(shell, dict(zip(names, values, strict=True)), (window[None], 1)))[0]

    with sdpa_kernel(SDPBackend.MATH):  # other kernels cannot be batched by vmap
        return torch.as_tensor(torch.vmap(of_member)(*weights))


@cache
def _trace(
    parameters: NetworkParameters, shape: NetworkShape, names: tuple[str, ...], members: int, dtype: torch.dtype
) -> fx.GraphModule:
    shell = Encoder(parameters, shape).to(dtype).eval().requires_grad_(requires_grad=False)
    state = {**dict(shell.named_parameters()), **dict(shell.named_buffers())}
    weights = [state[name].expand(members, *state[name].shape).clone() for name in names]
    window = torch.zeros(receptive_field(parameters), shape.assets, shape.features, dtype=dtype)
    with torch.inference_mode(mode=False), torch.no_grad():
        graph = make_fx(lambda x, *values: _embed(shell, names, x, values))(window, *weights)
        return _folded(graph)


def _folded(graph: fx.GraphModule) -> fx.GraphModule:
    """Compute nodes that depend on no argument once, and remove those without effect."""
    constants: dict[fx.Node, Any] = {}
    for node in list(graph.graph.nodes):
        if node.op == "get_attr":
            constants[node] = getattr(graph, str(node.target))
        elif node.op == "call_function" and all(source in constants for source in node.all_input_nodes):
            arguments, options = fx.map_arg((node.args, node.kwargs), constants.__getitem__)
            constants[node] = node.target(*arguments, **options)
            if isinstance(constants[node], Tensor):
                constants[_constant(graph, node, constants[node])] = constants[node]
        elif node.target in WITHOUT_EFFECT:
            node.replace_all_uses_with(node.args[0])
        else:
            node.target = DIRECT.get(node.target, node.target)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _constant(graph: fx.GraphModule, node: fx.Node, value: Tensor) -> fx.Node:
    """Replace a node by its value."""
    name = f"constant_{node.name}"
    graph.register_buffer(name, value)
    with graph.graph.inserting_before(node):
        constant = graph.graph.get_attr(name)
    node.replace_all_uses_with(constant)
    return constant
