"""`ginseng vta`: bare VTA programs: run, assemble, disassemble."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray

from ginseng.cli.compile import load_arrays
from ginseng.cli.errors import UsageError
from ginseng.cli.output import BoardOption, JsonOption, Output, TraceOption
from ginseng.driver import BareDriver, Board, ProgramFaultError, open_board
from ginseng.isa.assembly import assemble, disassemble
from ginseng.isa.config import NAMED_CORES, CoreConfig, SystemConfig
from ginseng.isa.insn import INSN_BYTES, UOP_BYTES
from ginseng.program import load as load_program

__all__ = ["Case", "application"]

_PAGE: Final = 4096


@dataclass(frozen=True)
class Case:
    """One program of the vector format (tests/vectors/vta/README.md)."""

    name: str
    core: CoreConfig
    before: NDArray[np.uint8]
    insn_addr: int
    insn_count: int
    after: NDArray[np.uint8] | None
    uop_addr: int = 0
    uop_count: int = 0

    @classmethod
    def load(cls, path: Path) -> "Case":
        """Read a case.

        Raises
        ------
        UsageError
            If the file is no case.

        """
        arrays = load_arrays(path)
        if not {"dram_before", "meta"} <= set(arrays):
            raise UsageError(f"{path} is no VTA case: it needs the arrays dram_before and meta")
        try:
            meta: dict[str, Any] = json.loads(str(arrays["meta"]))
            named = meta["config"]
            core = NAMED_CORES[named] if isinstance(named, str) else CoreConfig.from_vta(named)
            before = np.ascontiguousarray(arrays["dram_before"], np.uint8)
            after = None
            if "after_bytes" in arrays:
                low, changed = int(meta["after_lo"]), arrays["after_bytes"]
                if low < 0 or low + len(changed) > len(before):
                    raise UsageError(f"{path}: after_bytes leaves the DRAM image")
                after = before.copy()
                after[low : low + len(changed)] = changed
            addr, count = int(meta["insn_addr"]), int(meta["insn_count"])
            uops = int(meta.get("uop_addr", 0)), int(meta.get("uop_count", 0))
            if not 0 <= addr <= addr + count * INSN_BYTES <= len(before):
                raise UsageError(f"{path}: its instructions leave the DRAM image")
        except UsageError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path}: its meta is damaged ({error})") from None
        return cls(path.stem, core, before, addr, count, after, *uops)

    def part(self, address: int, nbytes: int) -> bytes:
        """Return bytes of the image."""
        return self.before[address : address + nbytes].tobytes()


def _run(case: Case, board: Board) -> tuple[NDArray[np.uint8], int]:
    """Run one case on a bare board; return the DRAM image after, and cycles."""
    dram: NDArray[np.uint8] | None = getattr(board, "dram", None)
    if dram is None:
        raise UsageError(
            f"Board {board.name} gives no access to absolute addresses; use a simulated board"
        )
    if len(case.before) > len(dram):
        raise UsageError(
            f"{case.name}: its image of {len(case.before):,} bytes is larger than the board's "
            f"{len(dram):,}"
        )
    dram[: len(case.before)] = case.before
    cycles = BareDriver(board).run(case.insn_addr, case.insn_count)
    return dram[: len(case.before)].copy(), cycles


def _result(case: Case, board: Board, directory: Path | None) -> dict[str, Any]:
    """Run one case and say how it went; a program that faults does not stop the others."""
    try:
        after, cycles = _run(case, board)
    except ProgramFaultError as fault:
        BareDriver(board).reset()
        return {"name": case.name, "match": False, "cycles": 0, "fault": str(fault)}
    if directory is not None:
        np.save(directory / f"{case.name}.after.npy", after)
    match = None if case.after is None else bool(np.array_equal(after, case.after))
    return {"name": case.name, "match": match, "cycles": cycles}


def application() -> typer.Typer:
    """Return the command group."""
    app = typer.Typer(help="Bare VTA programs, TEC off.", no_args_is_help=True)

    @app.command("run")
    def run(
        cases: Annotated[list[Path], typer.Argument(help="Programs in the vector format.")],
        board: BoardOption = "model",
        trace: TraceOption = None,
        directory: Annotated[
            Path | None, typer.Option("--output", "-o", help="Where NAME.after.npy goes.")
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Run programs, write the DRAM image after each, compare where a result is known."""
        output = Output(as_json)
        boards: dict[CoreConfig, Board] = {}
        results: list[dict[str, Any]] = []
        try:
            if directory is not None:
                directory.mkdir(parents=True, exist_ok=True)
            with output.progress("cases", len(cases)) as step:
                for path in cases:
                    case = Case.load(path)
                    if case.core not in boards:
                        if boards and trace is not None:
                            raise UsageError(
                                f"{path} is for another core than the cases before it, which "
                                f"{trace} traces; run it on its own"
                            )
                        config = SystemConfig(core=case.core, tec=None)
                        boards[case.core] = open_board(board, config=config, trace=trace)
                        output.waves(boards[case.core])
                    results.append(_result(case, boards[case.core], directory))
                    step()
        except OSError as error:
            raise UsageError(f"{directory} cannot be written: {error.strerror}") from None
        finally:
            for opened in boards.values():
                opened.close()
        words = {None: "no expectation", True: "exact", False: "[red]DIFFERS[/red]"}
        rows = [
            (
                r["name"],
                "[red]FAULT[/red]" if "fault" in r else words[r["match"]],
                f"{r['cycles']:,}",
            )
            for r in results
        ]
        output.table(f"VTA programs on {board}", ("case", "result", "cycles"), rows)
        output.document({"cases": results})
        if any(r["match"] is False for r in results):
            raise typer.Exit(1)

    app.command("asm")(_assemble)
    app.command("dis")(_disassemble)
    return app


