"""Sets of sequences: what each delivers, the real ones against their files, and bad input."""

import gzip
import io
import json
import os
import pickle
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler
from test_spectrogram import wav

from research.config import UserError
from research.data.sequences import SEQUENCES
from research.data.sets.memory import PROBES
from research.data.sets.toy import OBJECTS, PLACES, SUBJECTS, TIMES, TOYS, VERBS
from research.data.sources import load_dataset
from research.data.stream import Stream
from research.data.text import EOS, UNK
from research.train.record import facts

PARTS = ("train", "validation", "test")
RAW = os.environ.get("ABLATE_RAW_DATA", "")
real = pytest.mark.skipif(not RAW, reason="ABLATE_RAW_DATA is not set")


def check(dataset):
    """Assert what holds of every set of sequences."""
    spec = dataset.train.spec
    tokens = spec["inputs"][1] == np.int32
    assert spec["length"] == ((), np.int32)
    assert tokens == (dataset.vocabulary is not None) and len(spec["inputs"][0]) == 2 - tokens
    assert not dataset.class_names or {"label", "targets"} & {*spec}
    for part in PARTS:
        split = getattr(dataset, part)
        assert split.spec == spec and len(split) and split.name in dataset.name
        arrays = split.arrays()
        assert {n: (a.shape[1:], a.dtype) for n, a in arrays.items()} == spec
        for name, length in (("inputs", "length"), ("targets", "target_length")):
            if length not in arrays:
                continue
            steps = arrays[name].shape[1]
            assert arrays[length].min() >= 1 and arrays[length].max() <= steps
            behind = np.arange(steps) >= arrays[length][:, None]
            assert not arrays[name][behind].any()
        if tokens:
            assert arrays["inputs"].min() >= 0 and arrays["inputs"].max() < len(dataset.vocabulary)
        else:
            assert np.isfinite(arrays["inputs"]).all()
        if "label" in arrays:
            labels = np.unique(arrays["label"])
            assert labels.min() >= 0 and labels.max() < dataset.num_classes
        if part in dataset.references:
            assert len(dataset.references[part]) == len(split)
    if dataset.scale:
        assert [len(s) for s in dataset.scale] == [spec["inputs"][0][-1]] * 2


@pytest.mark.parametrize("name", [*TOYS, "rows/digits", "pixels/digits"])
def test_what_is_made_here(name):
    dataset = load_dataset(name)
    check(dataset)
    assert load_dataset(name).test.digest() == dataset.test.digest()


def test_rows_and_pixels(digits):
    images, labels = digits.test.arrays().values()
    rows, pixels = (load_dataset(f"{scan}/digits").test.arrays() for scan in ("rows", "pixels"))
    np.testing.assert_allclose(rows["inputs"], images[..., 0] / 255, rtol=1e-6)
    np.testing.assert_allclose(pixels["inputs"][..., 0], images.reshape(360, 64) / 255, rtol=1e-6)
    np.testing.assert_array_equal(rows["label"], labels)
    few = load_dataset("rows/digits", classes=(3, 5), image_size=4, train_size=20)
    assert few.class_names == ("3", "5") and few.train.spec["inputs"][0] == (4, 4)
    assert len(few.train) == 20 and few.task == "classification"


def test_sentiment_is_decided_by_the_last_clause():
    dataset = load_dataset("toy/sentiment")
    arrays = dataset.train.arrays()
    for ids, label in zip(arrays["inputs"][:100], arrays["label"], strict=False):
        words = dataset.vocabulary.decode(ids).split("but")[-1].split()
        good = bool({*words} & {"good", "lovely", "bright", "funny", "clever"})
        assert label == (good != ("not" in words))


def test_translation_is_of_pairs_that_are_unlike():
    dataset = load_dataset("toy/translation")
    arrays, references = dataset.test.arrays(), dataset.references["test"]
    seen = set(map(bytes, dataset.train.arrays()["inputs"]))
    assert not seen & set(map(bytes, arrays["inputs"]))
    for row, text in zip(arrays["targets"], references, strict=True):
        assert dataset.target_vocabulary.decode(row).strip() == text.replace(".", " .")
    for ids, length in ((arrays["inputs"], arrays["length"]),):
        assert (ids[np.arange(len(ids)), length - 1] == EOS).all()


