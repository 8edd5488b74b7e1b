"""A distilled student's teacher: a trained model, and what it says of the student's images.

What it says is numbers that a batch holds beside its images, as `research.tasks.distillation` reads
them. Where nothing is augmented they are computed once and kept with the split, example by example,
so that a feed finds them by the same positions as the images; up to 1 GiB of them. Otherwise the
teacher sees each batch as it is augmented for the student (L. Beyer et al., Knowledge distillation:
A good teacher is patient and consistent, CVPR 2022, §3.1).
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from research.config import UserError, override, unknown
from research.data.described import DescribedImages
from research.data.feed import RESIDENT_BYTES, Batch, evaluation_batches
from research.data.preprocess import to_unit
from research.data.sources import Dataset
from research.data.split import Split
from research.distributed.cluster import fetch, spread
from research.distributed.mesh import batch_sharding, replicated
from research.files import read_json
from research.models import create_model
from research.tasks.additions import of_model
from research.tasks.classification import Classification
from research.tasks.distillation import HINT, LOGITS, Distillation
from research.train.checkpoint import best_variables
from research.train.record import differing, recorded
from research.train.tasks import PRECISIONS, make_task
from research.transfer.initial import initial_variables, transplant

Answers = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Teacher:
    """What answers for a student.

    Attributes:
        task: whose model it is, with the normalisation that it was trained with.
        hint: its endpoint that the student's is to be like; "" for none.
        source: where its weights are, as `distill.teacher` names them.
        name: of its model.
    """

    task: Classification
    hint: str
    source: str
    name: str

    def load(self, image_shape: tuple[int, ...]) -> dict[str, Any]:
        """Return its variables, arrays of the host.

        Raises:
            UserError: they cannot be read, or are those of another model.
        """
        batch = {"image": jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)}
        shapes = jax.eval_shape(self.task.init, jax.random.key(0), batch)
        with _named():
            if Path(self.source).is_dir():
                found = of_model(best_variables(Path(self.source)))
                return transplant(shapes, found, f"init_from={self.source}")
            return initial_variables(self.name, self.task.model, shapes, self.source)

    def answers(self, variables: dict[str, Any], images: jax.Array) -> Answers:
        """Return what it says of images, float[N, H, W, C] in [0, 1], as in evaluation."""
        x = self.task.normalize(images)
        logits, endpoints = self.task.model.apply(variables, x, train=False)
        said = {LOGITS: logits}
        if self.hint:
            said[HINT] = endpoints[self.hint].astype(logits.dtype)
        return said


def teacher_of(
    config: ConfigDict, dataset: Dataset, record: Mapping[str, Any] | None = None
) -> Teacher | None:
    """Return the teacher that `config.distill` names; None where it names none, or an arm.

    Args:
        config: the student's.
        dataset: the student's.
        record: what the teacher's config.json holds or will hold; read where not given.

    Raises:
        UserError: there is no such teacher, or one of other images, other classes or without the
            endpoint that is to be a hint.
    """
    source = config.distill.teacher
    if not source or (record is None and source.startswith("arm:")):
        return None
    if "image" not in dataset.train.spec:
        raise UserError(
            f"distill.teacher: found {source!r} with data.name={dataset.name!r}, which holds "
            "sequences; expected a set of images"
        )
    if record is None and Path(source).is_dir():
        record = read_json(Path(source) / "config.json")
    own = {"train.precision": config.train.precision, "train.head": "softmax"}
    own |= {"train.class_weights": "none", "transfer.adapt": "none", "data.augment": ()}
    own |= {"distill.teacher": "", "distill.hint": ()}
    if record is not None:
        taught = recorded(record, own, Path(source) / "config.json")
        _check_data(source, record, taught, config, dataset)
        task = make_task(taught, _described(record, dataset))
        name = taught.model.name
    else:
        name = config.distill.model
        if not name:
            raise UserError(
                f"distill.model: found '' with distill.teacher={source!r}, a file of weights; "
                "expected the name of the model that they are of, such as 'resnet56'"
            )
        dtype, param_dtype = PRECISIONS[config.train.precision]
        switches = {"dtype": dtype, "param_dtype": param_dtype}
        model = create_model(name, num_classes=dataset.num_classes, **switches)
        plain = override(config, own, "distill")
        task = dataclasses.replace(make_task(plain, dataset), model=model)
    hint = config.distill.hint[1] if config.distill.hint else ""
    teacher = Teacher(task, hint, source, name)
    if hint:
        endpoint_of(task, hint, dataset.image_shape, "the teacher's")
    return teacher


def distilled(task: Classification, config: ConfigDict, dataset: Dataset, teacher: Teacher):
    """Return the task around `task`, the student's, by which `teacher` trains it.

    Raises:
        UserError: the student has not the endpoint that is to be like the hint, or it is a map of
            another size.
    """
    distill = config.distill
    # The images come augmented, as the teacher saw them.
    task = dataclasses.replace(task, augmentations=())
    options = {"temperature": distill.temperature, "weight": distill.weight}
    if distill.hint:
        shape = dataset.image_shape
        own = endpoint_of(task, distill.hint[0], shape, "the student's")
        its = endpoint_of(teacher.task, teacher.hint, shape, "the teacher's")
        if own[:-1] != its[:-1]:
            raise UserError(
                f"distill.hint: found {distill.hint[0]} of {spell(own)} and the teacher's "
                f"{teacher.hint} of {spell(its)}, expected maps of one height and width"
            )
        options |= {"hint": distill.hint[0], "hint_channels": its[-1]}
        options["hint_weight"] = distill.hint_weight
    return Distillation(task, **options)


def endpoint_of(
    task: Classification, name: str, image_shape: tuple[int, ...], whose: str
) -> tuple[int, ...]:
    """Return the shape of an endpoint of a task's model, of one image.

    Raises:
        UserError: there is none of this name.
    """

    def endpoints(key, batch):
        images = task.normalize(to_unit(batch["image"]))
        return task.model.apply(task.init(key, batch), images, train=False)[1]

    batch = {"image": jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)}
    shapes = jax.eval_shape(endpoints, jax.random.key(0), batch)
    if name not in shapes:
        raise unknown(f"distill.hint: {whose} endpoint", name, shapes)
    return shapes[name].shape[1:]


def taught_shapes(
    teacher: Teacher, task: Classification, shapes: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of a batch of the student's, given those of what the feed delivers."""
    image_shape = shapes["image"].shape[1:]
    batch = {"image": jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)}
    variables = jax.eval_shape(teacher.task.init, jax.random.key(0), batch)
    teach = functools.partial(_teach, teacher, task)
    return jax.eval_shape(teach, variables, dict(shapes), jax.random.key(0), 0)


