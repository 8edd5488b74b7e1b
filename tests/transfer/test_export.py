"""Programs that leave: what they compute is what the task computed, on any number of rows."""

import dataclasses

import jax
import numpy as np
import pytest

from research.compression.quantization import Quantized, quantize
from research.data.sources import load_dataset
from research.train.program import batch_shapes
from research.train.tasks import make_task
from research.transfer.export import PLATFORMS, described, exported

CASES = {
    "resnet": {"model.name": "resnet", "model.depth": 8, "model.width": 4, "model.norm": "batch"},
    "lstm": {"model.name": "recurrent", "model.hidden_size": 8, "data.name": "parity"},
}


@pytest.mark.parametrize("case", CASES)
def test_any_number_of_rows(tiny, case):
    config = tiny({"model.hidden": None} | CASES[case])
    dataset = load_dataset(config.data.name, length=config.data.length)
    task = make_task(config, dataset)
    example = {k: np.zeros(s.shape, s.dtype) for k, s in batch_shapes(dataset, 1).items()}
    if "length" in example:
        example["length"] += 1
    variables = jax.jit(task.init)(jax.random.key(0), example)
    spec = dataset.train.spec
    names = ("image",) if "image" in spec else ("inputs", "length")
    program = exported(
        task.answer, variables, {name: jax.ShapeDtypeStruct(*spec[name]) for name in names}
    )
    assert program.platforms == PLATFORMS
    facts = described(program)
    assert set(facts["inputs"]) == set(names)
    assert facts["outputs"]["probabilities"]["shape"] == ["b", dataset.num_classes]
    again = jax.export.deserialize(program.serialize())
    for rows in (1, 33):  # neither a whole chunk of a convolution
        batch = {name: dataset.test.arrays()[name][:rows] for name in spec}
        expected = task.evaluate(variables, batch | {"mask": np.ones(rows, np.float32)})[1]
        found = again.call({name: batch[name] for name in names})
        np.testing.assert_allclose(found["outputs"], expected["outputs"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found["probabilities"].sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", ["int8", "xnor"])
def test_of_a_quantised_model_the_kernels_stay_small(tiny, kind):
    config, dataset = tiny({"model.hidden": (256, 256)}), load_dataset("digits")
    task = make_task(config, dataset)
    images = dataset.test.arrays()["image"][:9]
    variables = task.init(jax.random.key(0), {"image": images})
    spec = {"image": jax.ShapeDtypeStruct(*dataset.train.spec["image"])}
    whole = exported(task.answer, variables, spec).serialize()
    task = dataclasses.replace(task, model=Quantized(task.model, kind, inputs=False))
    few = {"params": quantize(variables["params"], kind)}
    small = exported(task.answer, few, spec).serialize()
    assert len(small) < 0.35 * len(whole)
    found = jax.export.deserialize(small).call({"image": images})["outputs"]
    expected = task.answer(variables, {"image": images})["outputs"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
