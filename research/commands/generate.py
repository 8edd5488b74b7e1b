"""`--mode=generate`: go on with a text, or draw."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.commands.trained import Trained, check_text, open_trained
from research.config import UserError
from research.data.sets.language import tokens
from research.data.text import Vocabulary
from research.decoding import greedy, sample
from research.files import write
from research.report.plots.style import DPI, STYLE, png

LENGTH = 200  # tokens, where no length is asked for


def generate(
    checkpoint: str,
    data_dir: str | None,
    overrides: Mapping[str, Any],
    *,
    seeds: Sequence[int] = (0,),
    prompt: str = "",
    length: int | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> list[str] | np.ndarray:
    """Print how a language model goes on, or draw what a model of handwriting does.

    Drawings go to `generated.png` in the run's directory.

    Args:
        checkpoint: as `--checkpoint`.
        data_dir: as `--data_dir`.
        overrides: fields of the config that are to differ from the run's.
        seeds: one for each text or drawing.
        prompt: the text to go on with; none: the model begins behind a new line.
        length: tokens to add, or steps to draw; None: 200, or as the median drawing has.
        temperature: see `research.decoding.sample`; 0 takes the most probable token each time.
        top_k: the same; of a text.
        top_p: the same.

    Returns:
        The texts with their prompt, or the drawings float[N, length, 3].

    Raises:
        UserError: a prompt that is not text, or not of the vocabulary; a run of another task; a
            number that cannot be.
    """
    if length is not None and length < 1:
        raise UserError(f"--length: found {length}, expected at least 1")
    trained = open_trained(checkpoint, data_dir, overrides)
    task = trained.expect("generate", "language_model", "handwriting")
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    if task == "handwriting":
        if prompt or top_k or top_p != 1:
            raise UserError(
                f"--prompt, --top_k, --top_p: found {prompt!r}, {top_k}, {top_p} with a run that "
                "draws, expected none of them: they are of texts"
            )
        return _draw(trained, keys, length, temperature)
    if temperature == 0 and (top_k or top_p != 1):
        raise UserError(
            f"--top_k, --top_p: found {top_k}, {top_p} with --temperature=0, which takes the most "
            "probable token each time; expected neither"
        )
    vocabulary = trained.vocabulary()
    ids = prompt_ids(vocabulary, prompt)
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    with trained.precision():
        found = continuations(trained, ids, keys, length=length or LENGTH, **options)
    begin = ids if prompt else ids[:0]
    texts = [vocabulary.decode(np.concatenate([begin, row])) for row in found]
    for seed, text in zip(seeds, texts, strict=True):
        print(f"seed {seed}:\n{text}\n" if len(texts) > 1 else text)
    return texts


def prompt_ids(vocabulary: Vocabulary, prompt: str) -> np.ndarray:
    """Return the tokens that a text begins with, int32[T]: of none, those of a new line.

    Raises:
        UserError: it is not text, or not of the vocabulary.
    """
    check_text("prompt", prompt)
    text = prompt or "\n"
    try:
        ids = tokens(vocabulary, text, strict=True)
    except UserError as error:
        raise UserError(f"--prompt: found {text!r}: {error}") from None
    if vocabulary.kind in ("word", "space") and not text.endswith("\n"):
        ids = ids[:-1]  # the line goes on
    if not len(ids):
        raise UserError(f"--prompt: found {prompt!r}, expected at least one token")
    return ids


def continuations(
    trained: Trained,
    ids: np.ndarray,
    keys: jax.Array,
    *,
    length: int,
    temperature: float,
    top_k: int,
    top_p: float,
) -> np.ndarray:
    """Return so many tokens that follow on `ids` int32[T], for each key: int32[N, length]."""
    task = trained.task

    @jax.jit
    def decode(variables, prompts, keys):
        read = jnp.full(len(prompts), prompts.shape[1] - 1)  # all but the last, which comes next
        state = task.state_after(variables, prompts, read)

        def step(state, tokens):
            return task.step(variables, state, tokens)

        options = {"length": length, "bos": prompts[:, -1], "eos": None}
        if temperature == 0:
            return greedy(step, state, **options)
        drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        return sample(step, state, keys, **options, **drawn)

    prompts = np.tile(ids, (len(keys), 1))
    return jax.device_get(decode(trained.variables, prompts, keys).tokens)


def _draw(trained: Trained, keys: jax.Array, length: int | None, temperature: float) -> np.ndarray:
    if not temperature > 0:
        raise UserError(f"--temperature: found {temperature}, expected more than 0 for drawings")
    length = length or int(np.median(trained.dataset.train.arrays()["length"]))

    @jax.jit
    def sampled(variables, keys):
        return trained.task.sample(variables, keys, length, temperature)

    with trained.precision():
        drawings = jax.device_get(sampled(trained.variables, keys))
    path = write(trained.directory / "generated.png", picture(drawings))
    print(f"Drawn: {path}")
    return drawings


ACROSS = 4  # drawings in a row


def picture(drawings: np.ndarray) -> bytes:
    """Draw what pens do, float[N, T, 3], beside one another, y downwards; return a PNG."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = math.ceil(len(drawings) / ACROSS), min(ACROSS, len(drawings))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.75 * columns, 1.75 * rows), dpi=DPI)
        FigureCanvasAgg(figure)
        for place, drawing in enumerate(drawings, start=1):
            axis = figure.add_subplot(rows, columns, place)
            for stroke in strokes(drawing):
                axis.plot(*stroke.T, color="black")
            axis.set_aspect("equal", "datalim")
            axis.invert_yaxis()
            axis.axis("off")
        return png(figure)


def strokes(drawing: np.ndarray) -> list[np.ndarray]:
    """Return the points [K, 2] of each stroke of a drawing float[T, 3]: the pen moves, or is lifted
    behind a point.
    """
    points = np.cumsum(drawing[:, :2], axis=0)
    ends = np.flatnonzero(drawing[:, 2]) + 1
    return [stroke for stroke in np.split(points, ends) if len(stroke)]
