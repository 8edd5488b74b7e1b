"""`--mode=translate`: translate lines of text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from research.checks import check_range
from research.commands.trained import check_text, open_trained
from research.config import UserError
from research.data import raw
from research.data.arrays import Arrays, padded
from research.data.text import EOS
from research.train.translate import translate


def translate_lines(
    checkpoint: str,
    data_dir: str | None,
    overrides: Mapping[str, Any],
    *,
    text: str | None = None,
    input: str | None = None,
    beams: int | None = None,
    alpha: float | None = None,
    length: int | None = None,
) -> list[str]:
    """Print each line as the model reads it, with `<unk>` for words that it does not know, and its
    translation.

    Args:
        checkpoint: as `--checkpoint`.
        data_dir: as `--data_dir`.
        overrides: fields of the config that are to differ from the run's.
        text: one line or several.
        input: a file of lines, in place of it.
        beams: of the beam search, 1 makes it greedy; None: the run's `train.beams`.
        alpha: the power of its length penalty, 0: none; None: the run's `train.alpha`.
        length: the most tokens of a translation; None: half more than the longest line's, and ten.

    Returns:
        The translations.

    Raises:
        UserError: no text or two, text that is not UTF-8, a line without a token, a run that does
            not translate, or a search that cannot be.
    """
    if (text is None) == (input is None):
        found = "neither" if text is None else "both"
        raise UserError(f"--text, --input: found {found}, expected one of them")
    if length is not None and length < 1:
        raise UserError(f"--length: found {length}, expected at least 1")
    for flag, value in (("beams", beams), ("alpha", alpha)):
        if value is not None:
            check_range(f"train.{flag}", value, f"--{flag}: ")
    if text is None:
        path = Path(input).expanduser()
        if not path.is_file():
            raise UserError(f"--input: {path} is no file, expected one of text")
        lines = raw.read_lines(path) or [""]
    else:
        check_text("text", text)
        lines = text.split("\n")
    trained = open_trained(checkpoint, data_dir, overrides)
    trained.expect("translate", "translation")
    vocabulary = trained.vocabulary()
    sources = [vocabulary.encode(line) for line in lines]
    for number, ids in enumerate(sources, start=1):
        if not len(ids):
            flag = "text" if input is None else "input"
            raise UserError(f"--{flag}: line {number} is empty, expected at least one token")
    ended = [np.append(ids, np.int32(EOS)) for ids in sources]
    inputs, lengths = padded("lines", ended, max(map(len, ended)))
    devices = trained.mesh.size
    size = min(trained.config.data.eval_batch_size, -(-len(lines) // devices) * devices)
    with trained.precision():
        found = translate(
            trained.task,
            trained.variables,
            Arrays("lines", {"inputs": inputs, "length": lengths}),
            trained.vocabulary("target_vocabulary"),
            mesh=trained.mesh,
            batch_size=size,
            beams=trained.config.train.beams if beams is None else beams,
            alpha=trained.config.train.alpha if alpha is None else alpha,
            length=length or 0,
        )
    for ids, line in zip(sources, found, strict=True):
        print(f"{vocabulary.write(ids)}\n→ {line}")
    return found