def test_clauses_are_sentences_joined():
    dataset = load_dataset("toy/clauses")
    when, who, does, what, where = (
        "|".join(part.values()) for part in (TIMES, SUBJECTS, VERBS, OBJECTS, PLACES)
    )
    clause = re.compile(f"(?:({when}) )?({who}) ({does}) ({what})(?: ({where}))?")
    for text in dataset.references["test"]:
        assert all(clause.fullmatch(each) for each in text[:-1].split(" and "))
    german = [dataset.vocabulary.decode(row) for row in dataset.test.arrays()["inputs"]]
    for text, source in zip(dataset.references["test"], german, strict=True):
        assert text.count(" and ") == source.count(" und ") <= 3
    assert {text.count(" and ") for text in dataset.references["test"]} == {0, 1, 2, 3}


def test_forecasts_are_windows_of_the_series():
    """Each window against slices of the series, standardised by scikit-learn."""
    dataset = load_dataset("toy/series", length=30, horizon=6)
    parts = {part: getattr(dataset, part).arrays() for part in PARTS}
    assert parts["train"]["inputs"].shape == (14 * 168 - 35, 30, 3)
    assert parts["test"]["targets"].shape == (3 * 168 - 5, 6, 3)  # every step of it
    mean, std = (np.array(s) for s in dataset.scale)
    series = parts["train"]["inputs"][:, 0] * std + mean
    np.testing.assert_allclose(
        StandardScaler().fit(np.concatenate([series, *_tail(parts["train"], std, mean)])).mean_,
        mean,
        rtol=1e-5,
    )
    for arrays in parts.values():
        whole = np.concatenate([arrays["inputs"], arrays["targets"]], 1)
        np.testing.assert_array_equal(whole[:-1, 1:], whole[1:, :-1])
    # What validation sees first is what training ended with.
    np.testing.assert_array_equal(
        parts["validation"]["inputs"][0, -6:], parts["train"]["targets"][-1]
    )


def _tail(arrays, std, mean):
    last = np.concatenate([arrays["inputs"][-1, 1:], arrays["targets"][-1]])
    return [last * std + mean]


def test_music_is_told_from_the_steps_before():
    arrays = load_dataset("toy/chorales").train.arrays()
    assert set(np.unique(arrays["targets"])) == {0, 1}
    assert not arrays["inputs"][:, 0].any()
    for inputs, targets, n in zip(
        *(arrays[k] for k in ("inputs", "targets", "length")), strict=True
    ):
        np.testing.assert_array_equal(inputs[1:n], targets[: n - 1])
        assert (targets[:n].sum(1) >= 3).all()


def test_options():
    assert load_dataset("toy/text", length=20).train.spec["inputs"][0] == (20,)
    words = load_dataset("toy/text", tokens="word", length=10)
    assert "firmament" in words.vocabulary.tokens and isinstance(words.train, Stream)
    small = load_dataset("toy/text", tokens="word", length=10, vocabulary_size=50)
    assert len(small.vocabulary) == 50 and (small.train.arrays()["inputs"] == UNK).mean() > 0.2
    pairs = load_dataset("toy/text", tokens="bpe", length=10, vocabulary_size=300)
    assert len(pairs.vocabulary) == 300
    one, other = (load_dataset("toy/motion", length=n).train for n in (0, 30))
    np.testing.assert_array_equal(other.arrays()["inputs"], one.arrays()["inputs"][:, :30])
    assert other.arrays()["length"].max() == 30
    few, fewer = (load_dataset("toy/motion", train_size=n).train.arrays() for n in (100, 50))
    assert len(few["label"]) == 100
    assert {*map(bytes, fewer["inputs"])} < {*map(bytes, few["inputs"])}
    assert load_dataset("toy/series", horizon=7).train.spec["targets"][0] == (7, 3)
    sizes = [len(load_dataset("toy/translation", train_size=n).train) for n in (0, 10)]
    assert sizes == [1000, 10]