def taught_feed(
    teacher: Teacher,
    task: Classification,
    split: Split,
    feed: Callable[[Split], Iterator[Batch]],
    *,
    mesh: Mesh,
    batch_size: int,
    key: jax.Array,
    start: int,
) -> Iterator[Batch]:
    """Yield the student's training batches from step `start` on, with the teacher's answers.

    Args:
        teacher: who answers.
        task: the student's, with its augmentations.
        split: the training examples.
        feed: makes batches of a split, from step `start` on.
        mesh: the run's devices.
        batch_size: of the pass over the split whose answers are kept.
        key: of the run's state, of which a step's augmentation is drawn as without a teacher.
        start: the first step.
    """
    shape = split.spec["image"][0]
    variables = spread(teacher.load(shape), replicated(mesh))
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    said = jax.eval_shape(teacher.answers, variables, image)
    nbytes = len(split) * sum(math.prod(s.shape) * s.dtype.itemsize for s in said.values())
    teacher = dataclasses.replace(teacher, source="")  # what teachers of all seeds share
    if task.augmentations or nbytes > RESIDENT_BYTES:
        teach = _compiled_teach(teacher, task, mesh)
        with contextlib.closing(feed(split)) as batches:
            for step, batch in enumerate(batches, start):
                yield teach(variables, batch, key, step)
        return
    answer = _compiled_answers(teacher, mesh)
    batches = evaluation_batches(split, batch_size=batch_size, sharding=batch_sharding(mesh))
    found = [fetch(answer(variables, batch["image"])) for batch in batches]
    kept = {name: np.concatenate([a[name] for a in found])[: len(split)] for name in said}
    yield from feed(Taught(split.name, split, kept))


