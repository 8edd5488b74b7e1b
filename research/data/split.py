"""A split: examples by position, each a dict of named arrays of one shape."""

import dataclasses
import math
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Random access to the examples of one split; what kinds there are say how they are read.

    Safe to use from several threads. Pickles without what it remembers, so workers can take it.

    Attributes:
        name: the dataset's name, for error messages.
    """

    name: str
    _memory: dict = dataclasses.field(default_factory=dict, init=False, repr=False)
    _lock: Any = dataclasses.field(default_factory=threading.RLock, init=False, repr=False)

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def spec(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """The shape and the dtype of each array of one example, by name."""
        raise NotImplementedError

    def read(self, positions: Sequence[int]) -> dict[str, np.ndarray]:
        """Return some examples, as arrays whose first dimension is theirs."""
        raise NotImplementedError

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the whole split, read once."""
        return self.remember("arrays", lambda: self.read(range(len(self))))

    def labels(self) -> np.ndarray:
        """Return the array `label` alone."""
        return self.arrays()["label"]

    def remember(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return `make()`, computed once per key for the life of this object."""
        with self._lock:  # one thread decodes or uploads, the others wait for what it made
            if key not in self._memory:
                self._memory[key] = make()
            return self._memory[key]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays of all examples."""
        return len(self) * sum(math.prod(s) * dtype.itemsize for s, dtype in self.spec.values())

    def __reduce__(self):
        fields = (f.name for f in dataclasses.fields(self) if f.init)
        return type(self), tuple(getattr(self, name) for name in fields)