def test_what_cannot_be_asked_for():
    for name, options, message in (
        (
            "tinyshakespear",
            {"length": 9},
            r"found 'tinyshakespear'.*did you mean 'tinyshakespeare'",
        ),
        ("toy/txt", {}, r"data\.name: found 'toy/txt'.*did you mean 'toy/text'"),
        ("toy/text", {"length": 5000}, r"data\.length: found 5000.*toy/text.*has \d+"),
        ("toy/text", {"tokens": "bpe", "vocabulary_size": 99}, r"vocabulary_size: found 99"),
        ("toy/series", {"horizon": 5000}, r"data\.horizon=5000.*expected fewer"),
        ("toy/motion", {"train_size": 5000}, r"data\.train_size: found 5000.*at most 1000"),
        ("toy/motion", {"train_size": -1}, r"data\.train_size: found -1, expected at least 0"),
        ("toy/motion", {"length": -3}, r"data\.length: found -3, expected at least 0"),
        ("toy/series", {"horizon": 0}, r"data\.horizon: found 0, expected at least 1"),
        ("toy/text", {"vocabulary_size": -9}, r"data\.vocabulary_size: found -9, expected at"),
        ("toy/motion", {"horizon": 8}, r"data\.horizon: found 8 .*does not heed it"),
        ("toy/motion", {"tokens": "word"}, r"data\.tokens: found 'word' .*does not heed it"),
        ("copying", {"vocabulary_size": 9}, r"data\.vocabulary_size: .*does not heed it"),
        ("toy/text", {"train_size": 9}, r"data\.train_size: found 9 .*does not heed it"),
        ("toy/case", {"tokens": "word"}, r"data\.tokens: .*expected char"),
        ("toy/motion", {"image_size": 8}, r"data\.image_size: found 8.*of images"),
        ("rows/toy/motion", {}, r"data\.name: found 'rows/toy/motion'.*images"),
        ("rows/digits", {"length": 3}, r"data\.length: found 3.*of sequences"),
        ("rows/digts", {}, r"data\.name: found 'digts'.*'digits'"),
    ):
        with pytest.raises(UserError, match=message):
            load_dataset(name, **options)


@pytest.mark.parametrize("name", sorted({*SEQUENCES} - {*TOYS, *PROBES}))
def test_a_missing_file(tmp_path, name):
    with pytest.raises(UserError, match=r"--data_dir: found no .* under .*expected the file"):
        load_dataset(name, str(tmp_path))


def write(root, name, content):
    path = Path(root) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def song(*steps):
    """A file of chorales, of which the last to train on has these steps."""
    return json.dumps({"train": [[[60]], list(steps)], "valid": [[[60]]], "test": [[[60]]]})


PAIRS = {f"{f}.{c}": "ja\nja\n" for f in ("train", "val", "test_2016_flickr") for c in ("de", "en")}
OPINIONS = {f"stsa.binary.{f}": "1 good\n0 bad\n" for f in ("train", "dev", "test")}
CHORALES, LOADS, HEAD = "jsb-chorales-quarter.json", "ETTh1.csv", "date,a,b\n"
POINTS, SERIES = "GunPoint_TRAIN.ts", "@classLabel true a b\n@data\n1,2:3,4:a\n"
BEATS, BEAT = "ECG5000_TRAIN.txt", "1 0.5 0.1\n"


def drawn(*drawings):
    """A file of drawings, the same ones in each part."""
    file, held = io.BytesIO(), np.empty(len(drawings), object)
    for i, drawing in enumerate(drawings):
        held[i] = np.array(drawing)
    with zipfile.ZipFile(file, "w") as archive:
        for part in ("train", "valid", "test"):
            with archive.open(f"{part}.npy", "w") as out:
                np.lib.format.write_array(out, held, allow_pickle=True)
    return file.getvalue()


def packed(names, open_as="w"):
    """An archive of recordings."""
    file, sound = io.BytesIO(), wav([1] * 900)
    with tarfile.open(fileobj=file, mode=open_as) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(sound)
            archive.addfile(member, io.BytesIO(sound))
    return file.getvalue()


def altered(data, place):
    """The same bytes but for one, which is another."""
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


STROKES = "short_kanji.npz"
ONE, OTHER, NOWHERE = [[0, 1, 0], [2, 3, 1]], [[1, 2, 0], [4, np.nan, 1]], [[1, 1, 0], [1, 1, 1]]
TWO = ["3_a_0.wav", "3_a_9.wav"]
TAR, XZ, GZ = packed(TWO), packed(TWO, "w:xz"), packed(TWO, "w:gz")

