"""How long a collective takes between chips that lie on a torus, or in nodes.

An all-gather of V bytes among n chips passes V (n − 1) / n bytes into each, whatever the way; a
reduce-scatter the same in reverse; an all-reduce is one after the other, so that it takes twice as
long. To this is added what the hops take by themselves.

- On a torus each side that the group spans has its own links, which work at the same time: one way
  along a line, both ways around a ring. k chips are k − 1 hops apart at most, on a ring k / 2.
- Of nodes, the GPUs of each send over NVLink what they have, then each its share to other nodes.

References:
    R. Thakur, R. Rabenseifner, W. Gropp, Optimization of Collective Communication Operations in
    MPICH, 2005, §4: latency and bandwidth add up.
    J. Austin et al., How to Scale Your Model, 2025, parts 3 and 12: rings, tori and nodes.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from research.distributed.chips import Nodes, Torus
from research.distributed.collectives import Collective
from research.distributed.mesh import BATCH


class Span(NamedTuple):
    """How an axis of the mesh lies along a side of the machine: so many places, so far apart."""

    size: int = 1
    stride: int = 1


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a mesh lies on a machine.

    Attributes:
        network: of its chips.
        shape: sides of the machine.
        axes: axis of the mesh → its span along each side.
    """

    network: Torus | Nodes
    shape: tuple[int, ...]
    axes: Mapping[str, tuple[Span, ...]]

    @property
    def size(self) -> int:
        """How many chips there are."""
        return math.prod(span.size for spans in self.axes.values() for span in spans)

    def seconds(self, collective: Collective) -> float:
        """Return how long the collective takes once."""
        spans = self._spans(collective.axes)
        size = math.prod(span.size for span in spans)
        if size == 1:
            return 0.0
        if isinstance(self.network, Torus):
            return self._on_torus(collective, spans, size)
        return self._among_nodes(collective, spans, size)

    def _spans(self, axes: Sequence[str]) -> list[Span]:
        """What a group along several axes spans of each side."""
        found = []
        for side in range(len(self.shape)):
            each = [self.axes[axis][side] for axis in axes if self.axes[axis][side].size > 1]
            size = math.prod(span.size for span in each)
            found.append(Span(size, min((span.stride for span in each), default=1)))
        return found

    def _on_torus(self, collective: Collective, spans: list[Span], size: int) -> float:
        link, hop = self.network.link, self.network.hop
        bandwidth, hops, across = 0.0, 0.0, 0.0
        for (places, stride), side in zip(spans, self.shape, strict=True):
            if places == 1:
                continue
            ring = places * stride == side and self.network.closes(side)
            # Groups that lie between one another's chips share the links.
            own = link * (2 if ring else 1) / stride
            bandwidth += own
            hops += stride * (places / 2 if ring else places - 1)
            across = max(across, places / (4 * own))
        if collective.kind == "collective-permute":
            return collective.nbytes / link + hop * max(s.stride for s in spans if s.size > 1)
        if collective.kind == "all-to-all":  # half of all crosses the middle of the longest side
            return collective.nbytes * across + hops * hop
        passes = 2 if collective.kind == "all-reduce" else 1
        once = collective.nbytes * (size - 1) / size / bandwidth + hops * hop
        return passes * once

    def _among_nodes(self, collective: Collective, spans: list[Span], size: int) -> float:
        network, nodes, inside = self.network, spans[0].size, spans[1].size
        share = network.network / network.node  # each GPU has its own adapter
        latency = network.peer * (inside - 1) + network.doubling * math.log2(nodes)
        if collective.kind == "collective-permute":
            fastest = share if nodes > 1 else network.nvlink
            return network.start + latency / 2 + collective.nbytes / fastest
        if collective.kind == "all-to-all":
            within = collective.nbytes * (inside - 1) / size / network.nvlink
            between = collective.nbytes * (size - inside) / size / share
            return network.start + latency / 2 + max(within, between)
        once = collective.nbytes * (inside - 1) / inside / network.nvlink
        once += collective.nbytes * (nodes - 1) / nodes / (share * inside)
        passes = 2 if collective.kind == "all-reduce" else 1
        return network.start + passes * (latency / 2 + once)

    def smaller(self) -> "Layout | None":
        """Return the layout of a machine with fewer chips, and a batch smaller by as much.

        Of the sides along which the batch is split, `data` first, the longest is cut by its
        smallest factor; of a cluster the nodes, and then the last of them.

        Returns:
            The layout, or None where the batch is not split any more.
        """
        for axis in BATCH:
            spans = self.axes[axis]
            sides = [i for i, span in enumerate(spans) if span.size > 1]
            if not sides:
                continue
            if isinstance(self.network, Torus):
                side = max(sides, key=lambda i: spans[i].size)
            else:
                side = sides[0]
            factor = next(n for n in range(2, spans[side].size + 1) if spans[side].size % n == 0)
            outer = spans[side].stride
            axes = {
                name: tuple(
                    _cut(span, name == axis, factor, outer) if i == side else span
                    for i, span in enumerate(each)
                )
                for name, each in self.axes.items()
            }
            shape = tuple(n // factor if i == side else n for i, n in enumerate(self.shape))
            return dataclasses.replace(self, shape=shape, axes=axes)
        return None


def _cut(span: Span, itself: bool, factor: int, outer: int) -> Span:
    if itself:
        return Span(span.size // factor, span.stride)
    # Those further apart come closer.
    return Span(span.size, span.stride // factor if span.stride > outer else span.stride)


def layout(mesh: Mesh, network: Torus | Nodes, shape: Sequence[int]) -> Layout:
    """Return where the axes of a mesh lie on the machine that its devices make up.

    Args:
        mesh: its devices have `coords`, or are numbered node by node.
        network: of the chips.
        shape: sides of the torus; or nodes, and GPUs of each.
    """
    if isinstance(network, Torus):
        places = [device.coords[: len(shape)] for device in mesh.devices.flat]
    else:
        ordered = sorted(mesh.devices.flat, key=lambda device: device.id)
        order = {device.id: i for i, device in enumerate(ordered)}
        places = [divmod(order[device.id], shape[-1]) for device in mesh.devices.flat]
    grid = np.array(places).reshape(*mesh.devices.shape, len(shape))
    axes = {}
    for i, axis in enumerate(mesh.axis_names):
        line = np.moveaxis(grid, i, 0).reshape(mesh.shape[axis], -1, len(shape))[:, 0]
        axes[axis] = _along([_span(line[:, side]) for side in range(len(shape))], len(line))
    return Layout(network, tuple(shape), axes)


def _along(spans: list[Span], size: int) -> tuple[Span, ...]:
    """Return the spans of an axis of so many devices; one that runs diagonally has one side."""
    kept, left = [Span()] * len(spans), size
    for side in sorted(range(len(spans)), key=lambda i: -spans[i].size):
        if left % spans[side].size == 0:
            kept[side] = spans[side]
            left //= spans[side].size
    return tuple(kept)


def _span(places: np.ndarray) -> Span:
    distinct = np.unique(places)
    return Span(len(distinct), int(np.diff(distinct).min()) if len(distinct) > 1 else 1)
