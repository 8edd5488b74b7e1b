"""Raw files as their authors publish them, under `--data_dir`, compressed or not."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

from research.config import UserError
from research.data.prepared import data_root

OPENERS: dict[str, Callable] = {"": open, ".gz": gzip.open, ".xz": lzma.open}  # by suffix


def find(data_dir: str | None, folder: str, name: str) -> Path:
    """Return the file `name` of a set: `<data_dir>/<folder>/<name>`, or with .gz or .xz behind it.

    Args:
        data_dir: the folder that holds the set's own; TFDS's where it is not given.
        folder: of the set.
        name: of the file, as published.

    Raises:
        UserError: there is none.
    """
    root = data_root(data_dir)
    for place in (root / folder / name, root / name):
        for suffix in OPENERS:
            if (found := place.with_name(place.name + suffix)).is_file():
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
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise UserError(f"{path}: unreadable ({error or type(error).__name__})") from error


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
