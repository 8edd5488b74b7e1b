"""Text and back: vocabularies of characters, words or pairs of bytes.

vocabulary = Vocabulary.build("word", ["the cat sat on the mat"])
vocabulary.encode("the dog")  # int32[2], the second of them UNK
"""

import collections
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.config import UserError, unknown
from research.files import read_json, write_json

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(4)
KINDS = ("char", "word", "space", "bpe")
BPE_SIZE = 8000  # tokens, where none is asked for


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens that a text is made of, each with an id.

    The first four ids are `PAD`, `BOS` (begin), `EOS` (end) and `UNK` (what is not known).

    Attributes:
        kind: `char`; `word`, words and single signs between them; `space`, what stands between
            spaces, for text that has been tokenised already; `bpe`, pairs of bytes.
        tokens: by id.
        lowercase: whether text is put in lower case first.
        merges: `bpe`: the model, as `tokenizers` writes it.

    References:
        R. Sennrich, B. Haddow, A. Birch, Neural Machine Translation of Rare Words with Subword
        Units, ACL 2016 (bpe).
    """

    kind: str
    tokens: tuple[str, ...]
    lowercase: bool = False
    merges: str = ""

    @staticmethod
    def build(
        kind: str, texts: Iterable[str], size: int = 0, *, lowercase: bool = False
    ) -> "Vocabulary":
        """Make the vocabulary of some texts.

        Args:
            kind: in `KINDS`.
            texts: the training texts, and nothing else.
            size: the most tokens that are kept, those that occur most often, the special ones
                counted; 0 keeps all (of bpe, makes 8,000).
            lowercase: whether text is put in lower case first.

        Raises:
            UserError: an unknown kind, or too few tokens to keep.
        """
        if kind not in KINDS:
            raise unknown("data.tokens", kind, KINDS)
        least = len(SPECIAL) + (256 if kind == "bpe" else 1)
        if size and size < least:
            raise UserError(
                f"data.vocabulary_size: found {size}, expected at least {least} of "
                f"data.tokens={kind}, or 0"
            )
        if kind == "bpe":
            model = _train_bpe(texts, size or BPE_SIZE, lowercase)
            tokens = [model.id_to_token(i) for i in range(model.get_vocab_size())]
            return Vocabulary(kind, tuple(tokens), lowercase, model.to_str())
        counts: collections.Counter[str] = collections.Counter()
        for text in texts:
            counts.update(pieces(kind, text.lower() if lowercase else text))
        for special in SPECIAL:
            counts.pop(special, None)
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        kept = ranked[: size - len(SPECIAL)] if size else ranked
        return Vocabulary(kind, (*SPECIAL, *kept), lowercase)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str, *, strict: bool = False) -> np.ndarray:
        """Return the ids of a text, int32[T], without `BOS` and `EOS`.

        What the vocabulary does not hold becomes `UNK`, unless `strict`. (Of `bpe` all is known.)

        Raises:
            UserError: `strict`, and the text has something that is not in the vocabulary.
        """
        text = text.lower() if self.lowercase else text
        if self.kind == "bpe":
            return np.array(self._bpe.encode(text).ids, np.int32)
        found = pieces(self.kind, text)
        ids = np.array([self._ids.get(piece, UNK) for piece in found], np.int32)
        if strict and UNK in ids:
            missing = found[int(np.argmax(ids == UNK))]
            raise UserError(
                f"unknown token {missing!r}: it is not among the {len(self)} of the vocabulary of "
                f"data.tokens={self.kind}, expected text of those that occur in training"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids: nothing for `PAD` and `BOS`, a new line for `EOS`.

        Of `word` and `space` all tokens are parted by single spaces, whatever there was before.

        Raises:
            UserError: an id that is not in the vocabulary.
        """
        ids = np.asarray(ids, np.int64)
        outside = (ids < 0) | (ids >= len(self))
        if outside.any():
            place = int(np.argmax(outside))
            raise UserError(
                f"token id {ids[place]} at position {place}: out of range, expected 0 to "
                f"{len(self) - 1}, the ids of this vocabulary"
            )
        lines = np.split(ids, np.flatnonzero(ids == EOS) + 1)
        between = " " if self.kind in ("word", "space") else ""
        texts = []
        for line in lines:
            kept = [int(i) for i in line if i not in (PAD, BOS, EOS)]
            if self.kind == "bpe":
                texts.append(self._bpe.decode(kept, skip_special_tokens=False))
            else:
                texts.append(between.join(self.tokens[i] for i in kept))
        return "\n".join(texts)

    def write(self, ids: Sequence[int]) -> str:
        """Return their text as `decode` does, of `word` tokens as it is written; see `spaced`."""
        text = self.decode(ids)
        return spaced(text) if self.kind == "word" else text

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal digits, of all that decides what an id means."""
        return hashlib.sha256(json.dumps(self._plain(), sort_keys=True).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, self._plain() | {"sha256": self.digest})

    @staticmethod
    def load(path: Path, digest: str | None = None) -> "Vocabulary":
        """Read what `save` wrote.

        Args:
            path: the file.
            digest: what its own must be: that of the vocabulary that a model was trained with.

        Raises:
            UserError: no such file, it is damaged, or it is the vocabulary of another run.
        """
        if not path.is_file():
            raise UserError(f"{path}: found no file, expected the vocabulary of a run")
        try:
            held = read_json(path)
            fields = {f.name: held[f.name] for f in dataclasses.fields(Vocabulary)}
            vocabulary = Vocabulary(**fields | {"tokens": tuple(fields["tokens"])})
            whole = vocabulary.digest == held["sha256"]
        except (KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            raise UserError(f"{path}: damaged, expected a vocabulary as a run writes it")
        if digest is not None and vocabulary.digest != digest:
            raise UserError(
                f"{path}: vocabulary of another run: found sha256 {vocabulary.digest[:12]}…, "
                f"expected {digest[:12]}…, with which the model was trained"
            )
        return vocabulary

    def _plain(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"tokens": list(self.tokens)}

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        # Without the special ones: "<eos>" in a text is text.
        return {token: i for i, token in enumerate(self.tokens) if i >= len(SPECIAL)}

    @functools.cached_property
    def _bpe(self):
        from tokenizers import Tokenizer

        model = Tokenizer.from_str(self.merges)
        model.encode_special_tokens = True  # as text
        return model


def pieces(kind: str, text: str) -> list[str]:
    """Take a text apart; of `word`, "Don't stop." is Don ' t stop and a full stop."""
    if kind == "char":
        return list(text)
    return text.split() if kind == "space" else re.findall(r"\w+|[^\w\s]", text)


def spaced(text: str) -> str:
    """Return a text of `word` tokens as it is written: "a man ' s t - shirt ." → "a man's t-shirt."

    A quotation mark and a dash between words cannot be told from signs within one, and go too.
    """
    return re.sub(r" ([.,!?;:])", r"\1", re.sub(r"(?<=\w) (['’-]) (?=\w)", r"\1", text))


def _train_bpe(texts: Iterable[str], size: int, lowercase: bool):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator((t.lower() if lowercase else t for t in texts), trainer)
    return model
