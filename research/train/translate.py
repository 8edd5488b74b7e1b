"""A split of sources, translated."""

import functools
from typing import Any

import jax
from jax.sharding import Mesh

from research.data.feed import evaluation_batches
from research.data.split import Split
from research.data.text import EOS, Vocabulary
from research.distributed.mesh import batch_sharding, replicated
from research.tasks.translation import Translation


def translate(
    task: Translation,
    variables: dict[str, Any],
    split: Split,
    vocabulary: Vocabulary,
    *,
    mesh: Mesh,
    beams: int,
    alpha: float,
    batch_size: int = 256,
    feed: str = "auto",
    length: int = 0,
) -> list[str]:
    """Return the best translation of each example that a beam search finds, in order.

    Args:
        task: whose model translates.
        variables: of the model.
        split: its examples have `inputs` and `length`.
        vocabulary: of the target.
        mesh: the devices to use.
        beams: of the search; 1 makes it greedy.
        alpha: the power of its length penalty; 0: none.
        batch_size: a multiple of the number of devices.
        feed: as `data.feed`.
        length: the most tokens of a translation; 0: half more than the longest source, and ten.

    Raises:
        UserError: beams, a penalty or a length that cannot be.
    """
    length = length or split.spec["inputs"][0][0] * 3 // 2 + 10
    decode = _compiled(task, mesh, beams, alpha, length)
    variables = jax.device_put(variables, replicated(mesh))
    lines = []
    for batch in evaluation_batches(
        split, batch_size=batch_size, sharding=batch_sharding(mesh), kind=feed
    ):
        found = jax.device_get(decode(variables, {k: batch[k] for k in ("inputs", "length")}))
        for tokens, end in zip(found.tokens, found.lengths, strict=True):
            lines.append(vocabulary.write([i for i in tokens[:end] if i != EOS]))
    return lines[: len(split)]  # the last batch is filled up


@functools.cache  # for the runs that differ in their seed alone
def _compiled(task: Translation, mesh: Mesh, beams: int, alpha: float, length: int):
    return jax.jit(
        functools.partial(task.translate, beams=beams, alpha=alpha, length=length),
        in_shardings=(replicated(mesh), batch_sharding(mesh)),
        out_shardings=replicated(mesh),
    )
