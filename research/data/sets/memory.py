"""Synthetic probes of memory, as in their papers: short to say, hard to remember.

Each is made by a fixed draw, the same for every seed; `data.length` is T, how long to remember, and
`data.train_size` how many examples there are to learn from. Lengths and alphabets are the papers';
a vocabulary has, beside its symbols, the four special tokens, which do not occur.

References:
    S. Hochreiter, J. Schmidhuber, Long Short-Term Memory, Neural Computation 9, 1997: adding
    (§5.4), temporal order (§5.6, experiment 6a).
    M. Arjovsky, A. Shah, Y. Bengio, Unitary Evolution Recurrent Neural Networks, ICML 2016: copying
    (§4.1), and adding as it is posed here (§4.2).
"""

from collections.abc import Callable

import numpy as np

from research.config import UserError
from research.data.arrays import Arrays
from research.data.dataset import Dataset, Options
from research.data.text import SPECIAL, Vocabulary

TRAIN, HELD_OUT = 50_000, 2_000  # examples
Columns = dict[str, np.ndarray]


def adding(rng: np.random.RandomState, size: int, steps: int) -> Columns:
    """Numbers in [0, 1), two of them marked, one in either half: what is their sum?

    Returns:
        `inputs` float32[N, T, 2] (number, mark), `length`, `target` float32[N]. To answer 1 always
        has the mean squared error 1/6.
    """
    marks = np.zeros((size, steps))
    half = steps // 2
    rows = np.arange(size)
    marks[rows, rng.randint(0, half, size)] = 1
    marks[rows, rng.randint(half, steps, size)] = 1
    numbers = rng.random_sample((size, steps)).astype(np.float32)
    inputs = np.stack([numbers, marks.astype(np.float32)], -1)
    return {
        "inputs": inputs,
        "length": np.full(size, steps, np.int32),
        "target": (numbers * marks).sum(1).astype(np.float32),
    }


COPIED = 10  # symbols to remember
COPY = Vocabulary("space", (*SPECIAL, "_", *"12345678", ">"))
BLANK, FIRST, GO = len(SPECIAL), len(SPECIAL) + 1, len(COPY) - 1  # ids


def copying(rng: np.random.RandomState, size: int, steps: int) -> Columns:
    """Ten symbols of eight, T − 1 blanks, a sign, ten blanks: the ten symbols again from the sign.

    Returns:
        `inputs` and `targets` int32[N, T + 20], ids of `COPY`, and `length`. `targets` are blank
        for the first T + 10 steps. Without memory the mean cross-entropy is 10·log 8/(T + 20).
    """
    symbols = rng.randint(FIRST, GO, (size, COPIED))
    inputs = np.full((size, steps + 2 * COPIED), BLANK, np.int32)
    targets = inputs.copy()
    inputs[:, :COPIED] = targets[:, -COPIED:] = symbols
    inputs[:, COPIED + steps - 1] = GO
    return {
        "inputs": inputs,
        "length": np.full(size, inputs.shape[1], np.int32),
        "targets": targets,
    }


ORDER = Vocabulary("space", (*SPECIAL, *"EBXYabcd"))
BEGIN, TRIGGER, X, DISTRACTOR = (ORDER.tokens.index(symbol) for symbol in "EBXa")
ORDERS = ("XX", "XY", "YX", "YY")


def temporal_order(rng: np.random.RandomState, size: int, steps: int) -> Columns:
    """Two signs, X or Y each, among distractors: which of the four orders was it?

    T to 1.1·T symbols, of which the first is E, the last B, the signs stand at T/10 to T/5 and at
    T/2 to 3·T/5, and the others are a, b, c or d.

    Returns:
        `inputs` int32[N, 1.1·T], ids of `ORDER`, `length` and `label` int32[N], of `ORDERS`.
    """
    longest = steps + steps // 10
    rows, length = np.arange(size), rng.randint(steps, longest + 1, size).astype(np.int32)
    inputs = rng.randint(DISTRACTOR, DISTRACTOR + 4, (size, longest)).astype(np.int32)
    signs = rng.randint(0, 2, (size, 2))
    for i, (low, high) in enumerate(((steps // 10, steps // 5), (steps // 2, 3 * steps // 5))):
        inputs[rows, rng.randint(low, high + 1, size)] = X + signs[:, i]
    inputs[:, 0], inputs[rows, length - 1] = BEGIN, TRIGGER
    inputs[np.arange(longest) >= length[:, None]] = 0
    return {"inputs": inputs, "length": length, "label": np.int32(2 * signs[:, 0] + signs[:, 1])}


def parity(rng: np.random.RandomState, size: int, steps: int) -> Columns:
    """T bits: is the number of ones odd?

    Returns:
        `inputs` float32[N, T, 1], 0 or 1, `length`, `label` int32[N], 1 for odd.
    """
    bits = rng.randint(0, 2, (size, steps))
    return {
        "inputs": bits[..., None].astype(np.float32),
        "length": np.full(size, steps, np.int32),
        "label": np.int32(bits.sum(1) % 2),
    }


# Name → what makes it, T by default, the shortest T, the vocabulary, the classes.
PROBES: dict[str, tuple[Callable[..., Columns], int, int, Vocabulary | None, tuple[str, ...]]] = {
    "adding": (adding, 200, 2, None, ()),
    "copying": (copying, 100, 1, COPY, ()),
    "temporal_order": (temporal_order, 100, 10, ORDER, ORDERS),
    "parity": (parity, 50, 1, None, ("even", "odd")),
}


def open_probe(name: str, options: Options) -> Dataset:
    """Make the probe `name` of `options.length` steps.

    Raises:
        UserError: fewer steps than the probe needs.
    """
    make, steps, shortest, vocabulary, class_names = PROBES[name]
    steps = options.length or steps
    if steps < shortest:
        raise UserError(
            f"data.length: found {steps} with data.name={name}, expected at least {shortest}"
        )
    sizes = {"train": options.train_size or TRAIN, "validation": HELD_OUT, "test": HELD_OUT}
    splits = {
        # RandomState, not Generator: NumPy promises that its stream never changes (NEP 19).
        part: Arrays(name, make(np.random.RandomState([seed, steps]), size, steps))
        for seed, (part, size) in enumerate(sizes.items())
    }
    task = {"adding": "regression", "copying": "tagging"}.get(name, "classification")
    return Dataset(name, **splits, task=task, class_names=class_names, vocabulary=vocabulary)
