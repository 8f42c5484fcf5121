"""`ginseng run`: protected inferences, from the owners' side."""

import secrets
import shlex
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ginseng.cli.compile import load_arrays
from ginseng.cli.errors import UsageError
from ginseng.cli.output import BoardOption, JsonOption, Output, TraceOption
from ginseng.driver import open_board
from ginseng.program import Program, load
from ginseng.secureos import LocalSession, Manufacturer, Policy, local_session
from ginseng.secureos.messages import CHALLENGE_BYTES

__all__ = ["register"]


def _samples(program: Program, path: Path) -> dict[str, NDArray[np.float64]]:
    """Read the input arrays and hold them against the program's ports."""
    arrays = load_arrays(path)
    names = [port.name for port in program.inputs]
    if set(arrays) == {""}:
        if len(names) != 1:
            raise UsageError(f"{path} holds one array, {program.name} takes {names}; give an .npz")
        arrays = {names[0]: arrays[""]}
    if set(arrays) != set(names):
        raise UsageError(f"{path} holds {sorted(arrays)}, {program.name} takes {sorted(names)}")
    for port in program.inputs:
        array = arrays[port.name]
        if array.shape[1:] != port.given_shape or not len(array):
            raise UsageError(
                f"{path}: input {port.name} takes samples of shape {port.given_shape}, samples "
                f"first, not an array of shape {array.shape}"
            )
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise UsageError(f"{path}: input {port.name} holds values that are no finite numbers")
    if len({len(array) for array in arrays.values()}) != 1:
        raise UsageError(f"{path}: its arrays have different numbers of samples")
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def _write_evidence(
    session: LocalSession, manufacturer: Manufacturer, policy: Policy, folder: Path
) -> str:
    """Write what a third party needs to appraise the device; return the command that does it."""
    nonce = secrets.token_bytes(CHALLENGE_BYTES)
    reply = session.runtime.quote(session.name, nonce)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quote.cose").write_bytes(reply.quote)
    (folder / "root.der").write_bytes(manufacturer.root)
    (folder / "program.ginseng").write_bytes(session.terms.program)
    policy.save(folder / "policy.json")
    words = ["ginseng", "verify", str(folder / "quote.cose"), "--nonce", nonce.hex()]
    for n, certificate in enumerate(reply.certificates):
        (folder / f"chain-{n}.der").write_bytes(certificate)
        words += ["--chain", str(folder / f"chain-{n}.der")]
    words += ["--root", str(folder / "root.der"), "--policy", str(folder / "policy.json")]
    words += ["--program", str(folder / "program.ginseng")]
    for entry in session.terms.commitments:
        words += ["--commitment", f"{entry.slot}={entry.commitment.hex()}"]
    words += ["--max-runs", str(session.terms.max_runs)]
    words += ["--monitor-rom", session.terms.monitor_rom.hex()]
    command = shlex.join(words)
    (folder / "verify.sh").write_text(f"#!/bin/sh\nexec {command}\n")
    return command


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("run")
    def run(
        program_file: Annotated[Path, typer.Argument(help="A .ginseng file, as compiled.")],
        input_file: Annotated[
            Path, typer.Option("--input", help="Samples first: .npy, or .npz by input name.")
        ],
        board: BoardOption = "model",
        trace: TraceOption = None,
        output_file: Annotated[
            Path | None, typer.Option("--output", "-o", help="Where the outputs go: .npy or .npz.")
        ] = None,
        audit: Annotated[Path | None, typer.Option(help="The operator's log, JSON lines.")] = None,
        evidence: Annotated[
            Path | None, typer.Option(help="A folder for quote, certificates and policy.")
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Attest a device, seal model and inputs for it, run, and open the results."""
        output = Output(as_json)
        program = load(program_file)
        if program.is_sealed:
            raise UsageError(
                f"{program_file} is sealed, only its owner can release its key; "
                "give the file that 'ginseng compile' wrote"
            )
        samples = _samples(program, input_file)
        count = len(next(iter(samples.values())))
        manufacturer = Manufacturer.create()
        with open_board(board, config=program.config, trace=trace) as opened:
            output.waves(opened)
            policy = Policy(root_strengths=frozenset({opened.config.root}))
            for what in opened.simulated:
                output.say(f"[yellow]simulated[/yellow] {what}")
            with local_session(
                opened,
                program,
                policy=policy,
                manufacturer=manufacturer,
                audit=audit,
                progress=lambda step: output.say(f"  {step.party}: {step.text}"),
            ) as session:
                if evidence is not None:
                    command = _write_evidence(session, manufacturer, policy, evidence)
                    output.say(f"Appraise it yourself: {command}")
                session.quiet()
                parts: list[dict[str, NDArray[Any]]] = []
                batch = session.data_owner.batch
                with output.progress("runs", -(-count // batch)) as step:
                    for at in range(0, count, batch):
                        part = {name: array[at : at + batch] for name, array in samples.items()}
                        parts.append(session.run(part))
                        step()
        results = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        written = None
        if output_file is not None:
            try:
                if len(results) == 1 and output_file.suffix != ".npz":
                    with output_file.open("wb") as file:
                        np.save(file, next(iter(results.values())))
                else:
                    np.savez(output_file, **results)  # type: ignore[arg-type]
            except OSError as error:
                raise UsageError(f"{output_file} cannot be written: {error.strerror}") from None
            written = str(output_file)
        for name, array in results.items():
            output.say(f"{name}: {array.shape[0]} samples of shape {array.shape[1:]}")
        output.document(
            {
                "board": board,
                "simulated": list(opened.simulated),
                "samples": count,
                "outputs": {name: list(array.shape) for name, array in results.items()},
                "file": written,
            }
        )
