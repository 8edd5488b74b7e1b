"""A folder of images, one directory per class."""

import dataclasses
from pathlib import Path

from PIL import Image

from research.config import UserError, unknown
from research.data.prepared import data_root


@dataclasses.dataclass(frozen=True)
class Files:
    """Image files and their labels (a `Source`)."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> tuple[bytes, int]:
        return self.paths[index].read_bytes(), self.labels[index]

    def where(self, index: int) -> str:
        return str(self.paths[index])


def open_folder(data_dir: str | None, inside: str | None = None, *, measure: bool):
    """Open `data_dir/<inside>/<class>/**/<image>`: classes in sorted order, other files ignored.

    Args:
        data_dir: the folder, for a folder inside it `data_root`'s by default.
        inside: the name of a folder in it, that of the classes; None for itself.
        measure: find the size that all images share (reads every file's header).

    Returns:
        The files (a `Source`), their shape (H, W, 3; H and W None unless measured) and the class
        names.

    Raises:
        UserError: no such folder, no classes, a class without images, an unreadable image, or
            sizes that differ where one was to be measured.
    """
    root = _folder(data_dir) if inside is None else _folder_inside(data_dir, inside)
    classes = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise UserError(f"--data_dir: {root} is empty of classes; expected one directory per class")
    paths, labels = [], []
    for label, directory in enumerate(classes):
        images = find_images(directory)
        if not images:
            raise UserError(f"--data_dir: {directory} holds no images; expected some of its class")
        paths += images
        labels += [label] * len(images)
    height, width = _common_size(paths) if measure else (None, None)
    names = tuple(directory.name for directory in classes)
    return Files(tuple(paths), tuple(labels)), (height, width, 3), names


def _folder(data_dir: str | None) -> Path:
    """Return `data_dir` as the folder of classes."""
    if not data_dir:
        raise UserError(
            "--data_dir: data.name=folder needs it: a folder with a directory per class"
        )
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise UserError(f"--data_dir: {root} is not a folder; expected one directory per class")
    return root


def _folder_inside(data_dir: str | None, name: str) -> Path:
    """Return the folder `name`, of classes, where prepared sets are looked for too."""
    root = data_root(data_dir)
    if not name or not (root / name).is_dir():
        held = sorted(p.name for p in root.glob("*/") if not p.name.startswith("."))
        raise unknown(
            f"data.name: folder in {root}", f"folder/{name}", [f"folder/{each}" for each in held]
        )
    return root / name


def find_images(directory: Path) -> list[Path]:
    """Return the image files in `directory` and below, sorted; hidden ones are left out."""
    readable = {ext for ext, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    return sorted(
        p
        for p in directory.rglob("*")
        if p.suffix.lower() in readable and not p.name.startswith(".") and p.is_file()
    )


def _common_size(paths: list[Path]) -> tuple[int, int]:
    """Return the (height, width) that all images share."""
    first = None
    for path in paths:
        try:
            with Image.open(path) as image:
                size = image.height, image.width
        except Exception as error:
            problem = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"{path}: unreadable image ({problem})") from error
        first = first or size
        if size != first:
            raise UserError(
                f"data.image_size: the images differ in size ({paths[0]} is {first[0]}×{first[1]}, "
                f"{path} {size[0]}×{size[1]}); set it, for instance data.image_size={max(first)}"
            )
    return first
