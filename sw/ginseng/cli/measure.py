"""`ginseng measure`: the reference values that owners compare with a quote."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from ginseng.cli.errors import UsageError
from ginseng.cli.output import JsonOption, Output
from ginseng.isa.formats import COMMITMENT_BYTES, MODEL_MONITOR_ROM, Pcr
from ginseng.program import Measurements, load
from ginseng.program import measure as measure_program

__all__ = [
    "CommitmentOption",
    "MaxRunsOption",
    "MonitorRomOption",
    "parse_commitments",
    "reference_values",
    "register",
]


def parse_commitments(pairs: list[str]) -> dict[int, bytes]:
    """Read ``SLOT=HEX`` pairs.

    Raises
    ------
    UsageError
        If one of them is no such pair.

    """
    commitments: dict[int, bytes] = {}
    for pair in pairs:
        slot, _, text = pair.partition("=")
        try:
            commitments[int(slot)] = bytes.fromhex(text)
        except ValueError:
            raise UsageError(
                f"--commitment takes SLOT=HEX (1=00ff…), not {pair!r}; publish one with your offer"
            ) from None
        if len(commitments[int(slot)]) != COMMITMENT_BYTES:
            raise UsageError(
                f"The commitment of slot {slot} has {COMMITMENT_BYTES} bytes, "
                f"not {len(commitments[int(slot)])}"
            )
    return commitments


CommitmentOption = Annotated[
    list[str] | None, typer.Option(help="SLOT=HEX, one per slot of the program.")
]
MaxRunsOption = Annotated[int, typer.Option(help="The run limit agreed on.", min=1)]
MonitorRomOption = Annotated[
    str, typer.Option(help="SHA-256 of the monitor ROM, hexadecimal; 'model' for none.")
]


def reference_values(
    program: Path, commitment: list[str] | None, max_runs: int, monitor_rom: str
) -> Measurements:
    """Compute the registers that a genuine device will report, from what the user gave.

    Raises
    ------
    UsageError, ProgramError
        If something of it cannot be used.

    """
    try:
        rom = (
            hashlib.sha256(MODEL_MONITOR_ROM).digest()
            if monitor_rom == "model"
            else bytes.fromhex(monitor_rom)
        )
    except ValueError:
        raise UsageError(f"--monitor-rom is hexadecimal, not {monitor_rom!r}") from None
    return measure_program(
        load(program),
        commitments=parse_commitments(commitment or []),
        max_runs=max_runs,
        monitor_rom=rom,
    )


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def measure(
        program: Annotated[Path, typer.Argument(help="A sealed .ginseng file.")],
        commitment: CommitmentOption = None,
        max_runs: MaxRunsOption = 1,
        monitor_rom: MonitorRomOption = "model",
        as_json: JsonOption = False,
    ) -> None:
        """Compute the measurement registers that a genuine device will report."""
        values = reference_values(program, commitment, max_runs, monitor_rom)
        output = Output(as_json)
        rows = [
            (f"PCR{n} {Pcr(n).name.lower()}", at_lock.hex(), final.hex())
            for n, (at_lock, final) in enumerate(zip(values.locked, values.final, strict=True))
        ]
        output.table("Reference values", ("register", "at LOCK", "all imports done"), rows)
        output.document(
            {"locked": [v.hex() for v in values.locked], "final": [v.hex() for v in values.final]}
        )
