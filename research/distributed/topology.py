"""Machines by name: `v5e:16x16`, a torus of TPUs; `h100:32x8`, nodes of GPUs; `host:4`, this one.

A program for TPUs is compiled by TPUs' own compiler, which needs none of them (the package
`libtpu`). For GPUs there is no such thing without one: for them it is compiled as for as many
devices of this machine's CPU, which tells the arithmetic and the collectives, but not what a GPU's
compiler would fuse or keep in memory.
"""

import dataclasses
import importlib.util
import math
from collections.abc import Sequence

import jax

from research.config import UserError, nearest
from research.distributed.chips import CHIPS, Chip, Nodes, Torus
from research.distributed.startup import settle_libtpu

# The devices of this machine, whose figures are to be measured.
HOST = Chip("host", {}, 0, 0, Nodes(2048, 0, 0))
MOST = 2048  # chips of a torus or a cluster that is planned for


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips and how they are arranged.

    Attributes:
        name: as given.
        chip: of which they all are.
        shape: the sides of the torus; or nodes, and GPUs of each.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many chips there are."""
        return math.prod(self.shape)

    @property
    def platform(self) -> str:
        """What programs are traced for: tpu or gpu."""
        if self.chip.name == "host":
            return jax.default_backend()
        return "tpu" if isinstance(self.chip.network, Torus) else "gpu"

    @property
    def compiled(self) -> bool:
        """Whether the chips' own compiler is at hand, which says what they would really do."""
        return self.chip.name == "host" or isinstance(self.chip.network, Torus)

    @property
    def host_devices(self) -> int:
        """How many devices of the host's CPU it is compiled for."""
        return self.size if isinstance(self.chip.network, Nodes) else 1

    def devices(self) -> Sequence[jax.Device]:
        """Return what to compile for, in the order of their places.

        Raises:
            UserError: there is no libtpu, or the host has fewer devices than the cluster GPUs.
        """
        if isinstance(self.chip.network, Nodes):
            devices = jax.devices() if self.chip.name == "host" else jax.devices("cpu")
            if len(devices) < self.size:
                raise UserError(
                    f"--topology: {self.name} is compiled for {self.size} devices of the host, "
                    f"found {len(devices)}; if XLA_FLAGS or JAX_NUM_CPU_DEVICES say so, expected "
                    "them to be left out"
                )
            return devices[: self.size]
        if importlib.util.find_spec("libtpu") is None:
            raise UserError(
                f"--topology: {self.name} needs the compiler of TPUs, found none; "
                'pip install "ablate[plan]"'
            )
        from jax.experimental import topologies

        settle_libtpu()
        # Two cores of a v4 work as one device, as those of later chips do by themselves.
        together = {"chip_config_name": "megacore"} if self.chip.name == "v4" else {}
        try:
            described = topologies.get_topology_desc(
                platform="tpu", topology_name=self.name, **together
            )
        except (RuntimeError, ValueError) as error:
            problem = str(error).splitlines()[0]
            raise UserError(
                f"--topology: found {self.name!r}, which libtpu refuses: {problem}"
            ) from None
        return described.devices


def parse_topology(name: str) -> Topology:
    """Return the topology called `name`.

    Example:
        >>> parse_topology("v5p:8x16x16").size
        2048

    Raises:
        UserError: an unknown chip or a shape that cannot be, with the nearest that can.
    """
    kind, _, sides = name.partition(":")
    if kind == "host" and sides.isdigit() and 0 < int(sides) <= MOST:
        return Topology(name, HOST, (1, int(sides)))
    examples = "such as v5e:16x16, v5p:8x16x16, h100:32x8 or host:1"
    if kind not in CHIPS:
        known = ", ".join([*CHIPS, "host"])
        raise UserError(
            f"--topology: found {name!r}, expected one of the chips {known} and its shape, "
            f"{examples}{nearest(kind, CHIPS)}"
        )
    chip = CHIPS[kind]
    parts = sides.split("x")
    shape = tuple(int(part) for part in parts if part.isdigit())
    wanted = chip.sides or 2
    if len(shape) != len(parts) or len(shape) != wanted or not all(shape):
        what = f"{wanted} sides" if chip.sides else "nodes and the GPUs of each"
        raise UserError(f"--topology: found {name!r}, expected {kind}:{what}, {examples}")
    fitting = _nearest_shape(chip, shape)
    if fitting != shape:
        told = f"sides that are multiples of {_spell(_least(chip))}, up to {_spell(chip.pod)}"
        if isinstance(chip.network, Nodes):
            told = f"nodes of up to {chip.network.node}"
        told += f" and {MOST} chips in all"
        raise UserError(
            f"--topology: found {name!r}, expected {told}; nearest: {kind}:{_spell(fitting)}"
        )
    return Topology(name, chip, shape)


def _least(chip: Chip) -> tuple[int, ...]:
    """The chips of one host, of which a topology is made."""
    return (2, 2, 1)[: chip.sides]


def _nearest_shape(chip: Chip, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape if it can be, else the closest that can."""
    if isinstance(chip.network, Nodes):
        gpus = min(shape[1], chip.network.node)
        return min(shape[0], MOST // gpus), gpus
    found = [
        max(unit, min(round(side / unit) * unit, limit // unit * unit))
        for side, unit, limit in zip(shape, _least(chip), _fit(chip, shape), strict=True)
    ]
    while math.prod(found) > MOST:
        largest = found.index(max(found))
        found[largest] -= _least(chip)[largest]
    return tuple(found)


def _fit(chip: Chip, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The pod's sides in the order of the shape's, the longest for the longest."""
    order = sorted(range(len(shape)), key=lambda i: shape[i])
    limits = dict(zip(order, sorted(chip.pod), strict=True))
    return tuple(limits[i] for i in range(len(shape)))


def _spell(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
