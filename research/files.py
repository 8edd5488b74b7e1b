"""The small files of a workdir: JSON, JSON lines, tables, pictures; written whole or not at all."""

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from research.config import UserError


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object; raises `UserError` naming the file if it holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a JSON object, found {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file; a cut last line (a run killed as it wrote, or live) is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise UserError(f"{path}, line {number}: expected JSON, found {line[:40]!r}") from error
    return rows


def write(path: Path, content: str | bytes) -> Path:
    """Write a file whole or not at all: a temporary file beside it, then a rename."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)  # mkstemp gives 0600, which a web server could not read
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UserError(f"{path}: could not be written: {error.strerror or error}") from error
    return path


def write_json(path: Path, content: Any) -> Path:
    """Write strict JSON: a NaN or an infinity raises `ValueError`."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    return write(path, text + "\n")


def write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write rows of equal keys as CSV; None becomes an empty cell."""
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write(path, text.getvalue())
