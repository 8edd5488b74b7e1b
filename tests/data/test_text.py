"""Vocabularies: round trips, BPE's merges by hand, special tokens, files, and what cannot be."""

import collections
import gzip
import itertools
import json

import numpy as np
import pytest

from research.config import UserError
from research.data import raw
from research.data.text import EOS, PAD, SPECIAL, UNK, Vocabulary

TEXT = "Der Hund sah den Mond, den runden Mond.\nEr bellte — nicht lange; „wau“, und schlief."


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_characters_and_bytes_lose_nothing(kind):
    vocabulary = Vocabulary.build(kind, [TEXT], 280 if kind == "bpe" else 0)
    ids = vocabulary.encode(TEXT)
    assert ids.dtype == np.int32 and vocabulary.decode(ids) == TEXT
    assert vocabulary.tokens[:4] == SPECIAL and not np.isin(ids, range(4)).any()
    if kind == "bpe":  # what it never saw, it spells in bytes
        assert len(vocabulary) == 280 and len(ids) < len(TEXT.encode())
        assert vocabulary.decode(vocabulary.encode("日本 <eos>\n")) == "日本 <eos>\n"


def test_words_by_frequency():
    vocabulary = Vocabulary.build("word", ["b a, a b c", "B b!"], lowercase=True)
    assert vocabulary.tokens == (*SPECIAL, "b", "a", "!", ",", "c")
    np.testing.assert_array_equal(vocabulary.encode("A b?"), [5, 4, UNK])
    assert vocabulary.decode([5, PAD, 4, EOS, UNK]) == "a b\n<unk>"
    assert Vocabulary.build("word", ["b a, a b c"], 6).tokens == (*SPECIAL, "a", "b")
    with pytest.raises(UserError, match=r"unknown token '\?'"):
        vocabulary.encode("A b?", strict=True)


def test_text_that_is_tokenised_already():
    vocabulary = Vocabulary.build("space", ["it 's 2 @.@ 5 <unk> <eos>"])
    assert len(vocabulary) == 4 + 5  # <unk> is the one, and <eos>, in a text, nothing special
    np.testing.assert_array_equal(vocabulary.encode("<unk> <eos>"), [UNK, UNK])


def test_bpe_merges_the_most_frequent_pair():
    """The first merges against a count by hand, word by word as Sennrich et al. do."""
    text = " ".join(["abab"] * 7 + ["abc"] * 5 + ["bcd"] * 2)
    spelt = {tuple("abab"): 1, tuple("Ġabab"): 6, tuple("Ġabc"): 5, tuple("Ġbcd"): 2}
    merges = []
    for _ in range(3):
        pairs = collections.Counter()
        for word, n in spelt.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += n
        (best, count), (_, second) = pairs.most_common(2)
        if count == second:
            break
        merges.append("".join(best))
        joined = {}
        for word, n in spelt.items():
            out = []
            for sign in word:
                if out and (out[-1], sign) == best:
                    out[-1] += sign
                else:
                    out.append(sign)
            joined[tuple(out)] = joined.get(tuple(out), 0) + n
        spelt = joined
    assert merges[:2] == ["ab", "Ġab"]
    vocabulary = Vocabulary.build("bpe", [text], 260 + len(merges))
    assert list(vocabulary.tokens[260:]) == merges
    assert len({Vocabulary.build("bpe", [text], 270).digest for _ in range(3)}) == 1


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_saved_and_loaded(kind, tmp_path):
    path = tmp_path / "vocabulary.json"
    vocabulary = Vocabulary.build(kind, [TEXT], 270 if kind == "bpe" else 0, lowercase=True)
    vocabulary.save(path)
    again = Vocabulary.load(path, vocabulary.digest)
    assert again == vocabulary and again.digest == vocabulary.digest
    np.testing.assert_array_equal(again.encode(TEXT), vocabulary.encode(TEXT))
    other = Vocabulary.build(kind, [TEXT, "ß"], 271 if kind == "bpe" else 0)
    with pytest.raises(UserError, match="vocabulary of another run"):
        Vocabulary.load(path, other.digest)
    held = json.loads(path.read_text())
    held["tokens"][5], held["tokens"][6] = held["tokens"][6], held["tokens"][5]
    for damaged in (json.dumps(held), json.dumps({"kind": kind})):
        path.write_text(damaged)
        with pytest.raises(UserError, match="damaged"):
            Vocabulary.load(path)
    with pytest.raises(UserError, match="found no file"):
        Vocabulary.load(tmp_path / "none.json")


def test_what_cannot_be():
    vocabulary = Vocabulary.build("char", ["abc"])
    for ids in ([4, 7], [-1]):
        with pytest.raises(UserError, match=r"token id (7|-1) at position .*expected 0 to 6"):
            vocabulary.decode(ids)
    with pytest.raises(UserError, match=r"data\.tokens: found 'wrd'.*did you mean 'word'"):
        Vocabulary.build("wrd", ["abc"])
    for kind, size, least in (("char", 4, 5), ("bpe", 100, 260)):
        with pytest.raises(UserError, match=rf"vocabulary_size: found {size}.*least {least}"):
            Vocabulary.build(kind, ["abc"], size)


def test_raw_files(tmp_path):
    (tmp_path / "set").mkdir()
    with gzip.open(tmp_path / "set" / "a.txt.gz", "wb") as file:
        file.write("eins\r\nzwei\x85drei\n".encode())
    path = raw.find(str(tmp_path), "set", "a.txt")
    assert raw.read_lines(path) == ["eins", "zwei\x85drei"]
    assert raw.find(str(tmp_path / "set"), "set", "a.txt") == path
    with pytest.raises(UserError, match=r"--data_dir: found no set/b.txt .* under"):
        raw.find(str(tmp_path), "set", "b.txt")
    plain = tmp_path / "latin.txt"
    plain.write_bytes("gut\nschön".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin.txt: byte 7 \(0xf6, in line 2\) is not utf-8"):
        raw.read_text(plain)
    assert raw.read_text(plain, "latin-1") == "gut\nschön"
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"x" * 1000)[:-9])
    with pytest.raises(UserError, match=r"cut.gz: unreadable"):
        raw.read_text(tmp_path / "cut.gz")


def test_words_are_written_without_the_spaces_between_their_signs():
    text = "A man's t-shirt, black-and-white; isn't it?"
    vocabulary = Vocabulary.build("word", [text])
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) != text and vocabulary.write(ids) == text
    assert Vocabulary.build("space", [text]).write([UNK]) == "<unk>"
