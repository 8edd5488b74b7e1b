"""Spoken digits, to be named or spelt."""

import io
import re
import tarfile
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from research.config import UserError
from research.data import raw
from research.data.arrays import labelled, padded, standardised, steps_of
from research.data.dataset import Dataset, Options, divide
from research.data.prepared import data_root
from research.data.spectrogram import log_mel, read_wav
from research.data.text import Vocabulary

RATE = 8000  # Hz
STEPS = 100  # of 10 ms: 99 % of the recordings are shorter
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FILE = r"(\d)_(\w+)_(\d+)\.wav"
TEST = range(5)  # the official test recordings of each speaker and digit

Heard = tuple[list[np.ndarray], list[int]]  # sounds and their digits


def fsdd(beside: str, options: Options) -> Dataset:
    """Free Spoken Digit Dataset: 3,000 recordings, 6 speakers, 10 digits; the official test split.

    Z. Jackson et al., github.com/Jakobovski/free-spoken-digit-dataset; CC BY-SA 4.0. Its folder
    `fsdd/recordings` of `<digit>_<speaker>_<number>.wav`, or `fsdd/recordings.tar.xz` of the same.

    Args:
        beside: what else each example has, as `side` float32[S]: `speaker`, which of them it is, 0
            or 1 each; `image`, the 64 pixels of a handwritten digit of the same class (scikit-
            learn's, another in test than in training), as V. Vielzeuf et al., CentralNet, 2018,
            pair sound and image; "" for nothing.
        options: `length` is the most steps of 10 ms.
    """
    parts: dict[str, Heard] = {"train": ([], []), "test": ([], [])}
    speakers: dict[str, list[str]] = {"train": [], "test": []}
    for name, data in _recordings(options.data_dir):
        digit, speaker, number = re.fullmatch(FILE, name).groups()
        part = "test" if int(number) in TEST else "train"
        parts[part][0].append(read_wav(f"fsdd: {name}", data, RATE))
        parts[part][1].append(int(digit))
        speakers[part].append(speaker)
    for part, (sounds, _) in parts.items():
        if not sounds:
            numbered = "0 to 4" if part == "test" else "from 5 on"
            raise UserError(
                f"fsdd: found no recording to {part}, expected some numbered {numbered}"
            )
    side: dict[str, np.ndarray] = {}
    if beside == "speaker":
        known = sorted({*speakers["train"], *speakers["test"]})
        side = {part: np.float32(np.array(who)[:, None] == known) for part, who in speakers.items()}
    elif beside == "image":
        side = {part: images_of(labels, part) for part, (_, labels) in parts.items()}
    return digits_heard("fsdd" + (beside and f"/{beside}"), parts, options, side)


def images_of(labels: list[int], part: str) -> np.ndarray:
    """Return an image of each digit, float32[N, 64] in [0, 1]: one of four is for `test` alone."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.RandomState(0)
    kept = (np.arange(len(digits.target)) % 4 == 0) == (part == "test")
    of_class = [np.flatnonzero(kept & (digits.target == digit)) for digit in range(10)]
    chosen = [of_class[label][rng.randint(len(of_class[label]))] for label in labels]
    return np.float32(digits.data[chosen] / 16)


def digits_heard(
    name: str,
    parts: dict[str, Heard],
    options: Options,
    side: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> Dataset:
    """Return sounds of digits as log-mel spectra, standardised by band.

    An example is `inputs` float32[T, 40], `length`, `label`, and the letters of the digit's name
    (for CTC), `targets` int32[5] of `target_length`; and `side`, by split, where it is given.
    """
    vocabulary = Vocabulary.build("char", WORDS)
    spelt, letters = padded(name, [vocabulary.encode(word) for word in WORDS], 5)
    spectra = {part: [log_mel(s, RATE) for s in sounds] for part, (sounds, _) in parts.items()}
    spectra, scale = standardised(name, spectra)
    steps = steps_of(name, options.length or STEPS, spectra)
    splits = {}
    for part, sequences in spectra.items():
        inputs, length = padded(f"{name}, {part}", sequences, steps)
        split = labelled(name, inputs, length, parts[part][1], WORDS)
        label = split.columns["label"]
        split = split.beside(targets=spelt[label], target_length=letters[label])
        splits[part] = split.beside(side=side[part]) if side else split
    return Dataset(
        name,
        **divide(splits.pop("train"), options, **splits),
        class_names=WORDS,
        target_vocabulary=vocabulary,
        scale=scale,
    )


def _recordings(data_dir: str | None):
    """Yield the name and the bytes of each recording, in the order of their names."""
    folders = [data_root(data_dir) / "fsdd" / "recordings", data_root(data_dir) / "recordings"]
    found = {}
    for folder in folders:
        found |= {path.name: raw.read_bytes(path) for path in folder.glob("*.wav")}
    if not found:
        path = raw.find(data_dir, "fsdd", "recordings.tar")
        data = raw.read_bytes(path)
        try:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
                for member in archive:
                    if member.isfile() and member.name.endswith(".wav"):
                        found[member.name.rpartition("/")[2]] = archive.extractfile(member).read()
        except tarfile.TarError as error:
            raise UserError(f"{path}: unreadable archive ({error})") from error
        # At a damaged header tarfile stops, as at the block of zeros that is the end.
        if data[archive.offset :][: tarfile.BLOCKSIZE] != bytes(tarfile.BLOCKSIZE):
            raise UserError(f"{path}: damaged or cut short at byte {archive.offset} of the archive")
    for name in sorted(found):
        if not re.fullmatch(FILE, name):
            raise UserError(f"fsdd: found {name!r}, expected <digit>_<speaker>_<number>.wav")
        yield name, found[name]
