"""Programs as text, and back.

One line is one instruction or micro-op; text and bytes turn into each other without loss::

    .config LOG_BATCH=1
    .uops
      uop dst=5 src=9 wgt=3
    .insns
      load inp sram_base=18 dram_base=0x3456 y_size=4 x_size=5 x_stride=9 pop_next push_next
      alu shr uop_end=1 iter_out=1 iter_in=64 imm=-3 push_next use_imm
      finish

A line is a mnemonic, then words in any order: the name of an enumerated field's value,
``field=number`` (decimal, ``0x`` or negative), or the name of a one-bit field that is set. Fields
that are not written are zero, but an enumerated one must be written. ``.word`` holds a word that
no instruction encodes (an illegal opcode, reserved bits), as one number. ``;`` starts a comment.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Final

from ginseng.isa.codec import Codec
from ginseng.isa.config import CoreConfig
from ginseng.isa.errors import AssemblyError, ConfigError, EncodingError
from ginseng.isa.insn import INSN_BYTES, UOP_BYTES, InstructionSet, Opcode, instruction_set

__all__ = ["Assembly", "assemble", "disassemble"]

_CONFIG: Final = ".config"
_UOPS: Final = ".uops"
_INSNS: Final = ".insns"
_WORD: Final = ".word"
_UOP: Final = "uop"
_DIRECTIVES: Final = (_CONFIG, _UOPS, _INSNS, _WORD)
_NUMBER: Final = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)")
#: Fields wider than this are written in hexadecimal: they are addresses.
_DECIMAL_BITS: Final = 16


@dataclass(frozen=True)
class Assembly:
    """An assembled program.

    Attributes
    ----------
    config : CoreConfig
        What it was assembled for.
    instructions : bytes
        16 bytes each.
    micro_ops : bytes
        4 bytes each, in the order of the text.
    lines : tuple of int
        Line of the text that each instruction stands on, from 1.

    """

    config: CoreConfig
    instructions: bytes
    micro_ops: bytes
    lines: tuple[int, ...] = ()


def assemble(text: str, config: CoreConfig | None = None) -> Assembly:
    """Return the bytes of a program.

    Parameters
    ----------
    text : str
        The program. Instructions may stand before any section is opened.
    config : CoreConfig or None
        What to assemble for, by default what ``.config`` says, or else the default configuration.

    Raises
    ------
    AssemblyError
        If a line means nothing, a value does not fit its field, or ``.config`` is illegal or
        another than ``config``; it names line, word and a way out.

    """
    chosen = config
    section = _INSNS
    instructions: list[bytes] = []
    micro_ops: list[bytes] = []
    lines: list[int] = []
    for number, words in _lines(text):
        head, rest = words[0].lower(), words[1:]
        if head == _CONFIG:
            if instructions or micro_ops:
                raise AssemblyError(number, head, "stands before every instruction; move it up")
            chosen = _configuration(number, rest, config)
            continue
        if head in (_UOPS, _INSNS):
            if rest:
                raise AssemblyError(number, rest[0], f"{head} stands alone on its line")
            section = head
            continue
        isa = instruction_set(chosen or CoreConfig())
        if section == _UOPS:
            micro_ops.append(_micro_op(isa, number, head, rest))
        else:
            instructions.append(_instruction(isa, number, head, rest))
            lines.append(number)
    return Assembly(
        chosen or CoreConfig(), b"".join(instructions), b"".join(micro_ops), tuple(lines)
    )


def disassemble(
    instructions: bytes,
    config: CoreConfig | None = None,
    *,
    micro_ops: bytes = b"",
    numbered: bool = False,
) -> str:
    """Return the canonical text of a program; `assemble` gives the same bytes back.

    Parameters
    ----------
    instructions, micro_ops : bytes
        16 and 4 bytes each. No content is refused: a word that is no instruction is shown as
        ``.word``.
    config : CoreConfig or None
        Written as ``.config`` where it differs from the default.
    numbered : bool
        Whether a comment gives the index of each instruction and micro-op.

    Raises
    ------
    EncodingError
        If a length is no multiple of a word's.

    """
    config = config or CoreConfig()
    isa = instruction_set(config)
    out: list[str] = []
    differing = [
        f"{field.name.upper()}={getattr(config, field.name)}"
        for field in fields(config)
        if getattr(config, field.name) != field.default
    ]
    if differing:
        out.append(" ".join((_CONFIG, *differing)))
    if micro_ops:
        out.append(_UOPS)
        show = (_show(isa.uop, _UOP, word) for word in _split(micro_ops, UOP_BYTES, "Micro-ops"))
        out.extend(_number(show, numbered))
    out.append(_INSNS)
    show = (
        _show_instruction(isa, word) for word in _split(instructions, INSN_BYTES, "Instructions")
    )
    out.extend(_number(show, numbered))
    return "\n".join(out) + "\n"


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the words of every line that has any."""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(";", 1)[0].split()
        if words:
            yield number, words


