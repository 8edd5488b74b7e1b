"""What is known of chips and of the networks between them; `chips.json` says from where."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

DATA = json.loads(Path(__file__).with_name("chips.json").read_text(encoding="utf-8"))


@dataclasses.dataclass(frozen=True)
class Torus:
    """Chips in rows, each linked with its neighbours along every side.

    Attributes:
        link: bytes/s that a link carries one way.
        hop: seconds from one chip to the next.
        wraps: which sides close to a ring: those of 16 chips, or of a multiple of 4.
    """

    link: float
    hop: float
    wraps: str

    def closes(self, side: int) -> bool:
        """Whether a side of so many chips is a ring."""
        return side == 16 if self.wraps == "16" else side % 4 == 0


@dataclasses.dataclass(frozen=True)
class Nodes:
    """GPUs in nodes: a switch within each, a network between them.

    Attributes:
        node: GPUs of one.
        nvlink: bytes/s that a GPU sends to the others of its node.
        network: bytes/s that a node sends to others.
        start: seconds that any collective takes.
        peer: seconds more for each other GPU of the node.
        doubling: seconds more for each doubling of the nodes.
    """

    node: int
    nvlink: float
    network: float
    start: float = 0.0
    peer: float = 0.0
    doubling: float = 0.0


@dataclasses.dataclass(frozen=True)
class Chip:
    """A chip and its network.

    Attributes:
        name: `v5e`, `h100`, …
        flops: dtype → the most floating-point operations per second, of matrix products.
        memory: bytes.
        bandwidth: bytes/s to and from that memory.
        network: how such chips are linked.
        sides: of its torus; 0 for nodes.
        pod: the largest torus.
        sources: of these figures.
    """

    name: str
    flops: Mapping[str, float]
    memory: float
    bandwidth: float
    network: Torus | Nodes
    sides: int = 0
    pod: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()


def _tpu(name: str, facts: dict) -> Chip:
    network = Torus(facts["link"], facts["hop"], facts["wraps"])
    return Chip(
        name,
        facts["flops"],
        facts["memory"],
        facts["bandwidth"],
        network,
        facts["sides"],
        tuple(facts["pod"]),
        tuple(DATA["sources"][source] for source in facts["sources"]),
    )


def _gpu(name: str, facts: dict) -> Chip:
    network = Nodes(facts["node"], facts["nvlink"], facts["network"], **facts["latency"])
    return Chip(
        name,
        facts["flops"],
        facts["memory"],
        facts["bandwidth"],
        network,
        sources=tuple(DATA["sources"][source] for source in facts["sources"]),
    )


CHIPS = {name: _tpu(name, facts) for name, facts in DATA["tpu"].items()}
CHIPS |= {name: _gpu(name, facts) for name, facts in DATA["gpu"].items()}

# What JAX calls a device, in part → its chip.
_KINDS = {"TPU v4": "v4", "TPU v5 lite": "v5e", "TPU v5e": "v5e", "TPU v5": "v5p"}
_KINDS |= {"TPU v6": "v6e", "A100": "a100", "H100": "h100", "H200": "h200"}


def peak_flops(device_kind: str, precision: str) -> float | None:
    """Return the floating-point operations per second that a device can do at most.

    Args:
        device_kind: as JAX says it, `device.device_kind`.
        precision: `train.precision`.

    Returns:
        None for a device that is not known here, a CPU above all, and for what it cannot do.
    """
    name = next((name for kind, name in _KINDS.items() if kind in device_kind), None)
    return CHIPS[name].flops.get(precision) if name else None
