"""Texts as streams of tokens, for language models."""

import functools

import numpy as np

from research.config import UserError
from research.data import raw
from research.data.arrays import Arrays, padded, steps_of
from research.data.dataset import Dataset, Options, few
from research.data.stream import Stream
from research.data.text import EOS, Vocabulary

CHUNK = {"char": 100, "word": 35, "space": 35, "bpe": 50}  # tokens, where no length is asked for


def language(name: str, texts: dict[str, str], options: Options, kind: str) -> Dataset:
    """Return the texts of the three splits as streams over the vocabulary of the first.

    Words are read line by line, each with `EOS` behind it; characters and byte pairs as they are.

    Args:
        name: of the set.
        texts: `train`, `validation` and `test`.
        options: `length` is that of a chunk.
        kind: of the tokens that `auto` means; `space` makes `word` mean what stands between spaces.

    Raises:
        UserError: a text of fewer tokens than a chunk.
    """
    if options.tokens not in ("auto", "word" if kind == "space" else kind):
        kind = options.tokens
    vocabulary = Vocabulary.build(kind, [texts["train"]], options.vocabulary_size)
    chunk = options.length or CHUNK[kind]
    streams = {}
    for part, text in texts.items():
        streams[part] = Stream(name, tokens(vocabulary, text), chunk)
        if not len(streams[part]):
            raise UserError(
                f"data.length: found {chunk}, the tokens of a chunk, with data.name={name}, whose "
                f"{part} text has {len(streams[part].tokens)}; expected fewer"
            )
    return Dataset(name, **streams, task="language_model", vocabulary=vocabulary)


def tokens(vocabulary: Vocabulary, text: str, *, strict: bool = False) -> np.ndarray:
    """Return the ids of a text as a stream has them: of words, with `EOS` behind every line.

    Raises:
        UserError: `strict`, and the text has something that is not in the vocabulary.
    """
    if vocabulary.kind not in ("word", "space"):
        return vocabulary.encode(text, strict=strict)
    lines = [vocabulary.encode(t, strict=strict) for t in text.removesuffix("\n").split("\n")]
    return np.concatenate([np.append(line, np.int32(EOS)) for line in lines])


def capitals(name: str, texts: dict[str, str], options: Options) -> Dataset:
    """Return lines in lower case, to be tagged: `inputs` int32[T], `length`, `targets` int32[T].

    `targets` are 1 where a character of the text is a capital. Lines without a letter are left out.

    References:
        R. H. Susanto, H. L. Chieu, W. Lu, Learning to Capitalize with Character-Level Recurrent
        Neural Networks, EMNLP 2016.
    """
    if options.tokens not in ("auto", "char"):
        raise UserError(
            f"data.tokens: found {options.tokens!r} with data.name={name}, expected char: it is "
            "characters that are tagged"
        )
    lines = {
        part: [line for line in text.split("\n") if line.lower() != line.upper()]
        for part, text in texts.items()
    }
    vocabulary = Vocabulary.build("char", lines["train"], options.vocabulary_size, lowercase=True)
    steps = steps_of(name, options.length, lines)
    splits = {}
    for part, held in lines.items():
        inputs, length = padded(name, [vocabulary.encode(line) for line in held], steps)
        # A few capitals are two characters in lower case.
        marks = ([c.isupper() for c in line for _ in c.lower()] for line in held)
        capital = [np.array(line, np.int32) for line in marks]
        columns = {"inputs": inputs, "length": length, "targets": padded(name, capital, steps)[0]}
        splits[part] = Arrays(name, columns)
    splits["train"] = few(splits["train"], options.train_size)
    return Dataset(
        name,
        **splits,
        task="tagging",
        class_names=("small", "capital"),
        vocabulary=vocabulary,
    )


def cut(text: str, validation: float = 0.05, test: float = 0.05) -> dict[str, str]:
    """Return the end of a text as test, what is before it as validation, the rest as train."""
    ends = [round(len(text) * (1 - validation - test)), round(len(text) * (1 - test))]
    return {
        "train": text[: ends[0]],
        "validation": text[ends[0] : ends[1]],
        "test": text[ends[1] :],
    }


def tinyshakespeare(options: Options) -> Dataset:
    """The first 90 % to train on, 5 % for validation, the last 5 % for test, as TFDS divides it.

    1,115,394 characters of Shakespeare's plays, by A. Karpathy for "The Unreasonable Effectiveness
    of Recurrent Neural Networks", 2015; the text is in the public domain.
    `tinyshakespeare/input.txt` of github.com/karpathy/char-rnn.
    """
    return language("tinyshakespeare", cut(_shakespeare(options)), options, "char")


def tinyshakespeare_case(options: Options) -> Dataset:
    """The same text, line by line, in lower case: which letters were capitals?"""
    return capitals("tinyshakespeare/case", cut(_shakespeare(options)), options)


def _shakespeare(options: Options) -> str:
    return raw.read_text(raw.find(options.data_dir, "tinyshakespeare", "input.txt"))


BOOKS = {"moby_dick": "moby_dick_2701.txt", "war_and_peace": "war_and_peace_2600.txt"}


def gutenberg(book: str, options: Options) -> Dataset:
    """A novel, by its name in `BOOKS`: Moby Dick (0.2 million words), War and Peace (0.6).

    90 % to train on, then 5 % and 5 %. Project Gutenberg's text 2701 or 2600, in the public domain;
    what stands before and behind the book is left out. `gutenberg/moby_dick_2701.txt` or
    `gutenberg/war_and_peace_2600.txt`.
    """
    path = raw.find(options.data_dir, "gutenberg", BOOKS[book])
    lines = raw.read_lines(path)
    marks = [i for i, line in enumerate(lines) if line.startswith(("*** START OF", "*** END OF"))]
    if len(marks) != 2:
        raise UserError(
            f"{path}: found {len(marks)} lines that begin with '*** START OF' or '*** END OF', "
            "expected one of each, as Project Gutenberg marks a book"
        )
    text = "\n".join(lines[marks[0] + 1 : marks[1]]).strip() + "\n"
    return language(f"gutenberg/{book}", cut(text), options, "word")


def wikitext2(options: Options) -> Dataset:
    """Articles of Wikipedia, tokenised, rare words <unk>, in the splits of its authors.

    S. Merity et al., Pointer Sentinel Mixture Models, ICLR 2017; CC BY-SA 3.0.
    `wikitext2/train.txt`, `valid.txt` and `test.txt` of github.com/pytorch/examples.
    """
    files = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}
    read = functools.partial(raw.find, options.data_dir, "wikitext2")
    texts = {part: raw.read_text(read(file)) for part, file in files.items()}
    return language("wikitext2", texts, options, "space")
