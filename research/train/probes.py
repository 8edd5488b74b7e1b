"""What else a finished run's best checkpoint is asked, beside the test: `train.probes`."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from research.config import UserError
from research.data.feed import evaluation_batches
from research.data.sources import Dataset
from research.distributed.cluster import fetch, from_main
from research.distributed.mesh import batch_sharding
from research.inspection.invariance import DIRECTIONS, moved_by
from research.train.evaluation import evaluate_model
from research.train.program import Program
from research.train.record import Run
from research.train.tasks import task_name
from research.train.translate import translate
from research.transfer.batch_norm import adapt_batch_norm

Tested = dict[str, float]


def gap(
    program: Program,
    variables: Any,
    dataset: Dataset,
    tested: Tested,
    run: Run,
    **options,
) -> Tested:
    """Return accuracy and loss on the training images, unaugmented and without dropout, as
    `train_set/…`, and by how much that accuracy exceeds the test's: the generalisation gap.
    """
    found = evaluate_model(
        program.task, variables, dataset.train, compiled=program.evaluate, **options
    ).metrics
    seen = {f"train_set/{name}": found[name] for name in ("accuracy", "loss")}
    return seen | {"gap": found["accuracy"] - tested["accuracy"]}


def shift(
    program: Program,
    variables: Any,
    dataset: Dataset,
    tested: Tested,
    run: Run,
    *,
    mesh: Mesh,
    **options,
) -> Tested:
    """Return the share of test images whose predicted class stays when they move by one pixel, a
    mean over the four directions; the row or column that becomes free repeats its neighbour.

    References:
        Zhang, "Making convolutional networks shift-invariant again", ICML 2019, §4.
    """
    same = total = 0.0
    feed = evaluation_batches(
        dataset.test,
        batch_size=options["batch_size"],
        sharding=batch_sharding(mesh),
        kind=options["feed"],
    )
    for batch in feed:

        def predict(images, batch=batch):
            outputs = program.evaluate(variables, batch | {"image": images})[1]["outputs"]
            return np.asarray(program.task.head.predict(jnp.asarray(jax.device_get(outputs))))

        real, before = np.asarray(batch["mask"]) > 0, predict(batch["image"])
        for pixels in DIRECTIONS:
            moved = jax.device_put(moved_by(batch["image"], pixels), batch["image"].sharding)
            same += np.sum((predict(moved) == before)[real])
            total += np.sum(real)
    return {"shift_consistency": float(same / total)}


def target(program: Program, variables: Any, dataset: Dataset, *, adapt: bool, **options) -> Tested:
    """Return the metrics of a test in the domain of `dataset.target`, as `target/…`.

    The images are normalised as those that the model was trained on, and batch norm has been
    adapted to those of the target's training split if `adapt`.
    """
    if adapt:
        batches = evaluation_batches(
            dataset.target.train,
            batch_size=options["batch_size"],
            sharding=batch_sharding(options["mesh"]),
            kind=options["feed"],
        )
        adapted = adapt_batch_norm(program.moments, variables, batches)
        variables = jax.device_put(adapted, jax.tree.map(lambda x: x.sharding, variables))
    found = evaluate_model(
        program.task, variables, dataset.target.test, compiled=program.evaluate, **options
    ).metrics
    return {f"target/{name}": value for name, value in found.items()}


LENGTHS = ("short", "middle", "long")


def bleu(
    program: Program,
    variables: Any,
    dataset: Dataset,
    tested: Tested,
    run: Run,
    **options,
) -> Tested:
    """Return `test/bleu`, from 0 to 100, of translations of the test split, by sacrebleu; and as
    `test/bleu_short`, `_middle` and `_long` that of each third of it by the length of the source.

    The beam and its penalty are `train.beams` and `train.alpha`. The references are the texts as
    published, tokenised by sacrebleu (`13a`); case is ignored (`lowercase=True`), for the
    vocabulary is in lower case. Sources of one length fall in one third, which may leave one empty
    and its BLEU out.

    References:
        K. Papineni et al., BLEU, ACL 2002; M. Post, A Call for Clarity in Reporting BLEU Scores,
        WMT 2018 (sacrebleu).
    """
    import sacrebleu

    options |= {"beams": run.config.train.beams, "alpha": run.config.train.alpha}
    lines = translate(program.task, variables, dataset.test, dataset.target_vocabulary, **options)
    references = dataset.references["test"]
    lengths = dataset.test.arrays()["length"]
    thirds = np.searchsorted(np.quantile(lengths, (1 / 3, 2 / 3)), lengths)
    groups = {f"_{name}": np.flatnonzero(thirds == i) for i, name in enumerate(LENGTHS)}
    groups[""] = np.arange(len(lengths))

    def score(held: np.ndarray) -> float:
        translated, meant = [lines[i] for i in held], [references[i] for i in held]
        return sacrebleu.corpus_bleu(translated, [meant], lowercase=True).score

    return {f"test/bleu{name}": score(held) for name, held in groups.items() if held.size}


TIMES = 7


def weigh(
    program: Program,
    variables: Any,
    dataset: Dataset,
    tested: Tested,
    run: Run,
    *,
    mesh: Mesh,
    **options,
) -> Tested:
    """Write the network, in the bits that `quantize.kind` gives it, to `network.safetensors` in the
    run's directory; return what it takes.

    That is what `research.compression.artefact.footprint` says, and `latency_ms`: the median of
    `TIMES` evaluations of a batch by the compiled function, which computes in floats, whatever the
    kind.
    """
    from research.compression.artefact import footprint  # imports qwix, which takes a second

    path, kind = run.directory / "network.safetensors", run.config.quantize.kind
    latency = _latency(program.evaluate, variables, dataset, mesh, **options)
    variables = fetch(variables)
    found = from_main(lambda: footprint(path, variables, "float32" if kind == "none" else kind))
    return found | {"latency_ms": latency}


def _latency(
    evaluate: Callable, variables: Any, dataset: Dataset, mesh: Mesh, *, batch_size: int, feed: str
) -> float:
    batch = next(
        evaluation_batches(
            dataset.test, batch_size=batch_size, sharding=batch_sharding(mesh), kind=feed
        )
    )
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        jax.block_until_ready(evaluate(variables, batch))
        seconds.append(time.perf_counter() - began)
    return 1e3 * statistics.median(seconds)


PROBES: dict[str, Callable[..., Tested]] = {
    "gap": gap,
    "shift": shift,
    "bleu": bleu,
    "footprint": weigh,
}


def check_probes(config: ConfigDict, dataset: Dataset) -> None:
    """Check that the model can be asked what `train.probes` names.

    Raises:
        UserError: it is of another kind.
    """
    task = task_name(config, dataset)
    needs = {
        "gap": (task in ("classification", "tagging"), "a set with classes"),
        "shift": ("image" in dataset.train.spec, "a set of images"),
        "footprint": (True, "any"),
        "bleu": (
            task == "translation" and "test" in dataset.references,
            "a set of translations, such as 'multi30k/de-en'",
        ),
    }
    for probe in config.train.probes:
        able, expected = needs[probe]
        if not able:
            raise UserError(
                f"train.probes: found {probe!r} with data.name={dataset.name!r} for the task "
                f"{task!r}, expected {expected}"
            )