def _number(lines: Iterable[str], numbered: bool) -> Iterator[str]:
    for index, line in enumerate(lines):
        yield f"  {line}  ; {index}" if numbered else f"  {line}"


def _split(stream: bytes, size: int, what: str) -> Iterator[bytes]:
    if len(stream) % size:
        raise EncodingError(f"{what} are a multiple of {size} bytes, not {len(stream)}")
    return (stream[at : at + size] for at in range(0, len(stream), size))


def _hint(word: str, known: Iterable[str]) -> str:
    """Return the way out: the known word that is meant, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(word.lower(), known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def _integer(number: int, token: str, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise AssemblyError(
            number, token, f"{text!r} is no number; write it in decimal or as 0x..."
        )
    digits = text.lstrip("+-").lower()
    try:
        value = int(digits, 16 if digits.startswith("0x") else 10)
    except ValueError:  # Python refuses to read thousands of decimal digits
        raise AssemblyError(number, token, "the number is absurdly long") from None
    return -value if text.startswith("-") else value


def _configuration(number: int, words: list[str], given: CoreConfig | None) -> CoreConfig:
    known = [field.name.upper() for field in fields(CoreConfig)]
    values: dict[str, int] = {}
    for token in words:
        key, equals, text = token.partition("=")
        key = key.upper()
        if not equals:
            raise AssemblyError(number, token, "a parameter is written KEY=NUMBER")
        if key not in known:
            hint = difflib.get_close_matches(key, known, n=1)
            way = f"did you mean {hint[0]}?" if hint else f"known: {', '.join(known)}"
            raise AssemblyError(number, token, f"the core has no parameter {key}; {way}")
        if key in values:
            raise AssemblyError(number, token, f"{key} is given twice; drop one")
        values[key] = _integer(number, token, text)
    try:
        config = CoreConfig.from_vta(values)
    except ConfigError as error:
        raise AssemblyError(number, " ".join(words), str(error)) from error
    if given is not None and config != given:
        raise AssemblyError(
            number,
            " ".join(words) or _CONFIG,
            f"the text is for a core {config.name}, not for {given.name}; "
            "assemble it for that core or drop .config",
        )
    return config


def _raw(number: int, words: list[str], size: int) -> bytes:
    if len(words) != 1:
        raise AssemblyError(number, _WORD, f"takes one number of {8 * size} bits")
    value = _integer(number, words[0], words[0])
    if not 0 <= value < 1 << 8 * size:
        raise AssemblyError(number, words[0], f"{_WORD} holds 0 to 2**{8 * size} - 1")
    return value.to_bytes(size, "little")


def _micro_op(isa: InstructionSet, number: int, head: str, words: list[str]) -> bytes:
    if head == _WORD:
        return _raw(number, words, UOP_BYTES)
    if head != _UOP:
        known = (_UOP, *_DIRECTIVES)
        raise AssemblyError(number, head, f"is no micro-op; {_hint(head, known)}")
    return _pack(isa.uop, number, words, {})


def _instruction(isa: InstructionSet, number: int, head: str, words: list[str]) -> bytes:
    if head == _WORD:
        return _raw(number, words, INSN_BYTES)
    opcodes = {opcode.name.lower(): opcode for opcode in isa.codecs}
    opcode = opcodes.get(head)
    if opcode is None:
        if head == _UOP:
            raise AssemblyError(number, head, f"micro-ops stand after {_UOPS}; write {_UOPS} first")
        known = (*opcodes, *_DIRECTIVES)
        raise AssemblyError(number, head, f"is no instruction; {_hint(head, known)}")
    return _pack(isa.codecs[opcode], number, words, {"opcode": int(opcode)})


def _pack(codec: Codec, number: int, words: list[str], values: dict[str, int]) -> bytes:
    """Encode one line; ``values`` holds what the mnemonic sets."""
    implied = set(values)
    names = [name for name in codec.fields if name not in implied]
    symbols = {
        symbol.lower(): (name, value)
        for name in names
        for symbol, value in (codec.choices(name) or {}).items()
    }
    flags = [name for name in names if codec.bounds(name) == (0, 1)]
    for token in words:
        name, equals, text = token.partition("=")
        name = name.lower()
        if equals:
            if name not in names:
                raise AssemblyError(
                    number, token, f"{codec.name} has no field {name}; {_hint(name, names)}"
                )
            choice = symbols.get(text.lower())
            is_symbol = choice is not None and choice[0] == name
            value = choice[1] if choice and is_symbol else _integer(number, token, text)
        elif name in symbols:
            name, value = symbols[name]
        elif name in flags:
            value = 1
        elif name in names:
            raise AssemblyError(number, token, f"{name} needs a value; write {name}=NUMBER")
        else:
            hint = _hint(name, (*symbols, *names))
            raise AssemblyError(number, token, f"means nothing to {codec.name}; {hint}")
        if name in values:
            raise AssemblyError(number, token, f"{codec.name}.{name} is given twice; drop one")
        values[name] = value
        low, high = codec.bounds(name)
        if not low <= value <= high:
            raise AssemblyError(
                number, token, f"{codec.name}.{name} holds {low} to {high}, not {value}"
            )
    for name in names:
        choices = codec.choices(name)
        if choices and name not in values:
            known_symbols = ", ".join(symbol.lower() for symbol in choices)
            raise AssemblyError(
                number, codec.name.lower(), f"needs its {name}; write one of {known_symbols}"
            )
    return codec.pack(**values)


def _show_instruction(isa: InstructionSet, word: bytes) -> str:
    try:
        opcode: Opcode = isa.decode(word).opcode
    except EncodingError:
        return _show_raw(word)
    return _show(isa.codecs[opcode], opcode.name.lower(), word, implied="opcode")


def _show_raw(word: bytes) -> str:
    return f"{_WORD} {int.from_bytes(word, 'little'):#0{2 * len(word) + 2}x}"


def _show(codec: Codec, mnemonic: str, word: bytes, implied: str = "") -> str:
    if codec.reserved(word):
        return _show_raw(word)
    symbols: list[str] = []
    numbers: list[str] = []
    flags: list[str] = []
    for name, value in codec.unpack(word).items():
        choices = codec.choices(name)
        if name == implied:
            continue
        if choices is not None:
            by_value = {number: symbol.lower() for symbol, number in choices.items()}
            symbols.append(by_value.get(value, f"{name}={value}"))
        elif not value:
            continue
        elif codec.bounds(name) == (0, 1):
            flags.append(name)
        elif codec.bounds(name)[1] >> _DECIMAL_BITS:
            numbers.append(f"{name}={value:#x}")
        else:
            numbers.append(f"{name}={value}")
    return " ".join((mnemonic, *symbols, *numbers, *flags))
