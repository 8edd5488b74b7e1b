"""Sets of sequences by name: what there is, and what opens it.

The files of a set that is not made here are its authors', in a folder of `--data_dir`, compressed
or not; the docstring of what opens it says which, whose, and under what licence. All fit in memory
and are read in seconds, as they are: there is nothing to prepare, as there is for images.
"""

import difflib
from collections.abc import Callable
from functools import partial

from research.checks import check_range
from research.config import UserError, unknown
from research.data.dataset import Dataset, Options
from research.data.sets import (
    dna,
    ett,
    fsdd,
    jsb_chorales,
    language,
    multi30k,
    pen,
    sentences,
    toy,
    ucr,
)
from research.data.sets.memory import PROBES, open_probe
from research.data.stream import Stream

SEQUENCES: dict[str, Callable[[Options], Dataset]] = {
    # streams of tokens
    "tinyshakespeare": language.tinyshakespeare,
    **{f"gutenberg/{book}": partial(language.gutenberg, book) for book in language.BOOKS},
    "wikitext2": language.wikitext2,
    # lines to be tagged
    "tinyshakespeare/case": language.tinyshakespeare_case,
    # pairs of sentences
    "multi30k/de-en": partial(multi30k.multi30k, ("de", "en")),
    "multi30k/en-de": partial(multi30k.multi30k, ("en", "de")),
    # labelled sentences
    **{name: partial(sentences.open_sentences, name) for name in sentences.FILES},
    # sounds, series, music
    "fsdd": partial(fsdd.fsdd, ""),
    **{f"fsdd/{beside}": partial(fsdd.fsdd, beside) for beside in ("speaker", "image")},
    **{f"ett/{file}": partial(ett.ett, file) for file in ("h1", "h2", "m1", "m2")},
    **{
        f"jsb_chorales/{step}": partial(jsb_chorales.jsb_chorales, step)
        for step in ("quarter", "8th", "16th")
    },
    # handwriting, motion, heartbeats, DNA
    **{f"strokes/{which}": partial(pen.strokes, which) for which in pen.STROKES},
    "pendigits": pen.pendigits,
    **{f"ucr/{problem}": partial(ucr.ucr, problem) for problem in ucr.SETS},
    "ecg5000": ucr.ecg5000,
    "dna_enhancer": dna.dna_enhancer,
    # made here: small ones for each use, and synthetic probes
    **toy.TOYS,
    **{name: partial(open_probe, name) for name in PROBES},
}


def known(name: str) -> bool:
    """Whether `name` is, or seems to be, of a set of sequences."""
    families = {each.partition("/")[0] for each in SEQUENCES}
    family = name.partition("/")[0]
    return family in families or bool(difflib.get_close_matches(family, families, cutoff=0.9))


def load(name: str, options: Options) -> Dataset:
    """Open a set of sequences.

    Raises:
        UserError: an unknown name, a file that is missing or damaged, or an option that is out of
            range or that the set does not heed.
    """
    if name not in SEQUENCES:
        raise unknown("data.name", name, SEQUENCES)
    for field in ("length", "horizon", "vocabulary_size", "train_size"):
        check_range(f"data.{field}", getattr(options, field))
    dataset = SEQUENCES[name](options)
    streams = isinstance(dataset.train, Stream)
    forecasts = name.startswith("ett/") or name == "toy/series"
    text = dataset.vocabulary is not None and name not in PROBES
    for field, heeded in (
        ("train_size", not streams),
        ("horizon", forecasts),
        ("tokens", text),
        ("vocabulary_size", text),
    ):
        found = getattr(options, field)
        if found != getattr(Options, field) and not heeded:
            raise UserError(
                f"data.{field}: found {found!r} with data.name={name}, which does not heed it, "
                "expected it to be left out"
            )
    return dataset