def _assemble(
    source: Annotated[Path, typer.Argument(help="Assembly text.")],
    output_file: Annotated[
        Path,
        typer.Option("--output", "-o", help="NAME.npz: a case; else raw instruction words."),
    ],
    uop_addr: Annotated[
        int, typer.Option(help="Where a case holds the micro-ops; instructions follow.", min=0)
    ] = 0,
) -> None:
    """Assemble text: a case that `ginseng vta run` takes, or raw instruction words."""
    try:
        assembly = assemble(source.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{source} cannot be read: {error}") from None
    try:
        if output_file.suffix != ".npz":
            output_file.write_bytes(assembly.instructions)
            return
        insn_addr = -(-(uop_addr + len(assembly.micro_ops)) // INSN_BYTES) * INSN_BYTES
        end = insn_addr + len(assembly.instructions)
        image = np.zeros(-(-end // _PAGE) * _PAGE, np.uint8)
        image[uop_addr : uop_addr + len(assembly.micro_ops)] = list(assembly.micro_ops)
        image[insn_addr:end] = list(assembly.instructions)
        meta = {
            "insn_addr": insn_addr,
            "insn_count": len(assembly.instructions) // INSN_BYTES,
            "uop_addr": uop_addr,
            "uop_count": len(assembly.micro_ops) // UOP_BYTES,
            "config": {k.upper(): v for k, v in asdict(assembly.config).items()},
        }
        np.savez_compressed(output_file, dram_before=image, meta=json.dumps(meta))
    except OSError as error:
        raise UsageError(f"{output_file} cannot be written: {error.strerror}") from None


def _disassemble(
    binary: Annotated[Path, typer.Argument(help="A case (.npz), a .ginseng file, or raw words.")],
    numbered: Annotated[bool, typer.Option(help="Give the index of each word.")] = False,
) -> None:
    """Show a program as text; `ginseng vta asm` gives the same bytes back."""
    if binary.suffix == ".ginseng":
        program = load_program(binary)
        words, core, uops = program.contents[program.entry], program.config.core, b""
        if not isinstance(words, bytes):
            raise UsageError(f"{binary}: its program is sealed, nobody can show it")
    elif binary.suffix == ".npz":
        case = Case.load(binary)
        core = case.core
        words = case.part(case.insn_addr, case.insn_count * INSN_BYTES)
        uops = case.part(case.uop_addr, case.uop_count * UOP_BYTES)
    else:
        try:
            words, core, uops = binary.read_bytes(), CoreConfig(), b""
        except OSError as error:
            raise UsageError(f"{binary} cannot be read: {error.strerror}") from None
    sys.stdout.write(disassemble(words, core, micro_ops=uops, numbered=numbered))
