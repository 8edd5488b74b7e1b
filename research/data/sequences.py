"""Sets of sequences by name: what there is, and where each comes from.

`data.name` is a name of the table, where `<…>` stands for a variant: `ett/h1`. The files of a set
that is not made here are its authors', in `<data_dir>/<folder>`, compressed or not; the docstring
of its module says which, whose, and under what licence.
"""

import functools
from collections.abc import Callable

from research.config import unknown
from research.data import probes
from research.data.dataset import Dataset, Options

Open = Callable[[str, Options], Dataset]

# Name, without its variant → what opens it: `(variant, options) → Dataset`.
SEQUENCES: dict[str, Open] = {
    **{name: functools.partial(probes.open_probe, name) for name in probes.PROBES},
}


def known(name: str) -> bool:
    """Whether `name` is of a set of sequences."""
    return name.partition("/")[0] in SEQUENCES


def load(name: str, options: Options) -> Dataset:
    """Open a set of sequences.

    Raises:
        UserError: an unknown variant, a file that is missing or damaged, or what the set cannot do.
    """
    base, slash, variant = name.partition("/")
    if slash and not variant:
        raise unknown("data.name", name, [base])
    return SEQUENCES[base](variant, options)
