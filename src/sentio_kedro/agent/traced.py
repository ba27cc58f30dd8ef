"""The encoders of many members as one flat list of tensor operations.

For a single bar, calling modules costs more than their arithmetic. Tracing records the operations of the encoder on a
window for all members at once; what does not depend on the window (masks, rotations, layouts of weights) is computed
once. The results are those of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.func import functional_call, stack_module_state
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from sentio_kedro.agent.network.encoder import Encoder, NetworkShape
from sentio_kedro.config import NetworkParameters
from sentio_kedro.config.network import receptive_field

ATEN = torch.ops.aten
WITHOUT_EFFECT = (ATEN.detach.default, ATEN.alias.default)
VIEWS = (ATEN.view.default, ATEN._unsafe_view.default)
RESHAPES = (*VIEWS, ATEN.expand.default, ATEN.slice.Tensor, ATEN.clone.default, ATEN.constant_pad_nd.default)
"""Without effect where the layout stays the same."""
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
        trace = _trace(self.parameters, self.shape, self.names, len(self.weights[0]), self.weights[0].dtype)
        rows, prepared, run = receptive_field(self.parameters), trace.prepare(*self.weights), trace.run.forward

        def embed(window: Tensor) -> Tensor:
            return torch.as_tensor(run(window, *prepared)) if len(window) == rows else self.embed(window)

        return embed


def _embed(shell: Encoder, names: Sequence[str], window: Tensor, weights: Sequence[Tensor]) -> Tensor:
    def of_member(*values: Tensor) -> Tensor:
        return torch.as_tensor(functional_call(shell, dict(zip(names, values, strict=True)), (window[None], 1)))[0]

    with sdpa_kernel(SDPBackend.MATH):  # other kernels cannot be batched by vmap
        return torch.as_tensor(torch.vmap(of_member)(*weights))


class Trace(NamedTuple):
    """The traced operations in two parts.

    Attributes:
        prepare: What depends on the weights alone, from weights to a tuple, once for a set of agents.
        run: The rest, from a window and that tuple to embeddings.
    """

    prepare: fx.GraphModule
    run: fx.GraphModule


@cache
def _trace(
    parameters: NetworkParameters, shape: NetworkShape, names: tuple[str, ...], members: int, dtype: torch.dtype
) -> Trace:
    shell = Encoder(parameters, shape).to(dtype).eval().requires_grad_(requires_grad=False)
    state = {**dict(shell.named_parameters()), **dict(shell.named_buffers())}
    weights = [state[name].expand(members, *state[name].shape).clone() for name in names]
    window = torch.zeros(receptive_field(parameters), shape.assets, shape.features, dtype=dtype)
    with torch.inference_mode(mode=False), torch.no_grad():
        graph = make_fx(lambda x, *values: _embed(shell, names, x, values))(window, *weights)
    return _split(_simplified(graph))


def _simplified(graph: fx.GraphModule) -> fx.GraphModule:
    """Remove operations without effect, join views of views, and call the others by their shortest entry."""
    for node in list(graph.graph.nodes):
        source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if source is None or node.op != "call_function":
            continue
        if node.target in VIEWS and source.target in VIEWS:
            origin = source.all_input_nodes[0]
            if _layout(_viewed(origin, node)) == _layout(node):
                node.replace_input_with(source, origin)
                source = origin
        if node.target in WITHOUT_EFFECT or (node.target in RESHAPES and _layout(source) == _layout(node)):
            node.replace_all_uses_with(source)
    for node in graph.graph.nodes:
        node.target = DIRECT.get(node.target, node.target)
    graph.graph.eliminate_dead_code()
    return graph


def _layout(value: fx.Node | Tensor | None) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return shape and strides of a tensor, or of what a node returned when it was traced."""
    tensor = value.meta.get("val") if isinstance(value, fx.Node) else value
    return (tuple(tensor.shape), tensor.stride()) if isinstance(tensor, Tensor) else None


def _viewed(source: fx.Node, node: fx.Node) -> Tensor | None:
    """Return ``source`` in the shape of ``node``, without values; null if only a copy has it."""
    shape, strides = _layout(source) or ((), ())
    try:
        return torch.empty_strided(shape, strides, device="meta").view(node.meta["val"].shape)
    except RuntimeError:
        return None


def _split(graph: fx.GraphModule) -> Trace:
    """Divide a graph, whose first input is the window, by whether operations depend on it."""
    nodes = list(graph.graph.nodes)
    moving = {nodes[0]}
    for node in nodes:
        if any(source in moving for source in node.all_input_nodes):
            moving.add(node)
    read = [node for node in nodes if node not in moving and any(user in moving for user in node.users)]
    prepare, run = fx.Graph(), fx.Graph()
    prepared: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if node not in moving:
            prepared[node] = prepare.node_copy(node, prepared.__getitem__)
    prepare.output(tuple(prepared[node] for node in read))
    following = {node: run.placeholder(node.name) for node in (nodes[0], *read)}
    for node in nodes[1:]:
        if node in moving:
            following[node] = run.node_copy(node, following.__getitem__)
    return Trace(fx.GraphModule(graph, prepare), fx.GraphModule(graph, run))
