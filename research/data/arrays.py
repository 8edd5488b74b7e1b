"""Splits that lie in memory as arrays, and sequences of different lengths as such arrays."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from research.config import UserError, unknown
from research.data.split import Split


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays(Split):
    """Examples of which each array is one row of a column.

    Attributes:
        columns: by name, arrays whose first dimension is that of the examples.
    """

    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def spec(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """The shape and the dtype of one row of each column."""
        return {name: (column.shape[1:], column.dtype) for name, column in self.columns.items()}

    def read(self, positions: Sequence[int]) -> dict[str, np.ndarray]:
        """Return some rows of every column."""
        rows = np.asarray(positions, np.int64)
        return {name: column[rows] for name, column in self.columns.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the columns."""
        return self.columns

    def part(self, positions: Sequence[int]) -> "Arrays":
        """Return the split of some examples."""
        return Arrays(self.name, self.read(positions))

    def beside(self, **columns: np.ndarray) -> "Arrays":
        """Return the split with further columns."""
        return Arrays(self.name, self.columns | columns)

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal digits, of what the columns hold."""

        def measure() -> str:
            digest = hashlib.sha256()
            for name, column in sorted(self.columns.items()):
                digest.update(f"{name} {column.shape} {column.dtype}\0".encode())
                digest.update(np.ascontiguousarray(column).data)
            return digest.hexdigest()

        return self.remember("digest", measure)


def padded(name: str, sequences: Sequence[np.ndarray], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sequences [T_i, ...] as one array [N, T, ...], zeros behind each, and their lengths.

    Args:
        name: of the set, for error messages.
        sequences: of one dtype, and of one shape but for the length.
        steps: T; longer sequences are cut.

    Returns:
        The array and int32[N], the lengths after the cut.

    Raises:
        UserError: a sequence without an element, or one with NaN or an infinity.
    """
    for i, sequence in enumerate(sequences):
        if not len(sequence):
            raise UserError(f"{name}: sequence {i} is empty, expected at least one element")
        check_finite(f"{name}: sequence {i}", sequence)
    array = np.zeros((len(sequences), steps, *sequences[0].shape[1:]), sequences[0].dtype)
    for row, sequence in zip(array, sequences, strict=True):
        row[: len(sequence)] = sequence[:steps]
    return array, np.array([min(len(sequence), steps) for sequence in sequences], np.int32)


def steps_of(name: str, length: int, parts: Mapping[str, Sequence]) -> int:
    """Return the steps that all sequences of all `parts` fit in, or `length`, if that is fewer.

    Raises:
        UserError: a part of the set `name` that has no sequence.
    """
    for part, sequences in parts.items():
        if not len(sequences):
            raise UserError(f"{name}, {part}: found no example, expected at least one")
    longest = max(len(sequence) for sequences in parts.values() for sequence in sequences)
    return min(length, longest) if length else longest


def check_finite(what: str, values: np.ndarray) -> None:
    """Raise a `UserError` that says where `values`, [T, ...], are NaN or infinite."""
    if not np.issubdtype(values.dtype, np.floating) or np.isfinite(values).all():
        return
    place = np.argwhere(~np.isfinite(values))[0]
    where = f"step {place[0]}" + (f", channel {place[1]}" if len(place) > 1 else "")
    raise UserError(
        f"{what} holds {values[tuple(place)]} at {where} (counted from 0), expected finite "
        "numbers; fill the gap or leave the sequence out"
    )


def labelled(
    name: str,
    inputs: np.ndarray,
    length: np.ndarray,
    labels: Sequence[int],
    class_names: Sequence[str],
) -> Arrays:
    """Return the split of padded sequences and their labels.

    Raises:
        UserError: a label without a name, or none to an example.
    """
    for i, label in enumerate(labels):
        if not 0 <= label < len(class_names):
            raise UserError(
                f"data.name: {name} has the label {label} (example {i}), expected 0 to "
                f"{len(class_names) - 1}"
            )
    label = np.asarray(labels, np.int32)
    return Arrays(name, {"inputs": inputs, "length": length, "label": label})


def following(name: str, targets: np.ndarray, length: np.ndarray) -> Arrays:
    """Return the split in which each step [N, T, D] is to be told from those before it."""
    inputs = np.zeros_like(targets)
    inputs[:, 1:] = targets[:, :-1]
    inputs[np.arange(targets.shape[1]) >= length[:, None]] = 0
    return Arrays(name, {"inputs": inputs, "length": length, "targets": targets})


def classes_of(name: str, found: Sequence[str], known: Sequence[str]) -> list[int]:
    """Return the positions of class names `found` among the `known`.

    Raises:
        UserError: one that is not known.
    """
    places = {each: i for i, each in enumerate(known)}
    for each in found:
        if each not in places:
            raise unknown(f"{name}: class", each, known)
    return [places[each] for each in found]


Scale = tuple[tuple[float, ...], tuple[float, ...]]


def standardised(
    name: str, parts: dict[str, list[np.ndarray]]
) -> tuple[dict[str, list[np.ndarray]], Scale]:
    """Return sequences [T, D] with mean 0 and deviation 1 in each channel of the training part.

    A channel that is constant there has its mean subtracted alone.

    Returns:
        The parts, and the means and deviations by which it was done.

    Raises:
        UserError: NaN or an infinity, which would spread to all, or another number of channels.
    """
    channels = parts["train"][0].shape[1]
    for part, sequences in parts.items():
        for i, sequence in enumerate(sequences):
            if sequence.shape[1] != channels:
                raise UserError(
                    f"{name}, {part}: sequence {i} has {sequence.shape[1]} channels, expected "
                    f"{channels}, as the first of train"
                )
            check_finite(f"{name}, {part}: sequence {i}", sequence)
    train = np.concatenate(parts["train"]).astype(np.float64)
    mean, std = train.mean(0), train.std(0)
    std = np.where(std > 0, std, 1)
    scaled = {
        part: [np.float32((sequence - mean) / std) for sequence in sequences]
        for part, sequences in parts.items()
    }
    return scaled, (tuple(mean.tolist()), tuple(std.tolist()))
