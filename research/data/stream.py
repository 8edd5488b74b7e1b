"""One long sequence of tokens, read in chunks by parallel streams: truncated backpropagation."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from research.data.arrays import Arrays
from research.data.split import Split


@dataclasses.dataclass(frozen=True, eq=False)
class Stream(Split):
    """A text of T tokens, in which each token but the last is followed by one to predict.

    A batch of B rows is cut from B streams, which are B equal parts of the text; row b of the next
    batch goes on where row b of this one ends. So a model may carry its state from batch to batch,
    row by row, and must begin anew where `start` says so.

    An example is a chunk of L tokens:

        {"inputs": int32[L], "targets": int32[L], "length": int32, "start": bool}

    `targets` are the tokens one further on; both are zero from `length` on. `start`: whether the
    chunk opens its stream.

    Attributes:
        tokens: int32[T].
        chunk: L, over how many steps gradients reach back.

    References:
        R. J. Williams, J. Peng, An efficient gradient-based algorithm for on-line training of
        recurrent network trajectories, Neural Computation 2, 1990.
    """

    tokens: np.ndarray
    chunk: int

    def __len__(self) -> int:
        return max(0, len(self.tokens) - 1) // self.chunk

    @property
    def spec(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """The shape and the dtype of each array of a chunk."""
        tokens = ((self.chunk,), np.dtype(np.int32))
        length, start = ((), np.dtype(np.int32)), ((), np.dtype(bool))
        return {"inputs": tokens, "targets": tokens, "length": length, "start": start}

    def read(self, positions: Sequence[int]) -> dict[str, np.ndarray]:
        """Return chunks by their place in the text, each of which opens a stream of its own."""
        starts = np.asarray(positions, np.int64) * self.chunk
        return self._cut(starts, np.full(len(starts), self.chunk), np.ones(len(starts), bool))

    def rows(self, batch_size: int, *, whole: bool) -> Arrays:
        """Return the batches one after another: row `s · B + b` is chunk s of stream b.

        Args:
            batch_size: B.
            whole: every token is a target once, so that the last chunks are short, and may be of
                length 0; else all chunks are full, and what is left over is never seen.
        """

        def make() -> Arrays:
            targets = len(self.tokens) - 1
            sizes = np.full(batch_size, targets // batch_size)
            if whole:
                sizes[: targets % batch_size] += 1
            begins = np.cumsum(sizes) - sizes
            chunks = -(-sizes.max() // self.chunk) if whole else sizes[0] // self.chunk
            steps = np.arange(chunks)[:, None] * self.chunk
            lengths = np.clip(sizes - steps, 0, self.chunk)
            opens = np.broadcast_to(steps == 0, lengths.shape)
            return Arrays(
                self.name, self._cut((begins + steps).ravel(), lengths.ravel(), opens.ravel())
            )

        return self.remember(("rows", batch_size, whole), make)

    def _cut(self, begins: np.ndarray, lengths: np.ndarray, opens: np.ndarray):
        """Return the chunks that begin at some tokens, of some lengths."""
        steps = np.arange(self.chunk)
        places = np.minimum(begins[:, None] + steps, len(self.tokens) - 2)
        real = steps < lengths[:, None]
        return {
            "inputs": np.where(real, self.tokens[places], np.int32(0)),
            "targets": np.where(real, self.tokens[places + 1], np.int32(0)),
            "length": lengths.astype(np.int32),
            "start": opens.copy(),
        }

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal digits, of the tokens."""
        tokens = np.ascontiguousarray(self.tokens)
        return self.remember("digest", lambda: hashlib.sha256(tokens.data).hexdigest())
