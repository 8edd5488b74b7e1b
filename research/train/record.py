"""What a run is, and what its directory records beside its metrics."""

import dataclasses
import datetime
import functools
import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from research.checks import validate
from research.config import flatten, get_config, override, plain
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
        the run starts from or is taught by) can be told apart.
        """
        weights = {}
        if self.config.init_from:
            weights["weights_sha256"] = source_digest(self.config.init_from)
        if self.config.distill.teacher:
            weights["teacher_sha256"] = source_digest(self.config.distill.teacher)
        if self.config.ensemble.members:
            weights["members_sha256"] = [*map(source_digest, self.config.ensemble.members)]
        return plain(self.config) | weights | {"dataset": facts(dataset)}

    def result(self) -> dict[str, Any] | None:
        """Return what the finished run recorded, None if it has not finished."""
        path = self.directory / "result.json"
        return read_json(path) if path.exists() else None


LATER = ("class_names",)  # facts that older runs have not recorded


def facts(dataset: Dataset) -> dict[str, Any]:
    """Return by what a dataset can be told apart from another of its name."""
    found = _facts(dataset)
    return found | ({"class_names": list(dataset.class_names)} if dataset.class_names else {})


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Return the first fact that differs: what it is, and what it was and is; None where none does.

    Of the names of classes it is the first that differs. What older runs have not recorded does
    not.
    """
    for fact in now | before:
        was, here = before.get(fact), now.get(fact)
        if was == here or (fact in LATER and fact not in before):
            continue
        if fact == "class_names" and len(was) == len(here or ()):
            k = next(k for k, (a, b) in enumerate(zip(was, here, strict=True)) if a != b)
            return f"class {k}", repr(was[k]), repr(here[k])
        return fact, was, here
    return None


def _facts(dataset: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = {"classes": dataset.num_classes}
    sizes = [len(s) for s in (dataset.train, dataset.validation, dataset.test)]
    if "image" not in dataset.train.spec:
        found["shapes"] = {name: list(shape) for name, (shape, _) in dataset.train.spec.items()}
        found |= {"sizes": sizes, "sha256": dataset.train.digest()}
        return found | {name: v.digest for name, v in dataset.vocabularies().items()}
    mean, std = (x.tolist() for x in channel_statistics(dataset.train))
    image_shape = list(dataset.image_shape)
    return found | {"image_shape": image_shape, "sizes": sizes, "mean": mean, "std": std}


def recorded(record: dict[str, Any], overrides: Mapping[str, Any], path: Path) -> ConfigDict:
    """Return the config that config.json holds; fields that came later have their defaults."""
    beside = (
        *("dataset", "weights_sha256", "teacher_sha256", "members_sha256"),
        "experiment",
    )  # which changes no number
    fields = {k: v for k, v in record.items() if k not in beside}
    config = override(get_config(), {k: _tuples(v) for k, v in flatten(fields).items()}, str(path))
    config = override(config, overrides, "--config")
    validate(config)
    return config


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def record_attempt(directory: Path, start: int) -> list[dict]:
    """Append to attempts.jsonl that the run (re)starts from `start`; return all attempts."""
    path = directory / "attempts.jsonl"
    now = datetime.datetime.now(datetime.UTC).isoformat()
    row = {"from": start, "time": now, "code": code_digest(), "git": dict(_git())}
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
        "git": attempts[-1]["git"],
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
