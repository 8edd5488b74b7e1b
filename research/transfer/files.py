"""Weights by name of file: `.safetensors`, `.npz`, torch's `.pth`, and the Hugging Face hub's."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from research.config import UserError, unknown
from research.transfer import torch_file

TORCH = (".pth", ".pt", ".th", ".bin")
SUFFIXES = (".safetensors", ".npz", *TORCH)

KIND = "ablate_kind"  # what the metadata of a quantised network call its kind

# What a model's page on the hub calls its weights, in the order in which they are looked for.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def load_weights(source: str | Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file, by name; no code that it may hold is ever run.

    Args:
        source: the path of a `.safetensors`, `.npz`, `.pth`, `.pt`, `.th` or `.bin` file, or a file
            on the Hugging Face hub, as `find` takes them.

    Raises:
        UserError: there is no such file, it is damaged, or holds anything but finite numbers.
    """
    path = find(source)
    if path.suffix == ".safetensors" and (kind := quantized_kind(path)):
        raise UserError(
            f"{path}: found a network that is quantised to {kind}, expected weights in floats; "
            f"--mode=evaluate --checkpoint={path} takes it as it is"
        )
    try:
        if path.suffix in TORCH:
            tensors = torch_file.read(path)
        elif path.suffix == ".npz":
            # np.load leaves a damaged file open that it opened itself.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                tensors = {name: archive[name] for name in archive.files}
        else:
            tensors = safetensors.numpy.load_file(path)
    except (
        *(OSError, ValueError, EOFError, KeyError),
        *(zipfile.BadZipFile, zlib.error, safetensors.SafetensorError),
    ) as error:
        raise UserError(f"{path}: expected a whole {path.suffix} file, found {error}") from None
    spoilt = [name for name, tensor in tensors.items() if not _finite(tensor)]
    if spoilt:
        raise UserError(
            f"{path}: expected finite numbers, found NaN or infinity in {len(spoilt)} of "
            f"{len(tensors)} tensors: {', '.join(spoilt[:8])}{', …' if len(spoilt) > 8 else ''}"
        )
    return tensors


def quantized_kind(path: Path) -> str | None:
    """Return how the weights in a file are quantised; None where it is none of
    `research.compression.artefact`'s.
    """
    try:
        with safetensors.safe_open(path, "numpy") as file:
            return (file.metadata() or {}).get(KIND)
    except (OSError, ValueError, safetensors.SafetensorError):
        return None


def _finite(tensor: np.ndarray) -> bool:
    if tensor.dtype.kind in "biu":
        return True
    return bool(np.isfinite(tensor).all())


def find(source: str | Path) -> Path:
    """Return the local path of `source`: itself, or where the hub's copy lies.

    Args:
        source: a path; or `hf:owner/model`, `hf:owner/model/file`, `owner/model/file` on the
            Hugging Face hub.

    Raises:
        UserError: neither is there, or its suffix is none of `SUFFIXES`.
    """
    name = str(source)
    path = Path(name).expanduser()
    owner, _, rest = name.removeprefix("hf:").partition("/")
    model, _, file = rest.partition("/")
    if not path.exists() and owner and model and (name.startswith("hf:") or _on_hub(name, file)):
        path = _download(name, f"{owner}/{model}", file)
    if name.startswith("hf:") and not path.is_file():
        raise UserError(
            f"init_from: found {name!r}, expected hf:owner/model or hf:owner/model/file"
        )
    if not path.is_file():
        raise UserError(
            f"init_from: found no file {name}, expected the path of one ({', '.join(SUFFIXES)}), "
            "the directory of a finished run, arm:<name>, or hf:owner/model on the Hugging Face hub"
        )
    if path.suffix not in SUFFIXES:
        raise unknown(f"init_from: suffix of {name}", path.suffix, SUFFIXES)
    return path


def _on_hub(name: str, file: str) -> bool:
    """Whether a name without `hf:` may be the hub's: owner/model/file, and no folder here."""
    return bool(file) and name[0] not in "./~" and not Path(name).parent.exists()


def _download(name: str, repository: str, file: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise UserError(
            f"init_from: {name} is on the Hugging Face hub, which needs the extra 'hub': "
            "pip install -e '.[hub]'; or give the path of a file"
        ) from None
    failures = []
    for candidate in [file] if file else HUB_FILES:
        try:
            return Path(hf_hub_download(repository, candidate))
        except Exception as error:  # no network, no such model, no such file, no access
            failures.append(f"{candidate}: {type(error).__name__}: {str(error).splitlines()[0]}")
    raise UserError(f"init_from: {name} cannot be had from the hub: {'; '.join(failures)}")
