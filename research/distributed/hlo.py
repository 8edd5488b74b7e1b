"""A compiled program as XLA prints it: its operations, and how often each one runs.

`compiled.as_text()` is read into computations; `runs` goes through them from the entry, into loops
as often as they turn. XLA's own `cost_analysis` counts the body of a loop once.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16}  # others end in their number: f32, s8, c64


class Array(NamedTuple):
    """The type of one array: of a tuple, each part is one."""

    dtype: str
    shape: tuple[int, ...]
    space: int = 0  # of memory; 0 is the device's own (HBM), others lie on the chip

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes they take."""
        found = re.match(r"[a-z]+(\d+)", self.dtype)
        bits = BITS.get(self.dtype, int(found[1]) if found else 0)
        return -(-self.size * bits // 8)


class Op(NamedTuple):
    """An instruction: `%name = arrays opcode(operands), attributes`."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    argument: str  # what stands in the brackets, where that is no name: of constants, parameters

    def called(self, attribute: str) -> str:
        """Return the name of the computation that stands behind `attribute=`; "" for none."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.attributes)
        return found[1] if found else ""

    @property
    def index(self) -> int:
        """Of a get-tuple-element: which one."""
        return int(re.search(r"\bindex=(\d+)", self.attributes)[1])

    @property
    def nbytes(self) -> int:
        """Bytes of its result."""
        return sum(array.nbytes for array in self.arrays)


class Computation(NamedTuple):
    """A function of the program: its instructions by name, in order, and the one it returns."""

    name: str
    ops: dict[str, Op]
    root: str

    def parameters(self) -> list[str]:
        """Return the names of its arguments in order."""
        found = {int(op.argument): op.name for op in self.ops.values() if op.opcode == "parameter"}
        return [found[i] for i in sorted(found)]


class Run(NamedTuple):
    """An instruction, where it stands, and how often a call of the program runs it."""

    op: Op
    computation: Computation
    times: int


class Program(NamedTuple):
    """What a compiled program is made of."""

    computations: dict[str, Computation]
    entry: str

    def runs(self) -> Iterator[Run]:
        """Go through the instructions, those of a fusion as the one that they are.

        A loop whose length is not to be seen counts once, each branch of a conditional as taken.
        """
        yield from self._runs(self.computations[self.entry], 1)

    def _runs(self, computation: Computation, times: int) -> Iterator[Run]:
        for op in computation.ops.values():
            yield Run(op, computation, times)
            for name, often in self._callees(op):
                if name in self.computations:
                    yield from self._runs(self.computations[name], times * often)

    def _callees(self, op: Op) -> list[tuple[str, int]]:
        if op.opcode == "while":
            turns = self.turns(op) or 1
            return [(op.called("body"), turns), (op.called("condition"), turns + 1)]
        if op.opcode == "call":
            return [(op.called("to_apply"), 1)]
        if op.opcode == "async-start":
            return [(op.called("calls"), 1)]
        if op.opcode == "conditional":
            listed = re.search(r"branch_computations=\{([^}]*)\}", op.attributes)
            names = listed[1].replace("%", "").split(", ") if listed else []
            names += [op.called(f"{truth}_computation") for truth in ("true", "false")]
            return [(name, 1) for name in names if name]
        return []

    def turns(self, loop: Op) -> int | None:
        """Return how often a `while` turns; None where it is not to be seen.

        XLA notes it, or compares a counter from 0 with a constant; it need not count by ones.
        """
        if found := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
            return int(found[1])
        condition = self.computations[loop.called("condition")]
        root = condition.ops[condition.root]
        compared = root
        if root.opcode == "fusion":
            inner = self.computations[root.called("calls")]
            compared = inner.ops[inner.root]
        if compared.opcode != "compare" or "direction=LT" not in compared.attributes:
            return None
        operands = [condition.ops[name] for name in root.operands]
        limits = [_constant(op) for op in operands if _constant(op)]
        counters = [op.index for op in operands if op.opcode == "get-tuple-element"]
        if len(limits) != 1 or len(counters) != 1:
            return None
        body = self.computations[loop.called("body")]
        after = body.ops[body.ops[body.root].operands[counters[0]]]
        steps = [_constant(body.ops[name]) for name in after.operands]
        if after.opcode != "add" or len(found := [step for step in steps if step]) != 1:
            return None
        return -(-limits[0] // found[0])

    def unknown_loops(self) -> int:
        """Return how many loops count once for want of a length."""
        return sum(run.op.opcode == "while" and self.turns(run.op) is None for run in self.runs())


def _constant(op: Op) -> int:
    """Return the number that `op` is; 0 where it is none above 0."""
    return int(op.argument) if op.opcode == "constant" and op.argument.isdigit() else 0


_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?")


def parse(text: str) -> Program:
    """Read what `compiled.as_text()` returns."""
    computations, entry = {}, ""
    name, ops, root = "", {}, ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            name, ops, root = head[2], {}, ""
            entry = name if head[1] else entry
        elif line.startswith("}") and name:
            computations[name] = Computation(name, ops, root or next(reversed(ops)))
            name = ""
        elif name and (match := _LINE.match(line)):
            op = _op(match[2], line[match.end() :])
            ops[op.name] = op
            root = op.name if match[1] else root
    return Program(computations, entry)


def _op(name: str, text: str) -> Op:
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    opened = text.index("(", end)
    closed = _closing(text, opened)
    inside = text[opened + 1 : closed]
    return Op(
        name=name,
        opcode=text[end:opened].strip(),
        arrays=arrays(text[:end]),
        operands=tuple(re.findall(r"%([\w.\-]+)", inside)),
        attributes=text[closed + 1 :],
        argument="" if "%" in inside else inside,
    )


def arrays(text: str) -> tuple[Array, ...]:
    """Return the arrays of a printed type, those of tuples within a tuple side by side."""
    found = []
    for dtype, shape, layout in _ARRAY.findall(text):
        space = re.search(r"S\((\d+)\)", layout)
        sizes = tuple(int(size.lstrip("<=")) for size in shape.split(",") if size)
        found.append(Array(dtype, sizes, int(space[1]) if space else 0))
    return tuple(found)


def _closing(text: str, at: int) -> int:
    """Return where the bracket at `at` closes."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, at):
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return match.start()
    raise ValueError(f"found no closing bracket in {text[at : at + 80]!r}")
