"""Raw files as their authors publish them, under `--data_dir`, compressed or not."""

import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from research.config import UserError
from research.data.prepared import data_root

OPENERS: dict[str, Callable] = {"": open, ".gz": gzip.open, ".xz": lzma.open}  # by suffix


def find(data_dir: str | None, folder: str, name: str) -> Path:
    """Return the file `name` of a set: `<data_dir>/<folder>/<name>`, or with .gz or .xz behind it.

    Args:
        data_dir: the folder that holds the set's own, or that itself; TFDS's where it is not given.
        folder: of the set; one whose name begins so does, too.
        name: of the file, as published.

    Raises:
        UserError: there is none.
    """
    root = data_root(data_dir)
    if not root.is_dir():
        raise UserError(f"--data_dir: {root} is no folder, expected the one with {folder}/{name}")
    for place in (root / folder, *sorted(root.glob(f"{folder}*/")), root):
        for suffix in OPENERS:
            if (found := place / (name + suffix)).is_file():
                return found
    raise UserError(
        f"--data_dir: found no {folder}/{name} (nor with .gz or .xz behind it) under {root}, "
        "expected the file as its authors publish it"
    )


def read_bytes(path: Path) -> bytes:
    """Return what a file holds, decompressed.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with OPENERS.get(path.suffix, open)(path, "rb") as file:
            return file.read()
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path}: unreadable ({reason})") from error


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Return the text of a file, each end of line a single newline.

    Raises:
        UserError: it cannot be read, or is not text in this encoding.
    """
    data = read_bytes(path)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}: byte {error.start} (0x{data[error.start]:02x}, in line {line}) is not "
            f"{encoding}, expected text in {encoding}; convert it, for instance with iconv"
        ) from None
    return text.replace("\r\n", "\n").removeprefix("\ufeff")


def read_lines(path: Path, encoding: str = "utf-8") -> list[str]:
    r"""Return the lines of a text file, parted by \n alone, without an empty last one."""
    lines = read_text(path, encoding).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def read_table(path: Path, separator: str | None = None, *, header: int = 0) -> list[list[str]]:
    """Return the fields of a text file's lines after its `header` ones; blank lines are left out.

    Raises:
        UserError: two lines of different numbers of fields.
    """
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        if number <= header or not line.strip():
            continue
        rows.append([field.strip() for field in line.strip().split(separator)])
        if len(rows[-1]) != len(rows[0]):
            raise UserError(
                f"{path}, line {number}: found {len(rows[-1])} fields, expected {len(rows[0])}, as "
                "in the lines before"
            )
    if not rows:
        raise UserError(f"{path}: found no line of data, expected some")
    return rows


def numbers(where: Path | str, fields: list[list[str]]) -> np.ndarray:
    """Return rows of fields as float32[N, D]; those that are empty, `?` or `NaN` as NaN.

    Raises:
        UserError: a field that is no number.
    """
    values = np.empty((len(fields), len(fields[0])), np.float32)
    for i, row in enumerate(fields):
        for k, field in enumerate(row):
            try:
                values[i, k] = float("nan" if field in ("", "?") else field)
            except ValueError:
                raise UserError(
                    f"{where}: found {field!r} in row {i} of the data, expected a number"
                ) from None
    return values
