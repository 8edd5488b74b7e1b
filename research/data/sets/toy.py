"""Small sets made here, one for each use, so that everything runs with nothing at hand.

They are drawn once, from rules, the same on every machine; they show that a thing works, and say
nothing about the world. The text alone is real: Genesis 1, Psalm 23 (King James Version, 1611) and
seven of Shakespeare's sonnets (1609), all in the public domain.
"""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from research.data.dataset import Dataset, Options
from research.data.sets.ett import forecasts
from research.data.sets.fsdd import RATE, digits_heard, images_of
from research.data.sets.jsb_chorales import music
from research.data.sets.language import capitals, cut, language
from research.data.sets.multi30k import pairs
from research.data.sets.pen import drawings
from research.data.sets.sentences import labelled_sentences
from research.data.sets.ucr import labelled_series

SIZES = {"train": 1000, "validation": 200, "test": 200}


def text(options: Options) -> Dataset:
    """Nine thousand characters of the Bible and of Shakespeare; 80 %, 10 % and 10 %."""
    return language("toy/text", cut(_text(), 0.1, 0.1), options, "char")


def case(options: Options) -> Dataset:
    """The same text in lower case, line by line: which letters were capitals?"""
    return capitals("toy/case", cut(_text(), 0.1, 0.1), options)


SUBJECTS = {"der Hund": "the dog", "die Frau": "the woman", "das Kind": "the child"}
SUBJECTS |= {"ein Mann": "a man", "ein Vogel": "a bird", "eine Katze": "a cat"}
VERBS = {"sieht": "sees", "sucht": "looks for", "findet": "finds", "hört": "hears"}
OBJECTS = {"den Ball": "the ball", "die Blume": "the flower", "das Haus": "the house"}
OBJECTS |= {"einen Baum": "a tree", "eine Tür": "a door", "ein Pferd": "a horse"}
TIMES = {"": "", "heute": "today", "jetzt": "now", "oft": "often", "morgens": "in the morning"}
PLACES = {"": "", "im Garten": "in the garden", "vor der Schule": "in front of the school"}


def translation(options: Options) -> Dataset:
    """German and English: the verb comes second in German, whatever comes first."""
    both = _sentences()
    order = _rng("translation").permutation(len(both))
    ends = np.cumsum(list(SIZES.values()))
    held = {
        part: tuple(map(list, zip(*(both[i] for i in order[end - size : end]), strict=True)))
        for (part, size), end in zip(SIZES.items(), ends, strict=True)
    }
    return pairs("toy/translation", held, options)


def clauses(options: Options) -> Dataset:
    """One to four of these sentences, joined by "und" and "and": up to forty words."""
    both = _sentences()

    def draw(rng: np.random.RandomState) -> tuple[str, str]:
        chosen = [both[i] for i in rng.randint(len(both), size=rng.randint(1, 5))]
        ways = zip((" und ", " and "), zip(*chosen, strict=True), strict=True)
        german, english = (word.join(each[:-1] for each in side) + "." for word, side in ways)
        return german, english

    return pairs("toy/clauses", _drawn("clauses", draw, SIZES | {"train": 4000}), options)


def _sentences() -> list[tuple[str, str]]:
    """Return all that the grammar makes, in German and in English."""
    found = []
    for words in itertools.product(
        *(part.items() for part in (SUBJECTS, VERBS, OBJECTS, TIMES, PLACES))
    ):
        (who, whom), (does, did), (what, that), (when, then), (where, there) = words
        german = (when, does, who, what, where) if when else (who, does, what, where)
        english = (then, whom, did, that, there)
        found.append(tuple(" ".join(filter(None, side)) + "." for side in (german, english)))
    return found


GOOD = ("good", "lovely", "bright", "funny", "clever")
BAD = ("bad", "dull", "grim", "dreary", "weak")
THINGS = ("plot", "music", "cast", "ending", "film", "script")


def sentiment(options: Options) -> Dataset:
    """Opinions with "not" and "but", of which the last clause decides."""

    def draw(rng: np.random.RandomState) -> tuple[str, int]:
        def clause(positive: int) -> str:
            negated = rng.randint(2)
            word = (GOOD if positive != negated else BAD)[rng.randint(5)]
            degree = ("", "very ", "quite ")[rng.randint(3)]
            thing = THINGS[rng.randint(len(THINGS))]
            return f"the {thing} was {'not ' if negated else ''}{degree}{word}"

        label = rng.randint(2)
        first = clause(1 - label) + " , but " if rng.randint(2) else ""
        return first + clause(label) + " .", label

    parts = _drawn("sentiment", draw)
    return labelled_sentences("toy/sentiment", parts, ("negative", "positive"), options, "space")


