"""Translations by the command and by the probe, against the decoder by hand, and sacrebleu."""

import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu

from research.commands.trained import open_trained
from research.commands.translate import translate_lines
from research.config import UserError
from research.data.text import BOS, EOS, UNK
from research.decoding import beam_search, greedy
from research.train.probes import check_probes

LINES = ["Der Hund sieht den Ball.", "Heute sucht ein Mann das Haus im Garten."]


def decoded(trained, ids, search, length, **options):
    """Decode one source without any other beside it."""
    model, params = trained.task.model, {"params": trained.variables["params"]}
    state = model.apply(params, jnp.array([[*ids, EOS]]), method="encode")
    found = search(
        lambda state, tokens: model.apply(params, state, tokens, method="step"),
        *(state,),
        **{"length": length, "bos": BOS, "eos": EOS} | options,
    )
    tokens = np.asarray(found.tokens).reshape(-1, length)[0]
    words = trained.dataset.target_vocabulary.decode(tokens).split("\n")[0]
    return words.replace(" .", ".")


def test_lines_are_translated_as_the_decoder_does_it(sequence_run, tmp_path, capsys):
    directory = str(sequence_run("toy/translation"))
    trained = open_trained(directory, None, {})
    sources = [trained.dataset.vocabulary.encode(line) for line in LINES]
    lengths = {"length": 12}
    search = {"beams": 3, "alpha": 1.0}  # the run's own
    beam = [decoded(trained, ids, beam_search, 12, **search) for ids in sources]
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    assert translate_lines(directory, None, {}, input=str(path), **lengths) == beam
    printed = capsys.readouterr().out
    assert printed == "".join(
        f"{line.lower()}\n→ {found}\n" for line, found in zip(LINES, beam, strict=True)
    )
    one = translate_lines(directory, None, {}, text=LINES[1], beams=1, **lengths)
    assert one == [decoded(trained, sources[1], greedy, 12)]


def test_a_word_that_is_not_known_is_read_as_in_training(sequence_run, capsys):
    directory = str(sequence_run("toy/translation"))
    trained = open_trained(directory, None, {})
    ids = trained.dataset.vocabulary.encode("der Wal")
    assert ids[-1] == UNK
    found = translate_lines(directory, None, {}, text="der Wal", beams=1, length=5)
    assert found == [decoded(trained, ids, greedy, 5)]
    assert capsys.readouterr().out.startswith("der <unk>\n→ ")


def test_bleu_is_that_of_the_translated_test(sequence_run):
    directory = str(sequence_run("toy/translation"))
    trained = open_trained(directory, None, {})
    dataset = trained.dataset
    inputs, length = (dataset.test.arrays()[name] for name in ("inputs", "length"))
    lines = [dataset.vocabulary.decode(i[: n - 1]) for i, n in zip(inputs, length, strict=True)]
    most = inputs.shape[1] * 3 // 2 + 10
    found = translate_lines(directory, None, {}, text="\n".join(lines), length=most)
    references = [text.lower() for text in dataset.references["test"]]
    expected = sacrebleu.BLEU().corpus_score([line.lower() for line in found], [references])
    measured = sequence_run.results["toy/translation"]
    assert measured["test/bleu"] == pytest.approx(expected.score, rel=1e-6)
    assert measured["test/bleu"] > 1
    # Thirds by length, by way of a sort.
    by_length = sorted(range(len(length)), key=lambda i: length[i])
    ends = [length[by_length[round(len(length) * k / 3)]] for k in (1, 2)]
    thirds = {
        "short": [i for i in by_length if length[i] <= ends[0]],
        "middle": [i for i in by_length if ends[0] < length[i] <= ends[1]],
        "long": [i for i in by_length if length[i] > ends[1]],
    }
    for name, held in thirds.items():
        lines, meant = ([each[i].lower() for i in held] for each in (found, references))
        expected = sacrebleu.BLEU().corpus_score(lines, [meant])
        assert measured[f"test/bleu_{name}"] == pytest.approx(expected.score, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("toy/translation", {}, "--text, --input: found neither, expected one of them"),
        ("toy/translation", {"text": "a", "input": "b"}, "--text, --input: found both"),
        ("toy/translation", {"text": ""}, "--text: line 1 is empty"),
        ("toy/translation", {"text": "der\n\nBall"}, "--text: line 2 is empty"),
        ("toy/translation", {"text": "\udcff"}, "--text: .*expected text in UTF-8"),
        ("toy/translation", {"input": "nowhere"}, "--input: nowhere is no file"),
        (
            "toy/translation",
            {"text": "der", "beams": 0},
            "--beams: train.beams: found 0, expected at least 1",
        ),
        ("toy/translation", {"text": "der", "beams": 10**6}, "--beams: .* at most 1000"),
        ("toy/translation", {"text": "der", "alpha": -1.0}, "--alpha: train.alpha: found -1.0"),
        ("toy/translation", {"text": "der", "length": -1}, "--length: found -1"),
        ("toy/text", {"text": "der"}, "'language_model' .* --mode=translate, expected one for 't"),
    ],
)
def test_what_cannot_be_is_said(sequence_run, name, options, message):
    with pytest.raises(UserError, match=message):
        translate_lines(str(sequence_run(name)), None, {}, **options)


def test_a_file_has_to_be_text(sequence_run, tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes("für\n".encode("latin-1"))
    directory = str(sequence_run("toy/translation"))
    for file, message in (("empty", "--input: line 1 is empty"), ("latin", "is not utf-8")):
        with pytest.raises(UserError, match=message):
            translate_lines(directory, None, {}, input=str(tmp_path / f"{file}.txt"))


@pytest.mark.parametrize(
    ("name", "probe", "message"),
    [
        ("toy/text", "bleu", "'bleu' with data.name='toy/text' for the task 'language_model', exp"),
        ("toy/translation", "gap", "expected a set with classes"),
        ("toy/strokes", "shift", "expected a set of images"),
    ],
)
def test_a_probe_of_another_kind_of_data_is_refused(sequence_run, name, probe, message):
    trained = open_trained(str(sequence_run(name)), None, {"train.probes": (probe,)})
    with pytest.raises(UserError, match=f"train.probes: found .*{message}"):
        check_probes(trained.config, trained.dataset)
