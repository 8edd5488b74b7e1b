"""Polyphonic music: which notes sound next?"""

import json

import numpy as np

from research.config import UserError
from research.data import raw
from research.data.arrays import following, padded, steps_of
from research.data.dataset import Dataset, Options, few

LOWEST, KEYS = 21, 88  # MIDI numbers of a piano's keys
PARTS = {"train": "train", "validation": "valid", "test": "test"}

Song = list[list[int]]  # the MIDI numbers that sound, step by step


def jsb_chorales(resolution: str, options: Options) -> Dataset:
    """Chorales by J. S. Bach: 229 to train on, 76 for validation, 77 for test.

    The splits of N. Boulanger-Lewandowski, Y. Bengio, P. Vincent, Modeling Temporal Dependencies in
    High-Dimensional Sequences, ICML 2012, whose steps are quarter notes; the music is in the public
    domain, the collection states no licence. `jsb_chorales/jsb-chorales-quarter.json` and the like
    of github.com/czhuang/JSB-Chorales-dataset.

    Args:
        resolution: of a step: `quarter`, `8th` or `16th`.
        options: `length` is the most steps of a chorale.
    """
    path = raw.find(options.data_dir, "jsb_chorales", f"jsb-chorales-{resolution}.json")
    try:
        held = json.loads(raw.read_text(path))
        songs = {
            part: [[list(step) for step in song] for song in held[key]]
            for part, key in PARTS.items()
        }
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: expected JSON of train, valid and test, each a list of songs, lists of steps "
            f"that are lists of MIDI numbers; found {error!r}"
        ) from error
    return music(f"jsb_chorales/{resolution}", songs, options)


def music(name: str, songs: dict[str, list[Song]], options: Options) -> Dataset:
    """Return songs as piano rolls: `inputs` and `targets` float32[T, 88] of 0 and 1, `length`.

    `targets` are the keys that sound at a step, `inputs` those at the step before, none at first:
    the log-likelihood is of every step, as Boulanger-Lewandowski et al. count it.
    """
    rolls = {part: [_roll(name, song) for song in held] for part, held in songs.items()}
    steps = steps_of(name, options.length, rolls)
    splits = {}
    for part, held in rolls.items():
        targets, length = padded(f"{name}, {part}", held, steps)
        splits[part] = following(name, targets, length)
    splits["train"] = few(splits["train"], options.train_size)
    return Dataset(name, **splits, task="polyphony")


def _roll(name: str, song: Song) -> np.ndarray:
    roll = np.zeros((len(song), KEYS), np.float32)
    for step, pitches in enumerate(song):
        for pitch in pitches:
            if pitch not in range(LOWEST, LOWEST + KEYS):
                raise UserError(
                    f"{name}: found the note {pitch!r}, expected MIDI numbers from {LOWEST} to "
                    f"{LOWEST + KEYS - 1}, the keys of a piano"
                )
            roll[step, int(pitch) - LOWEST] = 1
    return roll
