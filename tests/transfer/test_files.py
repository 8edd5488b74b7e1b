"""Files of weights, by format, and from the Hugging Face hub."""

import sys
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from research.config import UserError
from research.transfer import load_weights
from research.transfer.files import find

TENSORS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "half": np.array([1.5, -2], np.float16),
    "count": np.array(3),
}


@pytest.fixture
def write(tmp_path):
    def write(suffix, tensors=TENSORS):
        path = tmp_path / f"weights{suffix}"
        if suffix == ".npz":
            np.savez_compressed(path, **tensors)
        else:
            safetensors.numpy.save_file(tensors, path)
        return path

    return write


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_round_trip(write, suffix):
    found = load_weights(str(write(suffix)))
    assert found.keys() == TENSORS.keys()
    for name, expected in TENSORS.items():
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


def test_bfloat16(write):
    tensors = {"w": np.array([1.5, -2], ml_dtypes.bfloat16)}
    np.testing.assert_array_equal(load_weights(write(".safetensors", tensors))["w"], tensors["w"])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_cut_file_is_one_error(write, suffix):
    path = write(suffix)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 29):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=f"expected a whole {suffix} file, found"):
            load_weights(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_named(write, suffix, value):
    path = write(
        suffix,
        TENSORS | {"bad": np.array([1, value], ml_dtypes.bfloat16)} | {"ok": TENSORS["half"]}
        if suffix == ".safetensors"
        else TENSORS | {"bad": np.array([1, value])},
    )
    with pytest.raises(UserError, match=r"found NaN or infinity in 1 of \d tensors: bad$"):
        load_weights(path)


def test_an_npz_is_never_unpickled(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, w=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(UserError, match="allow_pickle=False"):
        load_weights(path)


def test_what_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"found no file .*/a\.npz, expected the path of one"):
        load_weights(tmp_path / "a.npz")
    (tmp_path / "a.ckpt").touch()
    with pytest.raises(UserError, match=r"found '\.ckpt', expected one of \.safetensors, \.npz"):
        load_weights(tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="found no file"):
        load_weights(tmp_path)


@pytest.fixture
def hub(monkeypatch, write):
    """A stand-in for the hub, which has one model with one file; the files asked of it."""
    asked = []

    def download(repository, file):
        asked.append((repository, file))
        if file != "model.safetensors":
            raise FileNotFoundError(f"404: no {file}")
        return str(write(".safetensors"))

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download))
    return asked


@pytest.mark.parametrize(
    "name", ["hf:owner/model", "hf:owner/model/model.safetensors", "owner/model/model.safetensors"]
)
def test_the_hub(hub, name):
    assert load_weights(name).keys() == TENSORS.keys()
    assert hub == [("owner/model", "model.safetensors")]


def test_what_the_hub_does_not_have(hub):
    with pytest.raises(UserError, match=r"hf:a/b/c\.npz cannot be had from the hub: c\.npz: .*404"):
        find("hf:a/b/c.npz")


def test_a_path_is_not_taken_for_the_hubs(hub, tmp_path):
    (tmp_path / "sub").mkdir()
    for name in (f"{tmp_path}/sub/none.npz", "./a/b/c.npz", "tests/transfer/none.npz", "a/b.npz"):
        with pytest.raises(UserError, match="found no file"):
            find(name)
    assert not hub


def test_the_hub_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"the extra 'hub': pip install -e '\.\[hub\]'"):
        load_weights("hf:owner/model")
