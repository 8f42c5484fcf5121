"""Files that are whole whenever they are read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

__all__ = ["replace_file"]


def replace_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that, whenever it ends, either the old or the new is on the disk, whole."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
