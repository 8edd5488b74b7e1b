"""`--mode=models`: the list of models and the layers of one."""

import pytest

from research.commands.models import show_models
from research.config import UserError
from research.models import ALL_MODELS, MODELS, create_model


def printed(capsys, monkeypatch, *arguments):
    """Return what is printed: the cells of the rows, and the other lines."""
    monkeypatch.setenv("COLUMNS", "140")
    show_models(*arguments)
    lines = capsys.readouterr().out.splitlines()
    rows = [[c.strip() for c in line.strip("│").split("│")] for line in lines if "│" in line]
    return {row[0]: row[1:] for row in rows}, [line for line in lines if "│" not in line]


def test_every_model_has_its_row(capsys, monkeypatch):
    rows, _ = printed(capsys, monkeypatch, None, {})
    assert list(rows) == list(ALL_MODELS)
    assert rows["resnet50"][:3] == ["25,557,032", "4.09 G", "224×224×3"]
    assert rows["resnet20"] == ["269,722", "40.55 M", "32×32×3", "He et al. 2015, §4.2"]
    assert all(paper for *_, paper in rows.values())


def test_the_layers_of_one(capsys, monkeypatch):
    switches = {"model.skip": "projection", "model.width": 8, "data.image_size": 64}
    rows, lines = printed(capsys, monkeypatch, "resnet20", switches)
    assert lines[0] == "resnet20 on 64×64×3 (He et al. 2015, §4.2)"
    # 32·32 places, 3·3·8·16 weights; 15 after the first stage, and its own 3.
    assert rows["stage2_block1/conv1"] == ["32×32×16", "1,152", "1.18 M", "17", "2"]
    assert rows["stage2_block1/skip/conv"][:2] == ["32×32×16", "128"]
    assert rows["head"] == ["10", "330", "320", "all", ""]
    # Widths halve: a quarter of the weights and of the work on each of four times the places.
    total = sum(int(row[1].replace(",", "")) for row in rows.values() if row[1])
    assert lines[-1].startswith(f"{total:,} parameters, ")


def test_the_layers_of_a_recurrent_network(capsys, monkeypatch):
    switches = {"model.cell": "gru", "model.hidden_size": 8, "data.length": 5}
    rows, lines = printed(capsys, monkeypatch, "recurrent", switches)
    assert lines[0].startswith("recurrent on 5×64 (")
    # Three gates of W, U and two biases; at each of 5 steps the two products.
    assert rows["layer1_forward"][1:3] == [f"{3 * 8 * (64 + 8 + 2):,}", f"{5 * 3 * 8 * (64 + 8):,}"]
    assert rows["head"] == ["10", "90", "80", "all", ""]
    tokens = {"data.vocabulary_size": 50, "model.tied": True}
    rows, lines = printed(capsys, monkeypatch, "recurrent", switches | tokens)
    assert lines[0].startswith("recurrent on 5 of 50 tokens (")
    assert rows["embedding"][1:3] == ["400", "400"] and rows["recurrent"][1] == "50"


def test_the_layers_of_a_translator(capsys, monkeypatch):
    switches = {"model.hidden_size": 8, "model.embedding_size": 6, "data.vocabulary_size": 50}
    rows, lines = printed(capsys, monkeypatch, "seq2seq", switches | {"data.length": 7})
    assert lines[0].startswith("seq2seq on 7 of 50 tokens (")
    assert rows["encoder/layer1_backward"][1:3] == [f"{24 * 16}", f"{7 * 24 * 14:,}"]
    assert rows["source_embedding"][:2] == ["7×6", "300"]
    assert rows["head"][:3] == ["7×50", "350", f"{7 * 50 * 6:,}"]


def test_the_config_names_a_model_as_well(capsys, monkeypatch):
    rows, _ = printed(capsys, monkeypatch, None, {"model.name": "mlp", "model.hidden": (7,)})
    assert rows["dense1"] == ["7", "5,495", "5,488", "all", ""]


def test_images_that_fit_no_model_leave_a_gap(capsys, monkeypatch):
    def refuse(model, shape, *_, **__):
        raise UserError("too small")

    monkeypatch.setattr("research.commands.models.structure", refuse)
    rows, _ = printed(capsys, monkeypatch, None, {"data.image_size": 1})
    assert rows["resnet20"][:3] == ["–", "–", "1×1×3"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("resnt50", {}), "did you mean 'resnet50'"),
        ((None, {"model.norm": "none"}), "model.norm: found 'none'.*--model="),
        (("resnet18", {"model.norm": "bach"}), "did you mean 'batch'"),
        (("mlp", {"model.skip": "none"}), "model.skip"),
        (("recurrent", {"model.cell": "gruu"}), "did you mean 'gru'"),
        ((None, {"model.name": "linear", "model.cell": "gru"}), "model.cell"),
    ],
)
def test_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        show_models(*arguments)


def test_images_are_of_the_papers_size():
    for name in MODELS:
        assert len(create_model(name).input_shape) == 3
