"""The collectives of a compiled program: what is sent, how often, and along which axes of the mesh.

for each in collectives(parse(compiled.as_text()), {"data": 4, "model": 2}):
    print(each.kind, each.nbytes, each.times, each.axes)
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from research.distributed.hlo import Computation, Op, Program

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Collective(NamedTuple):
    """One collective operation.

    Attributes:
        kind: one of `KINDS`.
        nbytes: of the array that each device holds where it is whole: of an all-reduce its operand,
            of an all-gather its result, of a reduce-scatter its operand; of the others what a
            device sends, its own part included.
        times: how often a step runs it.
        size: devices that take part together.
        axes: those of the mesh along which these lie.
        background: whether it has a beginning and an end of its own, with room for others between.
    """

    kind: str
    nbytes: int
    times: int
    size: int
    axes: tuple[str, ...]
    background: bool = False


def sent(found: Iterable[Collective]) -> int:
    """Return the bytes of all collectives of a step."""
    return sum(each.nbytes * each.times for each in found)


def collectives(program: Program, mesh: Mapping[str, int]) -> list[Collective]:
    """Return the collectives of a step, but for those of a device with itself.

    Args:
        program: as `hlo.parse` returns.
        mesh: axis → size, in the order in which the program's devices are numbered.

    Raises:
        ValueError: a form of groups that is not known here.
    """
    found, seen = [], set()
    devices = math.prod(mesh.values())
    for run in program.runs():
        for op, computation, background in _within(run.op, run.computation, program):
            # A TPU's compiler spreads one collective over several fusions; its channel tells. On a
            # CPU all those of a `shard_map` have one channel.
            channel = re.search(r"\bchannel_id=(\d+)", op.attributes)
            fused = channel and run.op.opcode == "fusion"
            key = (run.computation.name, channel[1] if fused else op.name)
            if key in seen:
                continue
            seen.add(key)
            members = groups(op, devices)
            if members.shape[1] < 2:
                continue
            kind = op.opcode.removesuffix("-start")
            if "all-reduce-scatter" in computation.name:
                kind = "reduce-scatter"
            nbytes = sum(computation.ops[name].nbytes for name in op.operands)
            nbytes *= members.shape[1] if kind == "all-gather" else 1
            axes = axes_of(members, mesh)
            found.append(Collective(kind, nbytes, run.times, members.shape[1], axes, background))
    return found


def _within(
    op: Op, computation: Computation, program: Program
) -> Iterator[tuple[Op, Computation, bool]]:
    """Yield the collectives that `op` is, or that a fusion holds."""
    if op.opcode.removesuffix("-start") in KINDS:
        yield op, computation, op.opcode.endswith("-start")
    elif op.opcode == "fusion" and (inside := program.computations.get(op.called("calls"))):
        background = any("AsyncCollective" in each.attributes for each in inside.ops.values())
        for each in inside.ops.values():
            for *found, _ in _within(each, inside, program):
                yield *found, background


def groups(op: Op, devices: int) -> np.ndarray:
    """Return which devices work together: [groups, size], their numbers."""
    text = op.attributes
    if pairs := re.search(r"source_target_pairs=\{(.*?)\}\}", text):
        return _listed(pairs[1])
    found = re.search(r"replica_groups=(.*)", text)
    form = found[1] if found else "{}"
    if form.startswith("{}"):
        return np.arange(devices)[None]
    if form.startswith("{{"):
        return _listed(form[: form.index("}}")])
    if form.startswith("mesh["):
        return _by_axes(form)
    if iota := re.match(_IOTA, form):
        return _iota(iota)
    raise ValueError(f"replica_groups: found {form[:60]!r}, expected lists, an iota, or a mesh")


_IOTA = r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?"


def _iota(match: re.Match) -> np.ndarray:
    """`[2,4]<=[4,2]T(1,0)`: the numbers from 0, shaped, transposed, and shaped again."""
    shape, source, order = (
        [int(n) for n in part.split(",")] if part else None for part in match.groups()
    )
    numbers = np.arange(math.prod(source)).reshape(source)
    return numbers.transpose(order).reshape(shape) if order else numbers.reshape(shape)


def _listed(text: str) -> np.ndarray:
    return np.array(
        [[int(n) for n in re.findall(r"\d+", part)] for part in text.split("}") if part]
    )


def _by_axes(form: str) -> np.ndarray:
    """`mesh['a'=2,'b'=4] {'b':(1)2}`: all devices along some axes, or parts of axes.

    `'b':(m)n` is the part of `b` of size n that turns after m, the product of those before.
    """
    inside = form[len("mesh[") : form.index("]")]
    sizes = {name: int(size) for name, size in re.findall(r"'?(\w+)'?=(\d+)", inside)}
    listed = re.search(r"\{([^}]*)\}", form)[1]
    iota = re.search(r"device_ids=\(?" + _IOTA, form)
    numbers = _iota(iota) if iota else np.arange(math.prod(sizes.values()))
    split, along = [], []  # sizes after each axis is cut into parts, and which parts are meant
    wanted: dict[str, list[tuple[int, int]]] = {}
    for name, before, size in re.findall(r"'?(\w+)'?(?::\((\d+)\)(\d+))?(?:,|$)", listed):
        wanted.setdefault(name, []).append((int(before or 1), int(size or sizes[name])))
    for name, whole in sizes.items():
        done = 1
        for before, size in sorted(wanted.get(name, [])):
            if before > done:
                split.append(before // done)
            along.append(len(split))
            split.append(size)
            done = before * size
        split.append(whole // done)
    order = [i for i in range(len(split)) if i not in along] + along
    size = math.prod(split[i] for i in along)
    return numbers.reshape(split).transpose(order).reshape(-1, size)


def axes_of(members: np.ndarray, mesh: Mapping[str, int]) -> tuple[str, ...]:
    """Return the axes of the mesh along which the members of some group differ.

    Example:
        >>> axes_of(np.array([[0, 1], [2, 3]]), {"data": 2, "model": 2})
        ('model',)
    """
    places = np.stack(np.unravel_index(members, tuple(mesh.values())))  # [axes, groups, size]
    differ = (places != places[:, :, :1]).any(axis=(1, 2))
    return tuple(axis for axis, differs in zip(mesh, differ, strict=True) if differs)
