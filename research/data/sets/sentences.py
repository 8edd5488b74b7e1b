"""Labelled sentences: opinions and questions."""

from research.config import UserError
from research.data import raw
from research.data.arrays import labelled, padded, steps_of
from research.data.dataset import Dataset, Options, divide
from research.data.text import Vocabulary

Labelled = tuple[list[str], list[int]]
MOST = {"word": 20_000, "space": 20_000, "char": 0, "bpe": 0}  # tokens, where none are asked for

# Name → the file of each split, and the classes.
POLARITY = ("negative", "positive")
FILES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "sst2": (
        {"train": "stsa.binary.train", "validation": "stsa.binary.dev", "test": "stsa.binary.test"},
        POLARITY,
    ),
    "sst5": (
        {"train": "stsa.fine.train", "validation": "stsa.fine.dev", "test": "stsa.fine.test"},
        ("very negative", "negative", "neutral", "positive", "very positive"),
    ),
    "trec": ({"train": "TREC.train.all", "test": "TREC.test.all"}, tuple("012345")),
    "movie_reviews": ({"train": "rt-polarity.all"}, POLARITY),
    "subjectivity": ({"train": "subj.all"}, ("objective", "subjective")),
    "customer_reviews": ({"train": "custrev.all"}, POLARITY),
    "mpqa": ({"train": "mpqa.all"}, POLARITY),
}


def open_sentences(name: str, options: Options) -> Dataset:
    """A set of Kim's: SST-2, SST-5, TREC's questions, movie reviews, subjectivity, …

    Y. Kim, Convolutional Neural Networks for Sentence Classification, EMNLP 2014; the sets are
    research releases of R. Socher et al. (SST), X. Li and D. Roth (TREC), B. Pang and L. Lee (movie
    reviews, subjectivity), M. Hu and B. Liu (customer reviews), J. Wiebe et al. (MPQA), which state
    no licence. `sentence_classification/*` of github.com/harvardnlp/sent-conv-torch: a line is a
    label, a space and a tokenised sentence, in Latin-1. A sentence without a word (the customer
    reviews have one) is left out.
    """
    files, class_names = FILES[name]
    parts = {part: _read(options.data_dir, file) for part, file in files.items()}
    return labelled_sentences(name, parts, class_names, options, "space")


def labelled_sentences(
    name: str,
    parts: dict[str, Labelled],
    class_names: tuple[str, ...],
    options: Options,
    kind: str,
) -> Dataset:
    """Return texts and their labels, by split, as sequences of tokens of the first's vocabulary."""
    if options.tokens not in ("auto", "word" if kind == "space" else kind):
        kind = options.tokens
    size = options.vocabulary_size or MOST[kind]
    vocabulary = Vocabulary.build(kind, parts["train"][0], size, lowercase=kind != "char")
    encoded = {part: [vocabulary.encode(t) for t in texts] for part, (texts, _) in parts.items()}
    steps = steps_of(name, options.length, encoded)
    splits = {}
    for part, sequences in encoded.items():
        inputs, length = padded(f"{name}, {part}", sequences, steps)
        splits[part] = labelled(name, inputs, length, parts[part][1], class_names)
    train = splits.pop("train")
    return Dataset(
        name, **divide(train, options, **splits), class_names=class_names, vocabulary=vocabulary
    )


def _read(data_dir: str | None, file: str) -> Labelled:
    path = raw.find(data_dir, "sentence_classification", file)
    texts, labels = [], []
    for number, line in enumerate(raw.read_lines(path, "latin-1"), start=1):
        label, space, text = line.partition(" ")
        if not (label.isdecimal() and space):
            raise UserError(
                f"{path}, line {number}: found {line[:40]!r}, expected a label, a space, a sentence"
            )
        if text.strip():
            texts.append(text)
            labels.append(int(label))
    return texts, labels