# A set, what is written into its folder, and what is said of it.
DAMAGED = [
    ("tinyshakespeare", {"input.txt": b"fr\n \xfcr"}, r"byte 4 \(0xfc, in line 2\) is not utf-8"),
    ("tinyshakespeare", {"input.txt.gz": b"\x1f\x8b"}, "unreadable"),
    ("tinyshakespeare", {"input.txt": ""}, "data.length: found 100, .* train text has 0"),
    (
        "tinyshakespeare",
        {"input.txt.gz": altered(gzip.compress(b"to be or not to be"), 10)},
        "input.txt.gz: unreadable .*while decompressing data",
    ),
    ("tinyshakespeare/case", {"input.txt": "ab\n"}, "case, validation: found no example"),
    ("wikitext2", {f"{f}.txt": "" for f in ("train", "valid", "test")}, "train text has 1;"),
    ("gutenberg/moby_dick", {"moby_dick_2701.txt": "Call me"}, "found 0 lines that begin"),
    ("multi30k/de-en", PAIRS | {"train.en": "yes\n"}, "train.de: found 2 lines, expected 1"),
    ("multi30k/de-en", PAIRS | {"train.en": "yes\n \n"}, "train, targets: line 2 is empty"),
    ("multi30k/de-en", dict.fromkeys(PAIRS, ""), "multi30k/de-en, train: found no example"),
    ("sst2", dict.fromkeys(OPINIONS, ""), "sst2, train: found no example"),
    ("sst2", OPINIONS | {"stsa.binary.dev": ""}, "sst2, validation: found no example"),
    ("sst2", OPINIONS | {"stsa.binary.train": "99999999999 a"}, "label 99999999999 .*to 1"),
    ("sst2", OPINIONS | {"stsa.binary.train": "1 a\nbad"}, "line 2: found 'bad'"),
    ("sst2", OPINIONS | {"stsa.binary.train": "1 a\n2 b"}, "label 2 .*expected 0 to 1"),
    ("ett/h1", {LOADS: HEAD + "d,1,2\nd,3,\nd,1,1"}, "nan at step 1, channel 1"),
    ("ett/h1", {LOADS: HEAD + "d,1,2\nd,3,x"}, "found 'x' in row 1"),
    ("ett/h1", {LOADS: HEAD + "d,1,2\nd,3"}, "line 3: found 2 fields, expected 3"),
    ("ett/h1", {LOADS: HEAD + "d,1,2"}, "has 1 steps, expected 14400"),
    ("ett/h1", {LOADS: HEAD}, "found no line of data"),
    ("jsb_chorales/quarter", {CHORALES: "[]"}, "expected JSON"),
    ("jsb_chorales/quarter", {CHORALES: song([20])}, "note 20, expected MIDI"),
    ("jsb_chorales/quarter", {CHORALES: song()}, "train: sequence 1 is empty"),
    ("jsb_chorales/quarter", {CHORALES: song(60)}, "expected JSON .* found TypeError"),
    ("jsb_chorales/quarter", {CHORALES: song(None)}, "expected JSON .* found TypeError"),
    (
        "jsb_chorales/quarter",
        {CHORALES: '{"train": 3, "valid": [], "test": []}'},
        "expected JSON .* found TypeError",
    ),
    (
        "jsb_chorales/quarter",
        {CHORALES: '{"train": [], "valid": [], "test": []}'},
        "jsb_chorales/quarter, train: found no example",
    ),
    ("strokes/kanji", {STROKES: drawn(ONE, OTHER)}, "train: drawing 1 holds nan at step 1, ch"),
    ("strokes/kanji", {STROKES: drawn(ONE, [[1, 2]])}, r"train: drawing 1 has the shape \(1, 2\)"),
    ("strokes/kanji", {STROKES: drawn(NOWHERE)}, "train: found offsets that are all the same"),
    ("strokes/kanji", {STROKES: drawn()}, "strokes/kanji, train: found no example"),
    ("strokes/kanji", {STROKES: drawn("ab")}, "short_kanji.npz: unreadable train .*'ab'"),
    ("strokes/kanji", {STROKES: b"PK"}, "short_kanji.npz: unreadable train"),
    ("pendigits", {"pendigits.tra": "1,2,3"}, "found 3 fields in a line, expected 17"),
    ("pendigits", {"pendigits.tra": "1," * 16 + "x"}, "class: found 'x'"),
    ("dna_enhancer", {"non.cv.txt": ">a\nACJ"}, "line 2: found 'J'"),
    ("dna_enhancer", {"non.cv.txt": "ACG"}, "found no line with '>' first"),
    ("ucr/GunPoint", {POINTS: SERIES + "1,2:3:b"}, "line 4: found channels of different lengths"),
    ("ucr/GunPoint", {POINTS: SERIES + "1,2:3,4:c"}, "class: found 'c'"),
    ("ucr/GunPoint", {POINTS: "1,2:a"}, "found no @classLabel"),
    ("ucr/GunPoint", {POINTS: SERIES + "1,2:3,x:b"}, "line 4: found 'x' in row 1"),
    (
        "ucr/GunPoint",
        {POINTS: SERIES, "GunPoint_TEST.ts": SERIES + "1,2:b"},
        "test: sequence 1 has 1 channels, expected 2",
    ),
    (
        "ucr/GunPoint",
        {POINTS: SERIES, "GunPoint_TEST.ts": SERIES.replace("a b", "b a")},
        "TEST.ts: found the classes b a, expected a b, as in training",
    ),
    ("ecg5000", {BEATS: BEAT + "NaN 1 2"}, "TRAIN.txt: found the class 'NaN' in row 1"),
    ("ecg5000", {BEATS: BEAT + "1.7 1 2"}, "TRAIN.txt: found the class '1.7' in row 1"),
    ("ecg5000", {BEATS: BEAT + "0 1 2"}, "found the class '0' in row 1 .*expected 1 to 5"),
    (
        "ucr/GunPoint",
        {POINTS: SERIES + "1,?:3,4:b", "GunPoint_TEST.ts": SERIES},
        "train: sequence 1 holds nan at step 1, channel 0",
    ),
    ("fsdd", {"recordings/3_a_0.wav": wav([1] * 900, rate=44100)}, "3_a_0.wav: found 44100 Hz"),
    ("fsdd", {"recordings/3_a_0.wav": wav([1] * 900, channels=2)}, "3_a_0.wav: found 2 channels"),
    ("fsdd", {"recordings/three.wav": wav([1] * 900)}, "found 'three.wav', expected <digit>"),
    ("fsdd", {"recordings/3_a_0.wav": wav([1] * 900)[:-300]}, "3_a_0.wav: cut short: found 1500"),
    ("fsdd", {"recordings/3_a_5.wav": wav([1] * 900)}, "no recording to test, .*numbered 0 to 4"),
    ("fsdd", {"recordings/3_a_4.wav": wav([1] * 900)}, "no recording to train, .*from 5 on"),
    ("fsdd", {"recordings.tar.xz": XZ[:-40]}, "recordings.tar.xz: unreadable"),
    ("fsdd", {"recordings.tar.xz": altered(XZ, len(XZ) // 2)}, "recordings.tar.xz: unreadable"),
    ("fsdd", {"recordings.tar.gz": altered(GZ, len(GZ) // 2)}, "recordings.tar.gz: unreadable"),
    ("fsdd", {"recordings.tar": TAR[:2000]}, "recordings.tar: unreadable archive"),
    ("fsdd", {"recordings.tar": TAR[:2560]}, "recordings.tar: damaged or cut short at byte 2560"),
    ("fsdd", {"recordings.tar": altered(TAR, 2570)}, "damaged or cut short at byte 2560"),
    ("fsdd", {"recordings.tar": packed(TWO[1:])}, "no recording to test"),
]


@pytest.mark.parametrize(("name", "files", "message"), DAMAGED)
def test_damaged_files(tmp_path, name, files, message):
    folder = {"sst2": "sentence_classification", "strokes/kanji": "stroke3"}.get(
        name, name.split("/")[0]
    )
    for file, content in files.items():
        write(tmp_path, f"{folder}/{file}", content)
    with pytest.raises(UserError, match=message):
        load_dataset(name, str(tmp_path))


def test_recordings_in_an_archive_or_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"{d}_{who}_{i}.wav" for d in range(10) for who in ("a", "b") for i in range(4, 8)]
    sounds = {n: wav(rng.integers(-9000, 9000, rng.integers(900, 3000))) for n in names}
    with tarfile.open(tmp_path / "recordings.tar.xz", "w:xz") as archive:
        for name, sound in sounds.items():
            member = tarfile.TarInfo(f"recordings/{name}")
            member.size = len(sound)
            archive.addfile(member, io.BytesIO(sound))
            write(tmp_path, f"all/fsdd/recordings/{name}", sound)
    one, other = (load_dataset("fsdd", str(tmp_path / f)) for f in (".", "all"))
    check(one)
    assert [len(getattr(one, part)) for part in PARTS] == [54, 6, 20]  # number 4 is for test
    assert one.train.digest() == other.train.digest()
    np.testing.assert_array_equal(one.test.arrays()["label"], np.repeat(np.arange(10), 2))
    spelt = [one.target_vocabulary.decode(row) for row in one.test.arrays()["targets"][::2]]
    assert spelt == list(one.class_names)


def test_what_stands_beside():
    tones = load_dataset("toy/tones_and_images").test.arrays()
    images, labels = load_digits(return_X_y=True)
    for side, label in zip(tones["side"], tones["label"], strict=True):
        (place,) = np.flatnonzero((images / 16 == side).all(1))[:1]
        assert labels[place] == label and place % 4 == 0
    motion = load_dataset("toy/motion_at_rates").train.arrays()
    assert motion["side"].shape == (1000, 1) and 0.5 < motion["side"].min() < 1 < 1.9
    # The beat, in steps, is of both gaits alike; in seconds it is not.
    beats = np.abs(np.fft.rfft(motion["inputs"], axis=1)).sum(2)[:, 1:].argmax(1) + 1
    pace = beats / 50 * 20 * motion["side"][:, 0]
    assert ((pace > 2) == motion["label"]).mean() > 0.9
    assert max(((beats > n) == motion["label"]).mean() for n in range(20)) < 0.8


def test_no_image_is_taken_for_granted():
    with pytest.raises(UserError, match=r"'toy/motion', whose examples are inputs, length, label,"):
        _ = load_dataset("toy/motion").image_shape


def test_runs_know_their_data_by_what_it_holds():
    """A run's config.json, and so its resumption and its evaluation, are held against these."""
    one, other = (facts(load_dataset("toy/text", tokens=kind)) for kind in ("char", "word"))
    assert one["sizes"] == [71, 8, 8] and one["shapes"]["inputs"] == [100]
    assert one == facts(load_dataset("toy/text", tokens="char"))
    assert {k for k in one if one[k] != other[k]} == {"shapes", "sizes", "sha256", "vocabulary"}


def test_capitals():
    dataset = load_dataset("toy/case")
    arrays = dataset.train.arrays()
    first = dataset.vocabulary.decode(arrays["inputs"][0])
    assert first == "in the beginning god created the heaven and the earth."
    np.testing.assert_array_equal(np.flatnonzero(arrays["targets"][0]), [0, 17])


class Evil:
    def __reduce__(self):
        return os.system, ("echo caught",)


def test_a_pickle_runs_no_code(tmp_path, capfd):
    (tmp_path / "stroke3").mkdir()
    with zipfile.ZipFile(tmp_path / "stroke3" / "omniglot.npz", "w") as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|O", "fortran_order": False, "shape": (1,)}
        )
        archive.writestr("train.npy", header.getvalue() + pickle.dumps(Evil()))
    with pytest.raises(UserError, match=r"omniglot.npz: unreadable train .*system is not an array"):
        load_dataset("strokes/omniglot", str(tmp_path))
    assert "caught" not in capfd.readouterr().out


# Name → the examples of each split, and the shape of `inputs`.
SIZES = {
    "gutenberg/moby_dick": ([7335, 436, 428], (35,)),
    "multi30k/de-en": ([29_000, 1014, 1000], (46,)),
    "sst2": ([6920, 872, 1821], (56,)),
    "trec": ([4906, 546, 500], (37,)),
    "customer_reviews": ([2638, 378, 755], (106,)),
    "ett/h1": ([8521, 2857, 2857], (96, 7)),
    "jsb_chorales/quarter": ([229, 76, 77], (160, 88)),
    "strokes/kanji": ([10_000, 600, 500], (88, 3)),
    "pendigits": ([6744, 750, 3498], (8, 2)),
    "ucr/BasicMotions": ([36, 4, 40], (100, 6)),
    "ucr/JapaneseVowels": ([243, 27, 370], (29, 12)),
    "ecg5000": ([350, 50, 100], (140, 1)),
    "dna_enhancer": ([2671, 297, 400], (200,)),
}


@real
@pytest.mark.parametrize("name", SIZES)
def test_real_sets(name):
    dataset = load_dataset(name, RAW)
    check(dataset)
    assert [len(getattr(dataset, part)) for part in PARTS] == SIZES[name][0]
    assert dataset.train.spec["inputs"][0] == SIZES[name][1]


def held(path):
    with gzip.open(Path(RAW) / path, "rb") as file:
        return file.read()


@real
def test_tinyshakespeare():
    dataset = load_dataset("tinyshakespeare", RAW)
    text = held("tinyshakespeare/input.txt.gz").decode()
    tokens = [getattr(dataset, part).tokens for part in PARTS]
    assert sum(map(len, tokens)) == len(text) == 1_115_394
    assert "".join(dataset.vocabulary.decode(t) for t in tokens) == text
    assert len(dataset.vocabulary) == 65 + 4 and len(tokens[2]) == round(0.05 * len(text))


@real
def test_wikitext_has_the_published_number_of_tokens(tmp_path):
    """217,646 and 245,569, an end at each line: what perplexities of it are taken over."""
    for file in ("valid.txt.xz", "test.txt.xz"):
        write(tmp_path, f"wikitext2/{file}", (Path(RAW) / "wikitext2_partial" / file).read_bytes())
    write(tmp_path, "wikitext2/train.txt", "a <unk> b\n" * 50)
    dataset = load_dataset("wikitext2", str(tmp_path))
    assert [len(getattr(dataset, part).tokens) for part in PARTS] == [200, 217_646, 245_569]


@real
def test_multi30k_against_its_files():
    dataset = load_dataset("multi30k/de-en", RAW)
    lines = held("multi30k/test_2016_flickr.en.gz").decode().splitlines()
    assert list(dataset.references["test"]) == lines
    arrays = dataset.test.arrays()
    for i in (0, 500, 999):  # but for rare words
        found = dataset.target_vocabulary.decode(arrays["targets"][i]).split()
        words = re.findall(r"\w+|[^\w\s]", lines[i].lower())
        assert len(found) == len(words)
        assert all(one in (other, "<unk>") for one, other in zip(found, words, strict=True))
    reverse = load_dataset("multi30k/en-de", RAW).test.arrays()
    np.testing.assert_array_equal(reverse["inputs"], arrays["targets"])


@real
def test_ett_against_scikit_learn():
    import lzma

    with lzma.open(Path(RAW) / "ett/ETTh1.csv.xz") as file:
        series = np.loadtxt(file, delimiter=",", skiprows=1, usecols=range(1, 8))
    series = StandardScaler().fit(series[:8640]).transform(series)
    arrays = load_dataset("ett/h1", RAW).test.arrays()
    for i in (0, 1000, 2856):
        begin = 16 * 720 - 96 + i
        np.testing.assert_allclose(arrays["inputs"][i], series[begin : begin + 96], atol=1e-4)
        begin += 96
        np.testing.assert_allclose(arrays["targets"][i], series[begin : begin + 24], atol=1e-4)


@real
def test_chorales_against_their_file():
    songs = json.loads(held("jsb_chorales/jsb-chorales-quarter.json.gz"))["test"]
    arrays = load_dataset("jsb_chorales/quarter", RAW).test.arrays()
    assert arrays["length"].sum() == sum(map(len, songs)) == 4725
    for song, roll in zip(songs, arrays["targets"], strict=True):
        assert [list(np.flatnonzero(step) + 21) for step in roll[: len(song)]] == song