ROWS, COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477)  # Hz, of a telephone's keys (ITU-T Q.23)


TONES = {"train": 300, "validation": 100, "test": 100}


def tones(options: Options) -> Dataset:
    """Digits as a telephone dials them: two tones each, of 0.2 to 0.6 s, in noise."""
    return digits_heard("toy/tones", _drawn("tones", _tone, TONES), options)


def _tone(rng: np.random.RandomState) -> tuple[np.ndarray, int]:
    digit = rng.randint(10)
    row, column = divmod(digit - 1, 3) if digit else (3, 1)
    silence, sound = rng.uniform(0.02, 0.1), rng.uniform(0.2, 0.6)
    times = np.arange(int((2 * silence + sound) * RATE)) / RATE
    on = (times > silence) & (times < silence + sound)
    waves = sum(np.sin(2 * np.pi * f * times) for f in (ROWS[row], COLUMNS[column]))
    return np.float32(0.1 * on * waves + 0.1 * rng.randn(len(times))), digit


def series(options: Options) -> Dataset:
    """Three loads with a day of 24 steps, a week of 168, and noise that lasts: 3,360 steps."""
    rng, steps = _rng("series"), 20 * 168
    hours = np.arange(steps)[:, None]
    noise = rng.randn(steps, 3)
    for step in range(1, steps):
        noise[step] += 0.8 * noise[step - 1]
    day = np.sin(2 * np.pi * (hours / 24 + np.array([0, 0.25, 0.5])))
    week = np.sin(2 * np.pi * hours / 168) * [1.0, 0.5, 0.0]
    loads = np.float32(2 * day + week + 0.3 * noise + [10, 5, 0])
    return forecasts("toy/series", loads, [14 * 168, 3 * 168, 3 * 168], options)


CHORDS = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (9, 12, 16))  # I IV V vi, semitones above the tonic
NEXT = ((1, 2, 3), (0, 2), (0, 3), (1, 2))


def chorales(options: Options) -> Dataset:
    """Chords of three voices over a bass, two or four steps each, from one allowed to the next."""

    def draw(rng: np.random.RandomState) -> tuple[list[list[int]], int]:
        tonic, chord, song = 55 + rng.randint(12), 0, []
        for _ in range(rng.randint(8, 13)):
            keys = sorted({tonic + CHORDS[chord][0] - 12, *(tonic + n for n in CHORDS[chord])})
            song += [keys] * (2 * rng.randint(1, 3))
            chord = NEXT[chord][rng.randint(len(NEXT[chord]))]
        return song, 0

    parts = _drawn("chorales", draw, {"train": 200, "validation": 50, "test": 50})
    return music("toy/chorales", {part: songs for part, (songs, _) in parts.items()}, options)


def strokes(options: Options) -> Dataset:
    """Spirals and stars, drawn in one or two strokes."""
    parts = _drawn("strokes", _drawing)
    return drawings("toy/strokes", {part: held for part, (held, _) in parts.items()}, options)


def pen(options: Options) -> Dataset:
    """The same drawings: which of the two is it?"""
    return labelled_series("toy/pen", _drawn("strokes", _drawing), ("star", "spiral"), options)


def _drawing(rng: np.random.RandomState) -> tuple[np.ndarray, int]:
    kind, size = rng.randint(2), rng.uniform(20, 40)
    turns = np.linspace(0, 1, rng.randint(20, 30))
    angles = 4 * np.pi * turns if kind else np.arange(len(turns)) * 0.8 * np.pi
    radius = size * (turns if kind else 1.0)
    points = np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)
    offsets = np.diff(points, axis=0) + rng.randn(len(turns) - 1, 2)
    lifted = np.zeros(len(offsets))
    lifted[[rng.randint(5, 15), -1]] = 1
    return np.float32(np.column_stack([offsets, lifted])), kind


def tones_and_images(options: Options) -> Dataset:
    """The first 300 tones, and beside each a handwritten digit, as `fsdd` pairs them."""
    parts = _drawn("tones", _tone, TONES)
    side = {part: images_of(labels, part) for part, (_, labels) in parts.items()}
    return digits_heard("toy/tones_and_images", parts, options, side)


GAITS = ("standing", "walking", "running")


