"""What the operations of a compiled program compute and move through memory.

Floating-point operations are those of matrix products and convolutions, two for each multiply–add;
where a convolution looks at padding, or between the rows of a strided one's gradient, it multiplies
nothing. Bytes are what an operation reads of the device's memory and writes to it: a fusion its
operands and its result, but of an operand that it takes a slice from, or a result that it updates
in place, the slice alone. These are the rules of XLA's `HloCostAnalysis`, which prints no figure of
one operation, and counts the body of a loop once.
"""

import functools
import math
import re
from collections.abc import Sequence

import numpy as np

from research.distributed.hlo import Array, Computation, Op, Program

# They move nothing themselves: names of arrays, control flow, whose inside counts, and ends of what
# a `-start` began.
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "domain"),
    *(
        "partition-id",
        "replica-id",
        "opt-barrier",
        "while",
        "conditional",
        "call",
        "add-dependency",
    ),
}
SLICES = ("dynamic-slice", "slice", "gather")  # read what they return, not the whole operand


def flops(op: Op, computation: Computation, program: Program) -> int:
    """Return the floating-point operations of `op`, those within a fusion included."""
    if op.opcode in ("fusion", "async-start") and (name := op.called("calls")):
        inside = program.computations[name]
        return sum(flops(each, inside, program) for each in inside.ops.values())
    if op.opcode == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", op.attributes)
        left = computation.ops[op.operands[0]].arrays[0].shape
        depth = math.prod(left[int(i)] for i in contracted[1].split(",") if i) if contracted else 1
        return 2 * op.arrays[0].size * depth
    if op.opcode == "convolution":
        left, right = (computation.ops[name].arrays[0].shape for name in op.operands)
        return _convolution(op, left, right)
    return 0


def _convolution(op: Op, image: Sequence[int], kernel: Sequence[int]) -> int:
    """2 · positions at which kernel and image meet · channels in · channels out · images."""
    images, kernels, results = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", op.attributes).groups()
    window = re.search(r"window=\{([^}]*)\}", op.attributes)
    options = dict(part.split("=") for part in window[1].split()) if window else {}
    result = op.arrays[0].shape
    meetings = 1
    for i in range(len(images) - 2):
        label = str(i)
        low, _ = (int(pad) for pad in _part(options, "pad", i, "0_0").split("_"))
        meetings *= _meetings(
            image[images.index(label)],
            kernel[kernels.index(label)],
            result[results.index(label)],
            int(_part(options, "stride", i, "1")),
            low,
            int(_part(options, "lhs_dilate", i, "1")),
            int(_part(options, "rhs_dilate", i, "1")),
        )
    outputs = result[results.index("b")] * result[results.index("f")]
    return 2 * meetings * outputs * kernel[kernels.index("i")]


def _part(options: dict[str, str], name: str, i: int, default: str) -> str:
    return options[name].split("x")[i] if name in options else default


@functools.cache
def _meetings(
    image: int, kernel: int, result: int, stride: int, low: int, base: int, dilation: int
) -> int:
    """Return how many pairs of a result's place and a kernel's fall on a real pixel."""
    at = np.arange(result)[:, None] * stride + np.arange(kernel) * dilation - low
    return int(((at >= 0) & (at <= (image - 1) * base) & (at % base == 0)).sum())


def traffic(op: Op, computation: Computation, program: Program) -> int:
    """Return the bytes that `op` reads from memory and writes to it."""
    if op.opcode in FREE or op.opcode.endswith(("-done", "-update")):
        return 0
    operands = [computation.ops[name] for name in op.operands]
    if op.opcode.endswith("-start"):  # a copy between memories, or a slice: the lesser of the two
        moved = [array for array in op.arrays if array.nbytes > 4]
        return sum(2 * min(a.nbytes for a in moved) if _here([a]) else 0 for a in moved[:1])
    if op.opcode in SLICES:
        return _here(op.arrays) + min(_here(op.arrays, anywhere=True), _here(operands[0].arrays))
    if op.opcode == "dynamic-update-slice":
        return 2 * _here(operands[1].arrays)
    if op.opcode == "fusion":
        return _fusion(op, operands, program)
    return _here(op.arrays) + sum(_here(operand.arrays) for operand in operands)


def _here(arrays: Sequence[Array], anywhere: bool = False) -> int:
    """Bytes of the arrays that lie in the device's own memory."""
    return sum(array.nbytes for array in arrays if anywhere or array.space == 0)


def _fusion(op: Op, operands: list[Op], program: Program) -> int:
    inside = program.computations[op.called("calls")]
    total = 0
    for operand, name in zip(operands, inside.parameters(), strict=True):
        whole = _here(operand.arrays)
        read = _read(inside, name, program) if whole else 0
        total += whole if read is None else min(whole, read)
    root = inside.ops[inside.root]
    parts = [inside.ops[name] for name in root.operands] if root.opcode == "tuple" else [root]
    if len(parts) != len(op.arrays):
        return total + _here(op.arrays)
    for part, array in zip(parts, op.arrays, strict=True):
        source = _through_bitcasts(part, inside)
        if array.space:
            continue
        if source.opcode == "dynamic-update-slice":
            total += inside.ops[source.operands[1]].nbytes
        else:
            total += array.nbytes
    return total


def _through_bitcasts(op: Op, computation: Computation) -> Op:
    while op.opcode in ("bitcast", "copy", "reshape") and op.operands:
        op = computation.ops[op.operands[0]]
    return op


def _read(computation: Computation, name: str, program: Program) -> int | None:
    """Bytes read of an argument: of slices what they return, of what is updated in place none.

    None where all of it is read.
    """
    parts: list[int | None] = []
    for op in computation.ops.values():
        if name not in op.operands:
            continue
        if op.opcode in SLICES and op.operands[0] == name:
            parts.append(op.nbytes)
        elif op.opcode == "dynamic-update-slice" and op.operands[0] == name:
            continue
        elif op.opcode == "bitcast":
            parts.append(_read(computation, op.name, program))
        elif op.opcode == "fusion":
            inside = program.computations[op.called("calls")]
            for operand, parameter in zip(op.operands, inside.parameters(), strict=True):
                if operand == name:
                    parts.append(_read(inside, parameter, program))
        else:
            return None
    return None if None in parts else sum(parts)
