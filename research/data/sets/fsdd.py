"""Spoken digits, to be named or spelt."""

import re
import tarfile

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
TEST = range(5)  # the official test recordings of each speaker and digit


def fsdd(options: Options) -> Dataset:
    """Free Spoken Digit Dataset: 3,000 recordings, 6 speakers, 10 digits; the official test split.

    Z. Jackson et al., github.com/Jakobovski/free-spoken-digit-dataset; CC BY-SA 4.0. Its folder
    `fsdd/recordings` of `<digit>_<speaker>_<number>.wav`, or `fsdd/recordings.tar.xz` of the same.
    """
    parts: dict[str, tuple[list[np.ndarray], list[int]]] = {"train": ([], []), "test": ([], [])}
    for name, data in _recordings(options.data_dir):
        digit, number = (int(n) for n in re.fullmatch(r"(\d)_\w+_(\d+)\.wav", name).groups())
        sounds, labels = parts["test" if number in TEST else "train"]
        sounds.append(read_wav(f"fsdd: {name}", data, RATE))
        labels.append(digit)
    return digits_heard("fsdd", parts, options)


def digits_heard(
    name: str, parts: dict[str, tuple[list[np.ndarray], list[int]]], options: Options
) -> Dataset:
    """Return sounds of digits as log-mel spectra, standardised by band.

    An example is `inputs` float32[T, 40], `length`, `label`, and the letters of the digit's name
    (for CTC), `targets` int32[5] of `target_length`.
    """
    vocabulary = Vocabulary.build("char", WORDS)
    spelt, letters = padded(name, [vocabulary.encode(word) for word in WORDS], 5)
    spectra = {part: [log_mel(s, RATE) for s in sounds] for part, (sounds, _) in parts.items()}
    spectra, scale = standardised(name, spectra)
    steps = steps_of(options.length or STEPS, *spectra.values())
    splits = {}
    for part, sequences in spectra.items():
        inputs, length = padded(f"{name}, {part}", sequences, steps)
        splits[part] = labelled(name, inputs, length, parts[part][1], WORDS)
        label = splits[part].columns["label"]
        splits[part].columns.update(targets=spelt[label], target_length=letters[label])
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
        found |= {path.name: path.read_bytes() for path in folder.glob("*.wav")}
    if not found:
        path = raw.find(data_dir, "fsdd", "recordings.tar")
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.isfile() and member.name.endswith(".wav"):
                        found[member.name.rpartition("/")[2]] = archive.extractfile(member).read()
        except (tarfile.TarError, EOFError, OSError) as error:
            raise UserError(f"{path}: unreadable archive ({error})") from error
    for name in sorted(found):
        if not re.fullmatch(r"\d_\w+_\d+\.wav", name):
            raise UserError(f"fsdd: found {name!r}, expected <digit>_<speaker>_<number>.wav")
        yield name, found[name]
