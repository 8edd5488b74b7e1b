"""Parameters by pattern: which are frozen, and how fast each learns.

A pattern is a glob over the paths of the parameters (`stage1_block1/conv1/kernel`), in which `*`
also stands for `/`; the path of a module means everything in it. A `!` before a pattern takes out
what it matches. Of several patterns that match, the last one counts:

    ("stem*", "stage1_*")   the lower layers
    ("*", "!head")          everything but the head: what is left is feature extraction
"""

import fnmatch
import functools
from collections.abc import Iterable, Sequence

from research.config import UserError, unknown


@functools.cache
def matches(pattern: str, path: str) -> bool:
    """Whether a pattern, less its `!`, means the parameter at `path`."""
    pattern = pattern.removeprefix("!")
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"{pattern}/*")


def is_frozen(freeze: Sequence[str], path: str) -> bool:
    """Whether the last of the patterns that mean `path` has no `!`.

    Example:
        >>> is_frozen(("*", "!head"), "stem/kernel"), is_frozen(("*", "!head"), "head/bias")
        (True, False)
    """
    meant = [pattern for pattern in freeze if matches(pattern, path)]
    return bool(meant) and not meant[-1].startswith("!")


def rate_of(rates: Sequence[tuple[str, float]], path: str) -> float:
    """Return the factor of the last pattern that means `path`, 1 where none does."""
    return ([1.0] + [factor for pattern, factor in rates if matches(pattern, path)])[-1]


def check(freeze: Sequence[str], rates: Sequence[tuple[str, float]], paths: Iterable[str]) -> None:
    """Check that every pattern means something, and that something is left to train.

    Raises:
        UserError: naming the field, the pattern and the nearest parameters.
    """
    paths = list(paths)
    known = dict.fromkeys(part for path in paths for part in (path.rpartition("/")[0], path))
    for field, patterns in (("freeze", freeze), ("rates", [pattern for pattern, _ in rates])):
        for pattern in patterns:
            if not any(matches(pattern, path) for path in paths):
                raise unknown(f"transfer.{field}", pattern, known)
    if paths and all(is_frozen(freeze, path) for path in paths):
        raise UserError(
            f"transfer.freeze: found {tuple(freeze)}, which leaves nothing to train, expected some "
            'parameters that are not frozen, such as ("*", "!head")'
        )
