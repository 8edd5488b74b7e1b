"""What a run is, and what its directory records beside its metrics."""

import dataclasses
import datetime
import functools
import hashlib
import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from research.config import plain
from research.data.preprocess import channel_statistics
from research.data.sources import Dataset
from research.distributed.mesh import cores
from research.files import read_json, read_rows
from research.transfer.initial import source_digest


@dataclasses.dataclass(frozen=True)
class Run:
    """One arm with one seed.

    Attributes:
        experiment: its name.
        scale: laptop, gpu, cluster.
        arm: its name; a tuning run adds the value that it tries.
        seed: of the parameters, the shuffle and every other draw.
        config: everything else.
        directory: where it is recorded.
        test: whether the best checkpoint is evaluated on test at the end; tuning runs are not.
    """

    experiment: str
    scale: str
    arm: str
    seed: int
    config: ConfigDict
    directory: Path
    test: bool = True

    def settings(self, dataset: Dataset) -> dict[str, Any]:
        """Return what config.json holds: the config, and by what the data (and the weights that
        the run starts from) can be told apart.
        """
        weights = {}
        if self.config.init_from:
            weights = {"weights_sha256": source_digest(self.config.init_from)}
        return plain(self.config) | weights | {"dataset": facts(dataset)}

    def result(self) -> dict[str, Any] | None:
        """Return what the finished run recorded, None if it has not finished."""
        path = self.directory / "result.json"
        return read_json(path) if path.exists() else None


def facts(dataset: Dataset) -> dict[str, Any]:
    """Return by what a dataset can be told apart from another of its name."""
    found: dict[str, Any] = {"classes": dataset.num_classes}
    sizes = [len(s) for s in (dataset.train, dataset.validation, dataset.test)]
    if "image" not in dataset.train.spec:
        found["shapes"] = {name: list(shape) for name, (shape, _) in dataset.train.spec.items()}
        found |= {"sizes": sizes, "sha256": dataset.train.digest()}
        return found | {name: v.digest for name, v in dataset.vocabularies().items()}
    mean, std = (x.tolist() for x in channel_statistics(dataset.train))
    image_shape = list(dataset.image_shape)
    return found | {"image_shape": image_shape, "sizes": sizes, "mean": mean, "std": std}


def record_attempt(directory: Path, start: int) -> list[dict]:
    """Append to attempts.jsonl that the run (re)starts from `start`; return all attempts."""
    path = directory / "attempts.jsonl"
    _git()  # the commit of the code that is loaded, whatever is checked out while it runs
    now = datetime.datetime.now(datetime.UTC).isoformat()
    row = {"from": start, "time": now, "code": code_digest()}
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    return read_rows(path)


def provenance(attempts: list[dict]) -> dict[str, Any]:
    """Return what the numbers came from: code, versions, git commit, hardware."""
    device = jax.devices()[0]
    digests = dict.fromkeys(a.get("code", "unknown") for a in attempts)
    return {
        "code": {"sha256": " then ".join(digests)},  # more than one: resumed by other code
        "versions": {
            "python": platform.python_version(),
            **{
                name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")
            },
        },
        "git": dict(_git()),
        "hardware": {
            "platform": device.platform,
            "device": device.device_kind,
            "devices": jax.device_count(),
            "cpu": _cpu_name(),
            "cores": cores(),
        },
    }


@functools.cache
def code_digest() -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of the code that makes numbers.

    All of `research/` but what only reads or starts runs. Unlike a commit it is there without git,
    and tells uncommitted changes apart.
    """
    root, digest = Path(__file__).resolve().parent.parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if name.parts[0] not in ("commands", "report", "progress.py", "workdir.py"):
            digest.update(f"{name.as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@functools.cache
def _git() -> dict[str, Any]:
    """Return the commit of this code and whether it was changed since; None outside a checkout."""

    def git(*arguments):
        answer = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True
        )
        return answer.stdout.strip() if answer.returncode == 0 else None

    try:
        commit = git("rev-parse", "HEAD")
        # Results and pages are what runs make, not what makes runs.
        changed = git(
            *("status", "--porcelain", "--", ":/research", ":/launch.py"),
            ":(top,glob)experiments/*/config.py",
        )
    except FileNotFoundError:  # no git here
        commit = changed = None
    return {"commit": commit, "dirty": None if commit is None else bool(changed)}


def _cpu_name() -> str:
    """Return the processor's name where the system tells it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
