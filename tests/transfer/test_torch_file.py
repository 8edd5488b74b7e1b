"""Files of torch.save: both formats, damage, and pickles that would run something.

`tiny.pth` and `tiny_legacy.th` were written by torch 2.13 (see TENSORS for what is in them).
"""

import builtins
import collections
import io
import os
import pickle
import subprocess
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from research.config import UserError
from research.transfer import load_weights

HERE = Path(__file__).parent
FILES = [HERE / "tiny.pth", HERE / "tiny_legacy.th"]
BASE = np.arange(24, dtype=np.float32)

# torch.manual_seed(0); base = torch.arange(24.)
TENSORS = {
    "conv.weight": BASE.reshape(4, 6).T,  # base.reshape(4, 6).t(): strides of a transpose
    "view": BASE[4:10],  # base[4:10], the same storage
    "half": np.array([1.541, -0.2935, -2.1797], np.float16),  # torch.randn(3).half()
    "bf16": np.array([1.5, -2.25, 3e38], ml_dtypes.bfloat16),
    "count": np.array(7),
    "bool": np.array([True, False]),
    "param": np.ones((2, 3), np.float32),  # torch.nn.Parameter
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_both_formats(path):
    found = load_weights(path)  # tiny.pth has its state dict beside an epoch, under "state_dict"
    assert list(found) == list(TENSORS)
    for name, expected in TENSORS.items():
        assert (found[name].dtype, found[name].shape) == (expected.dtype, expected.shape), name
        np.testing.assert_array_equal(found[name], expected, name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_cut_anywhere_is_one_error(path, tmp_path):
    whole, cut = path.read_bytes(), tmp_path / path.name
    for length in range(0, len(whole) - 1, 37):
        cut.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"expected a state dict that torch\.save wrote, whole"):
            load_weights(cut)


def test_a_damaged_byte_never_passes_unseen(tmp_path):
    """A zip archive has checksums of its entries."""
    whole = bytearray(FILES[0].read_bytes())
    at = whole.index(BASE.tobytes()) + 50
    whole[at] ^= 1
    (tmp_path / "a.pth").write_bytes(whole)
    with pytest.raises(UserError, match="Bad CRC-32"):
        load_weights(tmp_path / "a.pth")


def write_zip(path, content, entries=None):
    """A file as torch.save writes it, around the bytes of a pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
        for key, value in (entries or {}).items():
            archive.writestr(f"archive/data/{key}", value)
    return path


class Named:
    """Pickles as a global's name, or as a call of it, whatever that is."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


MARK = "touched"
ATTACKS = {
    "os.system": Named(os.system, f"touch {MARK}"),
    "subprocess": Named(subprocess.check_call, ["touch", MARK]),
    "eval": Named(eval, f"open({MARK!r}, 'w').close()"),
    "exec": Named(exec, f"open({MARK!r}, 'w').close()"),
    "getattr": Named(getattr, Named(__import__, "os"), "system"),
    "open": Named(open, MARK, "w"),
    "inside a state dict": {"a.weight": 1.0, "b": [Named(os.system, f"touch {MARK}")]},
    "as a key": {Named(os.system, f"touch {MARK}"): 1},
    "inside an ordered dict": collections.OrderedDict(x=Named(os.system, f"touch {MARK}")),
    "pickle.loads": Named(pickle.loads, pickle.dumps(Named(os.system, f"touch {MARK}"))),
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_runs(attack, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(ATTACKS[attack], protocol)
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    system = pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    (tmp_path / "plain.pt").write_bytes(content)  # neither format: only a pickle
    (tmp_path / "legacy.th").write_bytes(magic + system + content)
    write_zip(tmp_path / "zip.pth", content)
    for name in ("plain.pt", "legacy.th", "zip.pth"):
        with pytest.raises(UserError, match="none of it was run"):
            load_weights(tmp_path / name)
    assert not (tmp_path / MARK).exists()
    # The same bytes do run where they are simply unpickled: the attack is real.
    if attack in ("os.system", "eval", "inside a state dict", "as a key"):
        pickle.loads(content)
        assert (tmp_path / MARK).exists()


def test_no_name_is_even_looked_up(tmp_path, monkeypatch):
    """An import of a module would run its code."""
    asked = []
    real = builtins.__import__
    monkeypatch.setattr(
        builtins, "__import__", lambda name, *rest: asked.append(name) or real(name, *rest)
    )
    path = write_zip(tmp_path / "a.pth", b"cantigravity\nfly\n.")
    with pytest.raises(UserError, match=r"names antigravity\.fly, expected one of tensors"):
        load_weights(path)
    assert "antigravity" not in asked


STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
)


@pytest.mark.parametrize(
    ("layout", "found"),
    [
        (b"K\x00(K\x05t(K\x01t", r"a tensor of shape \(5,\) in 4 numbers"),  # beyond its end
        (b"K\x02(K\x02K\x02t(K\x02K\x01t", r"a tensor of shape \(2, 2\) in 4 numbers"),
        (b"K\x00(J\xff\xff\xff\x7ft(K\x00t", "in 4 numbers"),  # 2³¹ copies of one number
        (b"J\xff\xff\xff\xff(K\x02t(K\x01t", "a tensor of shape"),  # before its start
        (b"K\x00(K\x02t(J\xff\xff\xff\xfft", r"strides \(-1,\)"),
        (b"K\x00(K\x02K\x02t(K\x01t", "shorter"),
    ],
)
def test_tensors_stay_inside_their_storage(tmp_path, layout, found):
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + layout + b"\x89NtR"
    content = b"\x80\x02}X\x01\x00\x00\x00w" + rebuild + b"s."
    path = write_zip(tmp_path / "a.pth", content, {"0": BASE[:4].tobytes()})
    with pytest.raises(UserError, match=found):
        load_weights(path)
    good = content.replace(layout, b"K\x00(K\x02K\x02t(K\x02K\x01t")
    path = write_zip(tmp_path / "b.pth", good, {"0": BASE[:4].tobytes()})
    np.testing.assert_array_equal(load_weights(path)["w"], [[0, 1], [2, 3]])


def test_a_pickle_cannot_change_the_reader(tmp_path):
    """BUILD sets attributes: of a tensor, of a stand-in, of a class, it must not."""
    state = b"N}X\x05\x00\x00\x00shape(J\xff\xff\xff\x7fts\x86b"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00(K\x02t(K\x01t\x89NtR"
    for thing in (tensor, b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n"):
        content = b"\x80\x02}X\x01\x00\x00\x00w" + thing + state + b"s."
        path = write_zip(tmp_path / "a.pth", content, {"0": BASE[:4].tobytes()})
        with pytest.raises(UserError, match="attribute"):
            load_weights(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([1, 2], "a list, not a state dict"),
        ({"epoch": 3}, "'epoch' is a int, not a tensor"),
        ({"state_dict": {"w": "text"}}, "'w' is a str, not a tensor"),
    ],
)
def test_what_holds_no_state_dict(tmp_path, content, found):
    path = write_zip(tmp_path / "a.pth", pickle.dumps(content, 2))
    with pytest.raises(UserError, match=found):
        load_weights(path)


def test_a_whole_model_is_refused_by_name(tmp_path):
    path = write_zip(tmp_path / "a.pth", b"\x80\x02ctorchvision.models.resnet\nResNet\n)\x81.")
    with pytest.raises(UserError, match=r"names torchvision\.models\.resnet\.ResNet"):
        load_weights(path)


def test_against_torch(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer, _use_new_zipfile_serialization=zipped)
        (tmp_path / "a.pth").write_bytes(buffer.getvalue())
        found = load_weights(tmp_path / "a.pth")
        for name, expected in model.state_dict().items():
            np.testing.assert_array_equal(found.pop(name), expected.numpy())
        assert not found
