"""Layouts as bytes, fast: what software packs and a bench unpacks."""

from collections.abc import Mapping
from enum import EnumMeta
from operator import index
from typing import Any, Final, NoReturn

import numpy as np
from amaranth import Shape
from amaranth.lib import data
from numpy.typing import NDArray

from ginseng.isa.errors import EncodingError

__all__ = ["Codec", "pack_upward"]

#: What one field holds: an integer, or bytes where its shape is an array of bytes.
Value = int | bytes


def pack_upward(fields: Mapping[str, Any], *, width: int, boundary: int = 64) -> data.Layout:
    """Lay fields upward from bit 0, none of them across a multiple of ``boundary``.

    A field that would straddle one starts at it. This is GCC's rule for C bit-fields, which the
    VTA encodings follow (specification §2).

    Raises
    ------
    EncodingError
        If a field ends beyond ``width`` bits.

    """
    placed: dict[int | str, data.Field] = {}
    at = 0
    for name, shape in fields.items():
        size = Shape.cast(shape).width
        if size and at // boundary != (at + size - 1) // boundary:
            at = -(-at // boundary) * boundary
        placed[name] = data.Field(shape, at)
        at += size
    if at > width:
        raise EncodingError(f"Field {name} ends at bit {at}, beyond the {width} bits of its word")
    return data.FlexibleLayout(width, placed)


class Codec:
    """Packs and unpacks the words of one layout, little-endian, and checks every range.

    Positions are read from the layout once. ``data.Struct.const`` gives the same bits but is a
    hundred times slower and drops the high bits of a value that does not fit. Names that start
    with an underscore are reserved bits: written as zero, reported by `reserved`.

    Parameters
    ----------
    layout : data.Layout or data.Struct subclass
    name : str
        What errors call the word; by default the class's name.

    """

    def __init__(self, layout: Any, name: str | None = None) -> None:
        self.name: Final[str] = name or layout.__name__
        cast = data.Layout.cast(layout)
        self.nbytes: Final = (Shape.cast(cast).width + 7) // 8
        self._fields: dict[str, tuple[int, int, bool, bool]] = {}
        self._choices: dict[str, Any] = {}
        covered = 0
        for key, field in cast:
            offset, width = field.offset, field.width
            if str(key).startswith("_"):
                continue
            shape = Shape.cast(field.shape)
            is_bytes = isinstance(field.shape, data.ArrayLayout)
            self._fields[str(key)] = (offset, width, shape.signed, is_bytes)
            if isinstance(field.shape, EnumMeta):
                self._choices[str(key)] = field.shape
            covered |= ((1 << width) - 1) << offset
        self._uncovered = ((1 << 8 * self.nbytes) - 1) & ~covered
        self._plain = [
            (key, offset, (1 << width) - 1)
            for key, (offset, width, signed, is_bytes) in self._fields.items()
            if not signed and not is_bytes
        ]
        self._special = [(key, *f) for key, f in self._fields.items() if f[2] or f[3]]
        self._integers = {
            key: (offset, *self.bounds(key), (1 << width) - 1)
            for key, (offset, width, _, is_bytes) in self._fields.items()
            if not is_bytes
        }

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, lowest bit first."""
        return tuple(self._fields)

    def bounds(self, field: str) -> tuple[int, int]:
        """Least and greatest integer that ``field`` holds."""
        _, width, signed, _ = self._fields[field]
        return (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)

    def choices(self, field: str) -> dict[str, int] | None:
        """Names and values of an enumerated ``field``; None where any number may stand."""
        choices = self._choices.get(field)
        if choices is None:
            return None
        return {name: int(member.value) for name, member in choices.__members__.items()}

    def pack(self, **values: Value) -> bytes:
        """Return the word with ``values`` set and every other field zero.

        Raises
        ------
        EncodingError
            If a name is no field of the layout, or a value does not fit its field.

        """
        word = 0
        integers = self._integers
        try:
            for key, value in values.items():
                if key not in integers:
                    word |= self._pack_bytes(key, value)
                    continue
                offset, low, high, mask = integers[key]
                number = index(value)  # type: ignore[arg-type]  # bytes are refused below
                if not low <= number <= high:
                    self._refuse(key, number)
                word |= (number & mask) << offset
        except TypeError:
            raise EncodingError(
                f"{self.name}.{key} holds an integer, not {type(value).__name__}"
            ) from None
        return word.to_bytes(self.nbytes, "little")

    def unpack(self, word: bytes) -> dict[str, int]:
        """Return every integer field of ``word``; byte arrays come from `unpack_bytes`.

        Raises
        ------
        EncodingError
            If ``word`` has another length.

        """
        if len(word) != self.nbytes:
            raise EncodingError(f"{self.name} is {self.nbytes} bytes, not {len(word)}")
        bits = int.from_bytes(word, "little")
        values = {key: bits >> offset & mask for key, offset, mask in self._plain}
        for key, offset, width, signed, is_bytes in self._special:
            if is_bytes:
                continue
            value = bits >> offset & (1 << width) - 1
            values[key] = value - (1 << width) if signed and value >> (width - 1) else value
        return values

    def unpack_bytes(self, word: bytes) -> dict[str, bytes]:
        """Return every byte-array field of ``word``."""
        self.unpack(word)
        bits = int.from_bytes(word, "little")
        return {
            key: (bits >> offset & (1 << width) - 1).to_bytes(width // 8, "little")
            for key, offset, width, _, is_bytes in self._special
            if is_bytes
        }

    def columns(self, words: bytes) -> dict[str, NDArray[np.int64]]:
        """Return every integer field of many words at once: one array per field.

        Raises
        ------
        EncodingError
            If ``words`` is no whole number of words, or a field has more than 56 bits.

        """
        if len(words) % self.nbytes:
            raise EncodingError(
                f"{self.name} words are a multiple of {self.nbytes} bytes, not {len(words)}"
            )
        table = np.frombuffer(words, np.uint8).reshape(-1, self.nbytes)
        columns: dict[str, NDArray[np.int64]] = {}
        for key, (offset, width, signed, is_bytes) in self._fields.items():
            if is_bytes:
                continue
            if width > 56:
                raise EncodingError(f"{self.name}.{key} has {width} bits, a column at most 56")
            column = np.zeros(len(table), np.int64)
            for at in range(offset // 8, (offset + width + 7) // 8):
                byte = table[:, at].astype(np.int64)
                shift = 8 * at - offset
                column |= byte << shift if shift >= 0 else byte >> -shift
            column &= (1 << width) - 1
            if signed:
                column -= column >> (width - 1) << width
            columns[key] = column
        return columns

    def reserved(self, word: bytes) -> int:
        """Return the bits of ``word`` that belong to no field; a well-formed word has none set."""
        return int.from_bytes(word, "little") & self._uncovered

    def _pack_bytes(self, key: str, value: Any) -> int:
        """Return the bits of a byte-array field in place, or say what is wrong with ``key``."""
        if key not in self._fields:
            raise EncodingError(
                f"{self.name} has no field {key} (fields: {', '.join(self._fields)})"
            )
        offset, width, _, _ = self._fields[key]
        if not isinstance(value, bytes) or len(value) != width // 8:
            raise EncodingError(f"{self.name}.{key} holds exactly {width // 8} bytes")
        return int.from_bytes(value, "little") << offset

    def _refuse(self, key: str, value: int) -> NoReturn:
        low, high = self.bounds(key)
        width = self._fields[key][1]
        raise EncodingError(f"{self.name}.{key} holds {low} to {high} ({width} bits), not {value}")
