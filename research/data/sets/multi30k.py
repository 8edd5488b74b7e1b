"""Pairs of sentences, for translation."""

import numpy as np

from research.config import UserError
from research.data import raw
from research.data.arrays import Arrays, padded, steps_of
from research.data.dataset import Dataset, Options, few
from research.data.text import EOS, Vocabulary

MOST = {"word": 8_000, "char": 0, "bpe": 0}  # tokens of either language, where none are asked for
FILES = {"train": "train", "validation": "val", "test": "test_2016_flickr"}

Pairs = tuple[list[str], list[str]]


def multi30k(languages: tuple[str, str], options: Options) -> Dataset:
    """Captions of 31,014 photographs in German and English: 29,000, 1,014 and 1,000 (2016).

    D. Elliott et al., Multi30K: Multilingual English-German Image Descriptions, Workshop on Vision
    and Language 2016; for research and education, not for commerce. `multi30k/train.de`, `val.de`,
    `test_2016_flickr.de` and the same in `.en` of github.com/multi30k/dataset, data/task1/raw.

    Args:
        languages: of the inputs and of the targets, `de` and `en` or the other way round.
        options: `length` is the most tokens of a sentence, its `EOS` counted.
    """
    parts = {}
    for part, file in FILES.items():
        paths = [raw.find(options.data_dir, "multi30k", f"{file}.{code}") for code in languages]
        lines = [raw.read_lines(path) for path in paths]
        if len(lines[0]) != len(lines[1]):
            raise UserError(
                f"{paths[0]}: found {len(lines[0])} lines, expected {len(lines[1])}, as many as "
                f"{paths[1]} has"
            )
        parts[part] = (lines[0], lines[1])
    return pairs(f"multi30k/{'-'.join(languages)}", parts, options)


def pairs(name: str, parts: dict[str, Pairs], options: Options) -> Dataset:
    """Return pairs of texts, by split, as pairs of sequences of tokens in lower case.

    An example is `inputs` int32[S], `length`, `targets` int32[T], `target_length`: ids, and `EOS`
    behind them. A vocabulary for each language, of its training texts.

    Raises:
        UserError: a text without a token.
    """
    kind = "word" if options.tokens == "auto" else options.tokens
    size = options.vocabulary_size or MOST[kind]
    vocabularies = [Vocabulary.build(kind, texts, size, lowercase=True) for texts in parts["train"]]
    columns: dict[str, dict[str, np.ndarray]] = {part: {} for part in parts}
    for side, (inputs, length) in enumerate((("inputs", "length"), ("targets", "target_length"))):
        encoded = {
            part: _encoded(vocabularies[side], f"{name}, {part}, {inputs}", both[side])
            for part, both in parts.items()
        }
        steps = steps_of(name, options.length, encoded)
        for part, sequences in encoded.items():
            array, lengths = padded(f"{name}, {part}", sequences, steps)
            array[lengths == steps, -1] = EOS  # of a sentence that was cut, too
            columns[part] |= {inputs: array, length: lengths}
    splits = {part: Arrays(name, held) for part, held in columns.items()}
    splits["train"] = few(splits["train"], options.train_size)
    return Dataset(
        name,
        task="translation",
        **splits,
        vocabulary=vocabularies[0],
        target_vocabulary=vocabularies[1],
        references={part: tuple(both[1]) for part, both in parts.items()},
    )


def _encoded(vocabulary: Vocabulary, what: str, texts: list[str]) -> list[np.ndarray]:
    """Return the ids of texts, `EOS` behind each."""
    found = [vocabulary.encode(text) for text in texts]
    for number, ids in enumerate(found, start=1):
        if not len(ids):
            raise UserError(f"{what}: line {number} is empty, expected at least one token")
    return [np.append(ids, np.int32(EOS)) for ids in found]