@dataclasses.dataclass(frozen=True, eq=False)
class Taught(Split):
    """A split whose examples hold, too, what the teacher says of them.

    Attributes:
        examples: the split.
        answers: float[N, …] each, by name, in the order of the examples.
    """

    examples: Split
    answers: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def spec(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """The shape and the dtype of each array of one example, by name."""
        said = {name: (array.shape[1:], array.dtype) for name, array in self.answers.items()}
        return self.examples.spec | said

    def read(self, positions: Sequence[int]) -> dict[str, np.ndarray]:
        """Return some examples, with what is said of them."""
        at = np.asarray(positions, int)
        return self.examples.read(positions) | {k: v[at] for k, v in self.answers.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the whole split; its images are decoded once for all that share it."""
        return self.examples.arrays() | self.answers

    def labels(self) -> np.ndarray:
        """Return the labels alone."""
        return self.examples.labels()


def _teach(teacher: Teacher, task: Classification, variables, batch: Batch, key, step) -> Batch:
    """Return a batch as it is augmented for a student, with what the teacher says of it."""
    if task.augmentations:
        # The draws of a student alone, see `train.step` and `Classification.loss`.
        augment_key, _ = jax.random.split(jax.random.fold_in(key, step))
        batch = task.augment(batch, augment_key)
    return batch | teacher.answers(variables, to_unit(batch["image"]))


@functools.lru_cache(maxsize=32)
def _compiled_teach(teacher: Teacher, task: Classification, mesh: Mesh) -> Callable:
    teach = functools.partial(_teach, teacher, task)
    return jax.jit(teach, out_shardings=batch_sharding(mesh))


@functools.lru_cache(maxsize=32)
def _compiled_answers(teacher: Teacher, mesh: Mesh) -> Callable:
    def answers(variables, images):
        return teacher.answers(variables, to_unit(images))

    return jax.jit(answers, out_shardings=replicated(mesh))


def _described(record: Mapping[str, Any], dataset: Dataset) -> Dataset:
    """Return the set that a teacher was trained on by the facts that its run recorded."""
    facts = record["dataset"]
    statistics = tuple(np.float32(facts[name]) for name in ("mean", "std"))
    shape = tuple(facts["image_shape"])
    splits = [DescribedImages(dataset.name, size, shape, statistics) for size in facts["sizes"]]
    return Dataset(dataset.name, *splits, class_names=dataset.class_names)


def _check_data(
    source: str,
    record: Mapping[str, Any],
    taught: ConfigDict,
    config: ConfigDict,
    dataset: Dataset,
) -> None:
    facts, name = record.get("dataset", {}), f"distill.teacher={source}"
    if "image_shape" not in facts:
        raise UserError(f"{name}: found a run on sequences, expected one on images")
    if record["train"]["head"] != "softmax":
        raise UserError(
            f"{name}: found train.head={record['train']['head']!r}, expected 'softmax': a "
            "distribution over the classes"
        )
    if (found := facts["classes"]) != dataset.num_classes:
        raise UserError(
            f"{name}: found a teacher of {found} classes, expected one of the "
            f"{dataset.num_classes} classes of data.name={dataset.name!r}"
        )
    if taught.data.name == config.data.name and taught.data.classes != config.data.classes:
        raise UserError(
            f"{name}: found a teacher of data.classes={tuple(taught.data.classes)}, expected "
            f"{tuple(config.data.classes)}, the student's (() is all)"
        )
    own = {"class_names": list(dataset.class_names)}
    if difference := differing({k: v for k, v in facts.items() if k in own}, own):
        which, found, here = difference
        raise UserError(
            f"{name}: found a teacher whose {which} is {found}, expected {here}, that of "
            f"data.name={dataset.name!r}"
        )
    if (shape := tuple(facts["image_shape"])) != dataset.image_shape:
        raise UserError(
            f"{name}: found a teacher of images of {spell(shape)}, expected "
            f"{spell(dataset.image_shape)}, the student's"
        )


def spell(shape: Sequence[int]) -> str:
    """Spell a shape: "8×8×16"."""
    return "×".join(map(str, shape))


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Within, an error of weights names the field that they are named in."""
    try:
        yield
    except UserError as error:
        text, _, hint = str(error).partition("\nAll but the last layer do")
        text = text.replace("init_from", "distill.teacher")
        if hint:
            text += "\nAll but the last layer do: the teacher is of other classes"
        raise UserError(text) from None
