"""Reading what `torch.save` wrote, without torch and without running anything the file says.

A `.pth` file is a pickle, and unpickling calls whatever a pickle names. This reader looks no name
up: it knows the dozen of which state dicts consist, has an inert stand-in for each, and refuses
every other. The stand-ins are tuples, so that a pickle can change none once it is made.
"""

import collections
import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from research.config import UserError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py, MAGIC_NUMBER

DTYPES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}

WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training scripts put a state dict


class Forbidden(pickle.UnpicklingError):
    """The pickle names something of which no state dict consists."""


class _Storage(NamedTuple):
    key: str
    kind: str  # of `DTYPES`
    count: int


class _Tensor(NamedTuple):
    """A strided view of a storage, in numbers (not bytes)."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, data: dict[str, np.ndarray]) -> np.ndarray:
        """Return the view, `data` holding each storage's numbers; it never reaches beyond them."""
        numbers, size = data[self.storage.key], math.prod(self.shape)
        layout = (self.offset, *self.shape, *self.strides)
        if not all(type(n) is int and n >= 0 for n in layout):
            raise ValueError(f"a tensor of shape {self.shape}, strides {self.strides}")
        if not size:
            return np.zeros(self.shape, numbers.dtype)
        axes = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((n - 1) * stride for n, stride in axes)
        if max(last + 1, size) > numbers.size:
            raise ValueError(f"a tensor of shape {self.shape} in {numbers.size} numbers")
        strides = [stride * numbers.itemsize for stride in self.strides]
        view = numbers[self.offset :]
        return np.lib.stride_tricks.as_strided(view, self.shape, strides, writeable=False)


class _Call(NamedTuple):
    """A function that the pickle may call."""

    name: str

    def __call__(self, *arguments: Any) -> Any:
        if self.name == "_rebuild_parameter":
            return arguments[0]
        if self.name == "Size":
            return tuple(*arguments)
        return _Tensor(*arguments[:4])


class _Unpickler(pickle.Unpickler):
    """Builds numbers, strings, containers and tensors."""

    def __init__(self, file: BinaryIO):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return collections.OrderedDict
            case "torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_parameter":
                return _Call(name)
            case "torch", "Size":
                return _Call(name)
            case "torch", _ if name in DTYPES:
                return name
        raise Forbidden(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", str(kind), str(key), _, int(count), *view) if (
                kind in DTYPES and not any(view)
            ):
                storage = _Storage(key, kind, count)
                if self.storages.setdefault(key, storage) == storage:
                    return storage
        raise ValueError(f"the persistent object {pid!r:.80}")


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the state dict that a file of `torch.save` holds, its arrays views of one copy.

    The zip format (torch ≥ 1.6) and the one before it are read; a state dict may stand under one of
    `WRAPPERS`.

    Raises:
        UserError: the file is not whole, is none of torch's, holds no state dict, or names anything
            but tensors and plain containers. Nothing that it names is ever imported or called.
    """
    try:
        with path.open("rb") as file:
            content, data = _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
        for wrapper in WRAPPERS:
            if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
                content = content[wrapper]
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}, not a state dict")
        for name, value in content.items():
            if not (isinstance(name, str) and isinstance(value, _Tensor)):
                raise ValueError(f"{name!r:.80} is a {type(value).__name__}, not a tensor")
        return {name: tensor.array(data) for name, tensor in content.items()}
    except Forbidden as error:
        raise UserError(
            f"{path}: found a pickle that names {error}, expected one of tensors in dicts only; "
            "none of it was run. If you trust its origin, write the state dict alone with torch: "
            "torch.save(model.state_dict(), …)"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged pickle raises whatever its opcodes come to
        raise UserError(
            f"{path}: expected a state dict that torch.save wrote, whole; this is none, or is cut "
            f"short or damaged ({error})"
        ) from None


def _numbers(storage: _Storage, content: bytes) -> np.ndarray:
    if len(content) != storage.count * DTYPES[storage.kind].itemsize:
        raise ValueError(f"{len(content)} bytes in storage {storage.key} of {storage.count}")
    return np.frombuffer(content, DTYPES[storage.kind])


def _read_zip(file: BinaryIO) -> tuple[Any, dict[str, np.ndarray]]:
    """`<name>/data.pkl` and, for each storage, `<name>/data/<key>`: none of them compressed."""
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
            raise ValueError("compressed entries, which torch does not write")
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise ValueError("big-endian numbers")
        unpickler = _Unpickler(io.BytesIO(archive.read(entries["data.pkl"])))
        content = unpickler.load()
        return content, {
            key: _numbers(storage, archive.read(entries[f"data/{key}"]))
            for key, storage in unpickler.storages.items()
        }


def _read_legacy(file: BinaryIO) -> tuple[Any, dict[str, np.ndarray]]:
    """Five pickles (magic number, protocol, system, content, the storages' keys), then for each
    storage its count in 8 bytes and its numbers.
    """
    file.seek(0)
    if _Unpickler(file).load() != LEGACY_MAGIC:
        raise ValueError("neither torch's zip archive nor its magic number")
    _Unpickler(file).load()
    if not _Unpickler(file).load()["little_endian"]:
        raise ValueError("big-endian numbers")
    unpickler = _Unpickler(file)
    content, keys = unpickler.load(), _Unpickler(file).load()
    data = {}
    for key in keys:
        storage = unpickler.storages[key]
        if int.from_bytes(file.read(8), "little") != storage.count:
            raise ValueError(f"another size of storage {key} than the {storage.count} announced")
        data[key] = _numbers(storage, file.read(storage.count * DTYPES[storage.kind].itemsize))
    return content, data
