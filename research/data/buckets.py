"""Batches of sequences of about one length, so that little of what is read is padding."""

import dataclasses
import math
from typing import Any

import numpy as np

from research.config import UserError
from research.data.split import Split

WINDOW = 32  # batches of the shuffled stream whose examples are sorted among themselves

Cuts = tuple[tuple[str, int], ...]  # by name, how many steps of an array are kept


@dataclasses.dataclass(frozen=True, eq=False)
class Buckets:
    """To how many steps the batches of a split of sequences are padded.

    Attributes:
        steps: ascending; the last is what all sequences fit in; () of one bucket: nothing is cut.
        lengths: int[N], the steps of each example: of its inputs or of its targets, if those have a
            length of their own and it is larger.
        names: of the arrays that are cut, [B, T, ...].
    """

    steps: tuple[int, ...]
    lengths: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, split: Split, count: int) -> "Buckets":
        """Divide the steps of a split evenly into `count` buckets.

        Example:
            >>> Buckets.of(Arrays("set", {"inputs": tokens, "length": length}), 3).steps
            (12, 24, 36)

        Raises:
            UserError: fewer than one bucket, or more than one of a split whose examples have no
                length, or of a stream, whose chunks follow each other.
        """
        if count < 1:
            raise UserError(f"data.buckets: found {count}, expected at least 1")
        if count == 1:
            return cls((), np.zeros(0, int), ())
        spec = split.spec
        if "length" not in spec or "start" in spec:
            raise UserError(
                f"data.buckets: found {count} with data.name={split.name!r}, whose examples are "
                f"{', '.join(spec)}; expected 1, or a set of sequences that each have a length"
            )
        names, lengths = ["inputs"], ["length"]
        if "target_length" in spec:
            names, lengths = [*names, "targets"], [*lengths, "target_length"]
        elif "targets" in spec and spec["targets"][0][:1] == spec["inputs"][0][:1]:
            names.append("targets")  # one for each step
        most = max(spec[name][0][0] for name in names)
        arrays = split.arrays()
        return cls(
            tuple(sorted({math.ceil(most * k / count) for k in range(1, count + 1)})),
            np.max([arrays[name] for name in lengths], axis=0),
            tuple(names),
        )

    def sort(self, indices: np.ndarray, batch_size: int, order: np.random.Generator) -> np.ndarray:
        """Return the batches [·, batch_size] of examples sorted by length, in a drawn `order`."""
        batches = indices[np.argsort(self.lengths[indices], kind="stable")].reshape(-1, batch_size)
        return order.permutation(batches)

    @property
    def cuts(self) -> tuple[Cuts, ...]:
        """What batches may be cut to, one for each of `steps`."""
        return tuple(tuple((name, steps) for name in self.names) for steps in self.steps)

    def fit(self, indices: np.ndarray) -> Cuts:
        """Return what the batch of these examples is cut to."""
        if not self.steps:
            return ()
        return self.cuts[np.searchsorted(self.steps, self.lengths[indices].max())]


def cut(batch: dict[str, Any], cuts: Cuts) -> dict[str, Any]:
    """Return a batch of arrays [B, T, ...] with no more than the steps that `cuts` name."""
    return batch | {name: batch[name][:, :steps] for name, steps in cuts}
