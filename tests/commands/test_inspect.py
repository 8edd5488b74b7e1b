"""Every view of models that fit it: its numbers, its picture, and what it refuses."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from research.commands.inspect import _plain, inspect
from research.commands.train import Datasets
from research.commands.trained import Trained
from research.commands.views import VIEWS, chosen, parameters
from research.commands.views.subject import Options, Subject
from research.compression.quantization import Quantized, quantize
from research.config import UserError
from research.data.feed import evaluation_batches
from research.distributed.mesh import batch_sharding
from research.report.plots.inspection import PLOTS
from research.report.plots.style import png
from research.train.tasks import make_task

LSTM = {"model.name": "recurrent", "model.hidden": None, "model.hidden_size": 5}
SEQ2SEQ = {"model.name": "seq2seq", "model.hidden": None, "model.hidden_size": 6}
MODELS = {
    "mlp": {},
    "cnn": {},
    "lstm": LSTM | {"data.name": "toy/text", "data.length": 12},
    "seq2seq": SEQ2SEQ | {"data.name": "toy/translation", "data.train_size": 64},
}


class Small(nn.Module):
    """Two convolutions and a linear layer, which compile in no time."""

    aux_weights = {}  # noqa: RUF012

    @nn.compact
    def __call__(self, x, *, train=False):
        first = nn.relu(nn.Conv(2, (3, 3), name="stem")(x))
        maps = nn.relu(nn.Conv(9, (3, 3), 2, name="body")(first))
        logits = nn.Dense(10, name="head")(maps.mean((1, 2)))
        return logits, {"stem/act": first, "body/act": maps, "logits": logits}


@pytest.fixture(scope="module")
def look(tiny, mesh):
    """What looks at an untrained model, with options."""
    made = {}

    def make(name, **options):
        if name not in made:
            config = tiny(MODELS[name])
            dataset = Datasets(None).of(config)
            task = make_task(config, dataset)
            if name == "cnn":
                task = dataclasses.replace(task, model=Small())
            batches = evaluation_batches(dataset.test, batch_size=8, sharding=batch_sharding(mesh))
            batch = next(batches)
            variables = jax.jit(task.init)(jax.random.key(0), batch)
            made[name] = Trained(Path(), "step 0", config, dataset, mesh, task, variables), batch
        return Subject(*made[name], Options(**options))

    return make


def seen(subject, name):
    """The numbers of a view, whose picture can be drawn."""
    found = _plain(VIEWS[name].look(subject))
    json.dumps(found, allow_nan=False)
    image = png(PLOTS[name](found, "a model"))
    assert image.startswith(b"\x89PNG")
    return found


def test_views_of_images(look, monkeypatch):
    monkeypatch.setattr(parameters, "POINTS", np.array([-0.5, 0, 0.5]))
    subject = look("cnn", endpoint="body/act")
    names = chosen(["all"], subject)
    assert names == list(VIEWS)[:9]
    found = {name: seen(subject, name) for name in names}
    assert np.shape(found["kernels"]["kernel"]) == (3, 3, 1, 2)
    assert [row["endpoint"] for row in found["features"]["rows"]] == ["body/act"] * 5
    (row,) = found["receptive_field"]["rows"]
    assert row["size"] == [5, 5] and row["inside"] == pytest.approx(1, abs=1e-6)
    right = np.asarray(subject.predicted) == np.asarray(subject.batch["label"])
    assert found["occlusion"]["accuracy"] == pytest.approx(right.mean())
    assert np.shape(found["occlusion"]["drops"]) == (5, 8, 8)
    assert np.shape(found["saliency"]["grad_cam"]) == (5, 8, 8)
    assert found["invariance"]["pixels"] == [0, 1, 2]
    assert found["invariance"]["accuracy"][0] == pytest.approx(right.mean())
    assert found["dead_units"]["layers"][0] == "stem/act"
    flow = found["gradient_flow"]
    assert flow["layers"][0] == "stem" and flow["layers"][-1] == "head"
    assert min(flow["gradient_norm"]) > 0
    params, others = subject.variables["params"], (subject.variables, subject.batch)
    loss = float(subject.loss(params, *others))
    assert found["landscape"]["loss"][1][1] == pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("kind", ["int8", "int4", "binary", "xnor"])
def test_a_quantised_network_is_looked_at_as_it_is(look, kind, monkeypatch):
    monkeypatch.setattr(parameters, "POINTS", np.array([0]))
    trained, batch = look("cnn").trained, look("cnn").batch
    calibrated = kind.startswith("int")
    task = dataclasses.replace(trained.task, model=Quantized(Small(), kind, calibrated))
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    if calibrated:
        variables["ranges"] = jax.tree.map(lambda r: r + 1.5, variables["ranges"])
    sums, examples = task.evaluate(variables, batch)
    saved = variables | {"params": quantize(variables["params"], kind)}
    seen = []
    for each in (variables, saved):  # of a checkpoint, and of a file
        subject = Subject(dataclasses.replace(trained, task=task, variables=each), batch, Options())
        logits, _ = subject.apply(subject.variables, subject.images)
        np.testing.assert_array_equal(logits, examples["outputs"])
        names = chosen(["kernels", "gradient_flow", "landscape"], subject)
        seen.append({name: _plain(VIEWS[name].look(subject)) for name in names})
    assert seen[0] == seen[1]
    loss = float(sums["loss"] / sums["count"])
    assert seen[0]["landscape"]["loss"] == [[pytest.approx(loss, rel=1e-4)]]
    codes = seen[0]["kernels"]["kernel"] / np.asarray(saved["params"]["stem"]["kernel"].scale)
    np.testing.assert_allclose(codes, np.round(codes), atol=0.01)


def test_views_of_a_recurrent_network(look):
    subject = look("lstm")
    names = chosen(["all"], subject)
    assert names == ["gradient_flow", "landscape", "states", "gates", "state_gradient"]
    found = {name: seen(subject, name) for name in names[2:]}
    tokens = subject.dataset.vocabulary.tokens
    first = np.asarray(subject.batch["inputs"][0])
    assert found["states"]["steps"] == [tokens[i] for i in first]
    assert np.shape(found["states"]["rows"][0]["states"]) == (len(first), 5)
    assert [row["gate"].rpartition("/")[2] for row in found["gates"]["rows"]] == [
        "forget_gate",
        "input_gate",
        "output_gate",
    ]
    assert found["state_gradient"]["rows"][0]["before_end"] == list(range(len(first)))


def test_attention_of_a_translator(look):
    subject = look("seq2seq")
    assert chosen(["all"], subject) == ["gradient_flow", "landscape", "attention"]
    for row in seen(subject, "attention")["rows"]:
        assert np.shape(row["weights"]) == (len(row["target"]), len(row["source"]))
        np.testing.assert_allclose(np.sum(row["weights"], 1), 1, atol=1e-3)


def test_what_does_not_fit_or_is_not_there(look):
    for view, model, words in [
        ("occlusion", "lstm", "a classifier of images, with a 'recurrent' on 'toy/text'.*states"),
        ("attention", "lstm", "a translator with attention"),
        ("kernels", "mlp", "a network that convolves images"),
        ("states", "cnn", "a recurrent network.*receptive_field, occlusion"),
    ]:
        with pytest.raises(UserError, match=f"--what: found '{view}', which wants {words}"):
            chosen([view], look(model))
    for options, words in [
        ({"endpoint": "stem/akt"}, "one of stem/act, body/act, logits; did you mean 'stem/act'"),
        ({"endpoint": "logits"}, "no positions.*feature maps: stem/act, body/act"),
        ({"patch": 9}, "--patch: found 9 with images 8 pixels wide, expected 1 to 8; nearest: 8"),
        ({"stride": 0}, "--stride: found 0"),
        ({"fill": "red"}, "--fill: found 'red', expected 'mean' or a grey"),
    ]:
        with pytest.raises(UserError, match=words):
            chosen(["all"], look("cnn", **options))


def test_the_pictures_of_a_run(finished, capsys):
    directory, result = finished()
    written = inspect(str(directory), None, {}, what="invariance, dead_units", examples=1000)
    folder = directory / "inspection"
    assert written == [folder / "invariance.png", folder / "dead_units.png"]
    found = json.loads((folder / "invariance.json").read_text())
    assert found["examples"] == 360 and found["title"].startswith("mlp on digits, step")
    assert found["accuracy"][0] == pytest.approx(result["metrics"]["test/accuracy"], abs=1e-4)
    assert np.asarray(Image.open(written[0]).convert("L")).std() > 10
    assert str(written[1]) in capsys.readouterr().out
