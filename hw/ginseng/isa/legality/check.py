"""Checks a whole program."""

from collections.abc import Iterable, Mapping

from ginseng.isa.config import CoreConfig, SystemConfig
from ginseng.isa.legality.dram import ADDRESS_SPACE, Dram, MemorySide, ReadDram
from ginseng.isa.legality.finding import Finding, Report
from ginseng.isa.legality.order import order_stream
from ginseng.isa.legality.portable import Portable
from ginseng.isa.legality.scratchpads import Scratchpads
from ginseng.isa.legality.stream import MemOp, read_stream
from ginseng.isa.legality.tensors import TensorLike, TensorSide

__all__ = ["check_program"]


def check_program(
    instructions: bytes,
    config: CoreConfig | SystemConfig,
    *,
    dram: bytes | ReadDram = b"",
    tensors: Iterable[TensorLike] = (),
    contents: Mapping[int, bytes] | None = None,
    instructions_at: int | None = None,
    portable: bool = False,
) -> list[Finding]:
    """Return every rule that a program breaks, in stream order; a legal program has no findings.

    The rules are those of VTA specification §11 and, for a build with a TEC, of TEC specification
    §2, §3 and §6. Whatever ``instructions`` and the micro-ops hold, nothing is raised. At most
    `FINDINGS_PER_RULE` findings are kept of each rule.

    Parameters
    ----------
    instructions : bytes
        The stream, 16 bytes an instruction.
    config : CoreConfig or SystemConfig
        With a ``tec``, ``dram_base`` names tensors; otherwise it is a plain address and base
        registers are zero.
    dram : bytes or callable
        Plain builds: what DRAM holds before the program runs, from byte 0, or a function of byte
        address and count that returns as many bytes. The size of an image bounds every transfer.
        Only micro-ops are read from it.
    tensors : iterable of TensorLike
        Builds with a TEC: the tensor table. Whether its rows are legal
        by themselves is the monitor's business, but for their sizes.
    contents : mapping of int to bytes
        Builds with a TEC: contents of domain-3 tensors by handle; those without micro-ops may be
        left out.
    instructions_at : int or None
        Plain builds: byte address of the stream, if stores that overwrite it shall be found.
    portable : bool
        Also report what other VTA implementations get wrong (VTA specification §11.7).

    """
    core = config.core if isinstance(config, SystemConfig) else config
    tec = config.tec if isinstance(config, SystemConfig) else None
    report = Report()
    stream, findings = read_stream(bytes(instructions), core)
    report.extend(findings)
    order, findings = order_stream(stream)
    report.extend(findings)
    scratchpads = Scratchpads(stream, order, report)
    side: MemorySide
    if tec is not None:
        side = TensorSide(stream, order, report, tec=tec, rows=tensors, contents=contents or {})
    else:
        side = Dram(
            stream,
            order,
            report,
            read=dram if callable(dram) else _reader(dram),
            size=ADDRESS_SPACE if callable(dram) else len(dram),
            instructions_at=instructions_at,
        )
    observer = Portable(stream, order, report) if portable else None
    for op in stream.operations:
        if not isinstance(op, MemOp):
            looped = scratchpads.loop(op)
            if observer is not None:
                observer.loop(op, looped)
        elif op.is_load:
            content = side.load(op)
            scratchpads.load(op, content)
            if observer is not None:
                observer.load(op)
        else:
            side.store(op)
            read_bits = scratchpads.store(op)
            if observer is not None:
                observer.store(op, read_bits)
    side.finish(max(stream.count - 1, 0))
    return report.sorted()


def _reader(image: bytes) -> ReadDram:
    view = memoryview(image)
    return lambda address, count: bytes(view[address : address + count])
