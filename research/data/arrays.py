"""Splits that lie in memory as arrays, and sequences of different lengths as such arrays."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from research.config import UserError
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

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal digits, of what the columns hold."""

        def measure() -> str:
            digest = hashlib.sha256()
            for name, column in sorted(self.columns.items()):
                digest.update(f"{name} {column.shape} {column.dtype}\0".encode())
                digest.update(np.ascontiguousarray(column).data)
            return digest.hexdigest()

        return self.remember("digest", measure)


def padded(
    name: str, sequences: Iterable[np.ndarray], length: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return sequences [T_i, ...] as one array [N, T, ...], zeros behind each, and their lengths.

    Args:
        name: of the set, for error messages.
        sequences: of one dtype, and of one shape but for the length.
        length: T; longer sequences are cut. 0 takes the longest.

    Returns:
        The array and int32[N], the lengths after the cut.

    Raises:
        UserError: a sequence without an element, or one with NaN or an infinity.
    """
    sequences = list(sequences)
    for i, sequence in enumerate(sequences):
        if not len(sequence):
            raise UserError(
                f"data.name: sequence {i} of {name} is empty, expected at least one element"
            )
        check_finite(name, f"sequence {i}", sequence)
    lengths = np.array([len(sequence) for sequence in sequences], np.int32)
    lengths = np.minimum(lengths, length or lengths.max())
    shape = (len(sequences), length or lengths.max(), *sequences[0].shape[1:])
    array = np.zeros(shape, sequences[0].dtype)
    for row, sequence, kept in zip(array, sequences, lengths, strict=True):
        row[:kept] = sequence[:kept]
    return array, lengths


def check_finite(name: str, what: str, values: np.ndarray) -> None:
    """Raise a `UserError` that says where `values`, [T, ...], are NaN or infinite."""
    if not np.issubdtype(values.dtype, np.floating) or np.isfinite(values).all():
        return
    place = np.argwhere(~np.isfinite(values))[0]
    where = f"step {place[0]}" + (f", channel {place[1]}" if len(place) > 1 else "")
    raise UserError(
        f"data.name: {what} of {name} holds {values[tuple(place)]} at {where} (counted from 0), "
        "expected finite numbers; fill the gap or leave the sequence out"
    )
