"""What a trained model writes and draws, against the same model stepped by hand."""

import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from research.commands.evaluate import evaluate_checkpoint
from research.commands.generate import generate, prompt_ids, strokes
from research.commands.trained import open_trained
from research.config import UserError
from research.data.text import EOS, Vocabulary


def write_on(trained, ids, length):
    """Take the most probable token each time, reading the whole text again."""
    model, params = trained.task.model, {"params": trained.variables["params"]}
    logits = jax.jit(lambda tokens: model.apply(params, tokens)[0])
    ids, whole = list(ids), len(ids) + length
    while len(ids) < whole:
        padded = np.array([ids + [0] * (whole - len(ids))], np.int32)
        ids.append(int(logits(padded)[0, len(ids) - 1].argmax()))
    return ids


@pytest.mark.parametrize("prompt", ["And God said", ""])
def test_greedily_it_goes_on_as_the_model_does_step_by_step(sequence_run, prompt, capsys):
    directory = str(sequence_run("toy/text"))
    (text,) = generate(directory, None, {}, prompt=prompt, length=12, temperature=0.0)
    trained = open_trained(directory, None, {})
    vocabulary = trained.dataset.vocabulary
    ids = write_on(trained, vocabulary.encode(prompt or "\n"), 12)
    assert text == vocabulary.decode(ids[0 if prompt else 1 :])
    assert text.startswith(prompt) and text in capsys.readouterr().out


def test_a_seed_draws_its_text_whatever_else_is_drawn(sequence_run, capsys):
    directory = str(sequence_run("toy/text"))
    options = {"prompt": "the ", "length": 30}
    texts = generate(directory, None, {}, seeds=(3, 5, 3), **options)
    assert texts[0] == texts[2] != texts[1]
    assert "seed 5:\n" + texts[1] in capsys.readouterr().out
    assert generate(directory, None, {}, seeds=(5,), **options) == [texts[1]]
    likely = generate(directory, None, {}, seeds=(3, 5), top_k=1, **options)
    (greedy,) = generate(directory, None, {}, temperature=0.0, **options)
    assert likely == [greedy, greedy]
    assert generate(directory, None, {}, seeds=(3, 5), top_p=1e-6, **options) == likely


def test_words_go_on_in_their_line_or_in_a_new_one():
    vocabulary = Vocabulary.build("word", ["in the beginning was the word ."])
    the, word = vocabulary.encode("the word")
    assert prompt_ids(vocabulary, "the\nword").tolist() == [the, EOS, word]
    assert prompt_ids(vocabulary, "the word\n").tolist() == [the, word, EOS]
    assert prompt_ids(vocabulary, "").tolist() == [EOS]


def test_a_language_model_is_evaluated_from_its_checkpoint(sequence_run, capsys):
    directory = sequence_run("toy/text")
    found = evaluate_checkpoint(str(directory), None, {}).metrics
    assert found["loss"] == pytest.approx(sequence_run.results["toy/text"]["test/loss"], rel=1e-5)


def test_drawings_are_the_models_draws_and_a_picture(sequence_run):
    directory = sequence_run("toy/strokes")
    drawn = generate(str(directory), None, {}, seeds=(0, 1, 2, 3, 4), length=9)
    assert drawn.shape == (5, 9, 3) and set(np.unique(drawn[..., 2])) <= {0, 1}
    (alone,) = generate(str(directory), None, {}, seeds=(3,), length=9)
    np.testing.assert_allclose(alone, drawn[3], atol=1e-5)
    image = np.asarray(Image.open(directory / "generated.png").convert("L"))
    assert (image < 64).sum() > 20
    # As cold as can be, each offset is the mean of the likeliest component, given those before.
    (cold,) = generate(str(directory), None, {}, length=4, temperature=1e-9)
    trained = open_trained(str(directory), None, {})
    before = np.concatenate([np.zeros((1, 1, 3)), cold[None, :-1]], axis=1).astype(np.float32)
    outputs = np.asarray(trained.task.model.apply(trained.variables, before)[0][0])
    parts = outputs[:, :-1].reshape(4, -1, 6)
    means = parts[np.arange(4), parts[..., 0].argmax(-1), 1:3]
    np.testing.assert_allclose(cold[:, :2], means, atol=1e-3)
    np.testing.assert_array_equal(cold[:, 2], outputs[:, -1] > 0)


def test_a_stroke_ends_where_the_pen_is_lifted():
    drawing = np.array([[1, 0, 0], [0, 2, 1], [3, 0, 1], [0, 1, 0]], np.float32)
    found = [stroke.tolist() for stroke in strokes(drawing)]
    assert found == [[[1, 0], [1, 2]], [[4, 2]], [[4, 3]]]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("toy/text", {"prompt": "größer"}, r"--prompt: found 'größer': unknown token 'ö'"),
        ("toy/text", {"prompt": "\udcff"}, r"--prompt: found '\\udcff', expected text in UTF-8"),
        ("toy/text", {"length": 0}, "--length: found 0, expected at least 1"),
        ("toy/text", {"temperature": -1.0}, "temperature: found -1.0, expected more than 0"),
        ("toy/text", {"top_k": -1}, "top_k: found -1"),
        ("toy/text", {"top_p": 1.5}, "top_p: found 1.5"),
        ("toy/text", {"temperature": 0.0, "top_k": 5}, "--top_k, --top_p: found 5, 1.0 with --te"),
        ("toy/strokes", {"prompt": "a"}, "with a run that draws, expected none"),
        ("toy/strokes", {"temperature": 0.0}, "--temperature: found 0.0, expected more than 0"),
        ("toy/translation", {}, r"'translation' of 'toy/translation' with --mode=generate, exp"),
    ],
)
def test_what_cannot_be_is_said(sequence_run, name, options, message):
    with pytest.raises(UserError, match=message):
        generate(str(sequence_run(name)), None, {}, **options)


def test_without_words_there_is_nothing_to_go_on_with():
    with pytest.raises(UserError, match=r"--prompt: found '  ', expected at least one token"):
        prompt_ids(Vocabulary.build("word", ["a b"]), "  ")
    with pytest.raises(UserError, match=r"--prompt: found '\\n': unknown token '\\n'"):
        prompt_ids(Vocabulary.build("char", ["acgt"]), "")


def test_a_run_of_images_does_not_write(finished):
    with pytest.raises(UserError, match=r"'classification' of 'digits' .* 'language_model' or 'ha"):
        generate(str(finished()[0]), None, {})


def test_the_vocabulary_is_the_runs_own(sequence_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(sequence_run("toy/text"), copy)
    Vocabulary.build("char", ["another"]).save(copy / "vocabulary.json")
    with pytest.raises(UserError, match=r"vocabulary.json: vocabulary of another run"):
        generate(str(copy), None, {})
    (copy / "vocabulary.json").unlink()
    with pytest.raises(UserError, match=r"vocabulary.json: found no file, expected the vocabulary"):
        generate(str(copy), None, {})
