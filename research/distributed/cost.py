"""How long a step takes, by the roofline of its operations and the time of its collectives.

On its own a chip takes for each operation the longer of two times: that of the arithmetic at the
chip's peak, and that of the traffic at its memory's bandwidth (the roofline: S. Williams, A.
Waterman, D. Patterson, Roofline: An Insightful Visual Performance Model, CACM 2009). Collectives
are added to this, as though none overlapped with anything; the step takes no less than the longer
of both, were they to overlap wholly. No chip reaches its peak, so that the network's share of a
real step is smaller than it is here.
"""

import dataclasses
from collections.abc import Sequence

from research.config import UserError
from research.distributed.chips import Chip
from research.distributed.collectives import Collective
from research.distributed.hlo import Program
from research.distributed.network import Layout
from research.distributed.work import flops, traffic


@dataclasses.dataclass(frozen=True)
class Work:
    """What a chip does in a step.

    Attributes:
        flops: floating-point operations of products and convolutions.
        nbytes: read from memory and written to it.
        seconds: the sum over operations of the longer of two times.
        unknown_loops: loops counted once for want of a length.
    """

    flops: int
    nbytes: int
    seconds: float
    unknown_loops: int = 0


def peak(chip: Chip, precision: str) -> float:
    """Return the floating-point operations per second of a chip at a `train.precision`.

    Raises:
        UserError: it has no such arithmetic.
    """
    if precision not in chip.flops:
        raise UserError(
            f"train.precision: found {precision!r}, for which {chip.name} has no unit; expected "
            f"one of {', '.join(chip.flops)}"
        )
    return chip.flops[precision]


def work(program: Program, chip: Chip, precision: str) -> Work:
    """Return what one chip does in one call of the program, loops as often as they turn."""
    fastest = peak(chip, precision)
    total_flops, total_bytes, seconds = 0, 0, 0.0
    for op, computation, times in program.runs():
        operations = flops(op, computation, program)
        moved = traffic(op, computation, program)
        total_flops += times * operations
        total_bytes += times * moved
        seconds += times * max(operations / fastest, moved / chip.bandwidth)
    return Work(total_flops, total_bytes, seconds, program.unknown_loops())


@dataclasses.dataclass(frozen=True)
class Cost:
    """The seconds of a step.

    Attributes:
        compute: arithmetic alone, at the chip's peak.
        memory: traffic alone, at its memory's bandwidth.
        chip: both, operation by operation.
        network: axes of the mesh → the collectives along them.
    """

    compute: float
    memory: float
    chip: float
    network: dict[tuple[str, ...], float]

    @property
    def communication(self) -> float:
        """Seconds of all collectives."""
        return sum(self.network.values())

    @property
    def step(self) -> float:
        """Seconds of a step in which nothing overlaps with a collective."""
        return self.chip + self.communication

    @property
    def overlapped(self) -> float:
        """Seconds of a step in which all that can does."""
        return max(self.chip, self.communication)

    @property
    def bound(self) -> str:
        """Which takes longest."""
        times = {"compute": self.compute, "memory": self.memory, "network": self.communication}
        return max(times, key=times.get)


def cost(
    done: Work,
    collectives: Sequence[Collective],
    chip: Chip,
    precision: str,
    layout: Layout,
    *,
    rows: float = 1.0,
    state_bytes: int = 0,
) -> Cost:
    """Return the seconds of a step.

    Args:
        done: by one chip.
        collectives: of the step.
        chip: that does it.
        precision: of the computation.
        layout: of the mesh on the machine.
        rows: how many times the compiled program's rows of the batch each chip has. The work goes
            with them, but for reading and writing the state once, and so do collectives along
            `model` alone, which are of activations.
        state_bytes: of parameters and optimiser on each chip.
    """
    fixed = min(2 * state_bytes / chip.bandwidth, done.seconds)
    network: dict[tuple[str, ...], float] = {}
    for each in collectives:
        if each.axes == ("model",):
            each = each._replace(nbytes=each.nbytes * rows)
        seconds = each.times * layout.seconds(each)
        if seconds:
            network[each.axes] = network.get(each.axes, 0.0) + seconds
    return Cost(
        compute=rows * done.flops / peak(chip, precision),
        memory=fixed + rows * max(done.nbytes / chip.bandwidth - fixed, 0),
        chip=fixed + rows * (done.seconds - fixed),
        network=network,
    )


@dataclasses.dataclass(frozen=True)
class Point:
    """One size of a scaling curve: chips, seconds of a step, and the share of the ideal speed."""

    chips: int
    seconds: float
    efficiency: float


def weak_scaling(
    done: Work, collectives: Sequence[Collective], chip: Chip, precision: str, layout: Layout
) -> list[Point]:
    """Return how the step slows down with more chips, each with the same rows of the batch.

    From the fewest chips that hold the model: as many as `model` has.
    """
    costs = [
        (each.size, cost(done, collectives, chip, precision, each).step) for each in _sizes(layout)
    ]
    return [Point(size, seconds, costs[0][1] / seconds) for size, seconds in costs]


def strong_scaling(
    done: Work,
    collectives: Sequence[Collective],
    chip: Chip,
    precision: str,
    layout: Layout,
    state_bytes: int,
) -> list[Point]:
    """Return how the step speeds up with more chips, the batch of all together the same."""
    costs = [
        (
            each.size,
            cost(
                done,
                collectives,
                chip,
                precision,
                each,
                rows=layout.size / each.size,
                state_bytes=state_bytes,
            ).step,
        )
        for each in _sizes(layout)
    ]
    fewest, longest = costs[0]
    return [Point(n, seconds, longest * fewest / (n * seconds)) for n, seconds in costs]


def _sizes(layout: Layout) -> list[Layout]:
    """The machine and smaller ones, from the smallest."""
    found = [layout]
    while smaller := found[0].smaller():
        found.insert(0, smaller)
    return found


def largest_batch(memory: float, arguments: int, temporaries: int, batch: int, rows: int) -> int:
    """Return how many rows of a batch fit on a chip.

    Memory is affine in the rows: what holds the state, and what grows with the batch. Of one
    compilation all temporaries are taken to grow, though gradients do not: it errs to small.

    Args:
        memory: of the chip, in bytes.
        arguments: bytes of the state and of the batch.
        temporaries: bytes of what a step needs beside them.
        batch: bytes of the batch among the arguments.
        rows: of that batch.
    """
    state = arguments - batch
    return max(0, int((memory - state) * rows / max(temporaries + batch, 1)))