def motion(options: Options) -> Dataset:
    """An accelerometer's three axes at 20 Hz, 40 to 60 steps: standing, walking or running."""

    def draw(rng: np.random.RandomState) -> tuple[np.ndarray, int]:
        gait = rng.randint(3)
        times = np.arange(rng.randint(40, 61))[:, None] / 20
        pace = (0.0, 1.8, 2.7)[gait] * rng.uniform(0.85, 1.15)
        swing = (0.0, 0.5, 1.0)[gait] * np.sin(2 * np.pi * pace * times + rng.uniform(0, 6, 3))
        return np.float32(swing + [0, 0, 1] + 0.4 * rng.randn(len(times), 3)), gait

    return labelled_series("toy/motion", _drawn("motion", draw), GAITS, options)


def motion_at_rates(options: Options) -> Dataset:
    """Walking or running at a rate of 10 to 40 Hz, by which alone they can be told apart.

    `side` float32[1] is the rate, in units of 20 Hz.
    """
    rates: list[float] = []

    def draw(rng: np.random.RandomState) -> tuple[np.ndarray, int]:
        gait, rate = rng.randint(2), rng.uniform(0.5, 2.0)
        times = np.arange(50)[:, None] / (20 * rate)
        pace = (1.4, 2.8)[gait] * rng.uniform(0.9, 1.1)
        rates.append(rate)
        swing = np.sin(2 * np.pi * pace * times + rng.uniform(0, 6, 3))
        return np.float32(swing + 0.4 * rng.randn(50, 3)), gait

    parts = _drawn("motion_at_rates", draw)
    dataset = labelled_series("toy/motion_at_rates", parts, GAITS[1:], options)
    held = np.split(np.float32(rates)[:, None], np.cumsum(list(SIZES.values()))[:-1])
    sides = dict(zip(SIZES, held, strict=True))
    splits = {part: getattr(dataset, part).beside(side=side) for part, side in sides.items()}
    return dataclasses.replace(dataset, **splits)


def dna(options: Options) -> Dataset:
    """A hundred bases, half of them with a TATA box of which one base may be another."""

    def draw(rng: np.random.RandomState) -> tuple[str, int]:
        bases, box = np.array(list("ACGT"))[rng.randint(0, 4, 100)], np.array(list("TATAAAAG"))
        label = rng.randint(2)
        if label:
            box[rng.randint(8)] = "ACGT"[rng.randint(4)]
            begin = rng.randint(92)
            bases[begin : begin + 8] = box
        return "".join(bases), label

    return labelled_sentences("toy/dna", _drawn("dna", draw), ("none", "box"), options, "char")


# Of the waves P, Q, R, S and T: their places in the beat, their widths and heights.
WAVES, WIDTHS = (0.2, 0.36, 0.4, 0.44, 0.7), (0.025, 0.01, 0.012, 0.01, 0.05)
HEIGHTS = (0.2, -0.15, 1.0, -0.25, 0.3)


def heartbeats(options: Options) -> Dataset:
    """Beats of 100 steps: normal, or premature, without a P wave and with a wide R."""

    def draw(rng: np.random.RandomState) -> tuple[np.ndarray, int]:
        label, times = rng.randint(2), np.linspace(0, 1, 100)
        beat = 0.1 * rng.randn(100)
        heights, widths = np.array(HEIGHTS), np.array(WIDTHS)
        if label:
            heights[0], widths[2] = 0, 3 * widths[2]
        for place, width, height in zip(WAVES, widths, heights, strict=True):
            place, height = place + 0.02 * rng.randn(), height * rng.uniform(0.7, 1.3)
            beat += height * np.exp(-0.5 * ((times - place) / width) ** 2)
        return np.float32(beat[:, None]), label

    parts = _drawn("heartbeats", draw)
    return labelled_series("toy/heartbeats", parts, ("normal", "premature"), options)


TOYS: dict[str, Callable[[Options], Dataset]] = {
    f"toy/{make.__name__}": make
    for make in (
        *(
            text,
            case,
            translation,
            clauses,
            sentiment,
            tones,
            tones_and_images,
            series,
            chorales,
            strokes,
        ),
        *(pen, motion, motion_at_rates, dna, heartbeats),
    )
}


def _text() -> str:
    return (Path(__file__).parent / "toy.txt").read_text(encoding="utf-8")


def _rng(name: str) -> np.random.RandomState:
    # RandomState, not Generator: NumPy promises that its stream never changes (NEP 19).
    return np.random.RandomState(list(name.encode()))


def _drawn(name: str, draw: Callable, sizes: dict[str, int] = SIZES) -> dict[str, tuple]:
    """Return what `draw(rng)` gives, (example, label), so many times for each split."""
    rng = _rng(name)
    return {
        part: tuple(map(list, zip(*(draw(rng) for _ in range(size)), strict=True)))
        for part, size in sizes.items()
    }
