"""The check that fields of a manifest are of their types."""

from dataclasses import fields
from typing import Any

from ginseng.program.errors import ProgramError

__all__ = ["require_types"]


def require_types(part: Any, name: str) -> None:
    """Refuse a field of the wrong type: JSON would let ``1``, ``1.0`` and ``true`` pass as one."""
    for item in fields(part):
        value = getattr(part, item.name)
        expected = item.type
        if isinstance(expected, type) and type(value) is not expected:
            raise ProgramError(f"{name}: {item.name} is of type {expected.__name__}, not {value!r}")
