"""`ginseng compile`: a model becomes one protected program."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ginseng.cli.errors import UsageError
from ginseng.cli.output import JsonOption, Output
from ginseng.isa.config import SystemConfig
from ginseng.program import Program, save

if TYPE_CHECKING:
    from ginseng.compiler import LayerPlan
    from ginseng.compiler.accuracy import AccuracyReport

__all__ = ["layer_table", "load_arrays", "register"]


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read an .npz or .npy file; a single array has the name ``""``.

    Raises
    ------
    UsageError
        If the file cannot be read.

    """
    try:
        # np.load leaves a file open that it cannot parse; this one closes.
        with path.open("rb") as file:
            data = np.load(file, allow_pickle=False)
            if isinstance(data, np.ndarray):
                return {"": data}
            with data:
                return {name: data[name] for name in data.files}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, KeyError) as error:
        raise UsageError(f"{path} is no NumPy file, or cut short: {error}") from None
    except Exception as error:
        # zipfile and zlib have bases of their own; none of them is a bug of ours.
        raise UsageError(f"{path} is damaged: {error}") from None


def layer_table(output: Output, program: Program) -> None:
    """Show what the compiler expects of each layer."""
    config = program.config.core
    rows = [
        (
            layer.name,
            layer.kind,
            f"{layer.macs:,}",
            f"{layer.cycles_plain:,}",
            f"{layer.cycles_protected:,}",
            f"{100 * (layer.cycles_protected / max(1, layer.cycles_plain) - 1):+.1f} %",
            f"{layer.bytes_protected:,}",
            f"{100 * layer.macs / (config.macs * max(1, layer.cycles_protected)):.1f} %",
        )
        for layer in program.layers
    ]
    columns = ("layer", "kind", "MACs", "cycles", "with TEC", "cost", "bytes", "MAC use")
    output.table("Layers (modelled)", columns, rows)


def accuracy_table(output: Output, report: "AccuracyReport") -> None:
    """Show how far each layer is from the float network."""

    def decibels(value: float | None) -> str:
        return "exact" if value is None else f"{value:.1f}"

    rows = [
        (
            layer.name,
            layer.kind,
            layer.shift,
            decibels(layer.snr_db),
            decibels(layer.own_snr_db),
            decibels(layer.effective_bits),
            f"{100 * layer.saturated / layer.elements:.2f} %",
        )
        for layer in report.layers
    ]
    columns = ("layer", "kind", "shift", "SNR dB", "its own dB", "bits", "saturated")
    output.table(f"Accuracy against float ({report.samples} samples)", columns, rows)
    worst = ", ".join(f"{w.name} ({decibels(w.own_snr_db)} dB)" for w in report.worst())
    output.say(f"Layers that cost most by themselves: {worst}")


def plan_table(output: Output, plan: Sequence["LayerPlan"]) -> None:
    """Show how each layer is scheduled, and why not otherwise."""
    rows, cuts = [], []
    for layer in plan:
        rows.append(
            (
                layer.name,
                f"{layer.cycles:,}",
                f"{layer.gemm:,}",
                f"{layer.alu:,}",
                f"{layer.bus:,}",
                f"{layer.exposed:,}",
                f"{100 * layer.utilisation:.1f} %",
                " ".join(f"{count} {name}" for name, count in layer.transfers.items()),
                layer.chunk,
            )
        )
        if layer.tuned is not None:
            t = layer.tuned.best
            cuts.append(
                (
                    layer.name,
                    f"{t.rows} rows x {t.out_blocks} blocks",
                    f"{t.in_blocks} blocks x {t.kernel_rows} rows",
                    "rows" if t.rows_outer else "channels",
                    f"{t.inp_slots} {t.wgt_slots} {t.acc_slots} {t.bias_slots}",
                    layer.tuned.tried,
                    layer.reason,
                )
            )
    columns = ("layer", "cycles", "GEMM", "ALU", "bus", "exposed", "MAC use", "transfers", "chunk")
    output.table(f"Plan with TEC, {plan[0].memory} memory (modelled)", columns, rows)
    titles = ("layer", "tile", "reduction step", "outer loop", "slots I W A B", "tried", "second")
    output.table("Tilings", titles, cuts)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("compile")
    def compile_command(
        model: Annotated[
            Path,
            typer.Argument(help="ONNX, a torch.export program (.pt2), or a Relax module (.json)."),
        ],
        output_file: Annotated[Path, typer.Option("--output", "-o", help="The .ginseng file.")],
        calibrate: Annotated[
            Path | None,
            typer.Option(
                help="An .npz: one array per model input, samples first; none for a model that is "
                "quantised already."
            ),
        ] = None,
        calibration: Annotated[
            str, typer.Option(help="How scales are chosen: minmax, percentile:SHARE or mse.")
        ] = "minmax",
        weight_scales: Annotated[
            str, typer.Option(help="Scales of a layer's weights: tensor, channel or auto.")
        ] = "auto",
        owner_side: Annotated[
            bool,
            typer.Option(
                "--owner-side",
                help="Let the owner of the data do first and last layers that the core cannot.",
            ),
        ] = False,
        report: Annotated[
            bool, typer.Option("--report", help="Hold each layer against the float network.")
        ] = False,
        compare: Annotated[
            Path | None, typer.Option(help="Samples for --report; by default --calibrate's.")
        ] = None,
        memory: Annotated[
            str, typer.Option(help="The DRAM to tune for: reference or realistic.")
        ] = "reference",
        explain: Annotated[
            bool, typer.Option("--explain", help="Show how each layer is scheduled, and why.")
        ] = False,
        plot: Annotated[
            Path | None,
            typer.Option(help="Where the roofline goes, as PNG (needs ginseng[plot])."),
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Import, quantise, tile, chunk and emit a model as one protected program."""
        from ginseng.compiler import compile_model

        output = Output(as_json)
        if not model.is_file():
            raise UsageError(f"{model} does not exist; give the path of a model")
        draw = None
        if plot is not None:
            from ginseng.benchmarks.vta_plot import roofline

            # Before the long work: a missing Matplotlib is found out.
            draw = roofline(plot, config=SystemConfig(), title=model.stem)
        arrays = None if calibrate is None else load_arrays(calibrate)
        held = load_arrays(compare) if compare is not None else arrays if report else None
        if report and held is None:
            raise UsageError("--report needs samples; give --compare or --calibrate an .npz")
        start = time.perf_counter()
        compiled = compile_model(
            model,
            arrays,
            method=calibration,
            weights=weight_scales,
            owner_side=owner_side,
            compare=held,
            memory=memory,
            progress=output.say,
            bar=output.progress,
        )
        program = compiled.program
        try:
            save(program, output_file)
        except OSError as error:
            raise UsageError(f"{output_file} cannot be written: {error.strerror}") from None
        layer_table(output, program)
        for port in (*program.inputs, *program.outputs):
            if port.steps:
                names = ", ".join(step.op for step in port.steps)
                output.say(f"On the owner's side, at {port.name}: {names}")
        if explain:
            plan_table(output, compiled.plan)
        if draw is not None:
            rows = [
                {"name": p.name, "macs_done": p.macs, "bytes": p.nbytes, "cycles": p.cycles}
                for p in compiled.plan
            ]
            draw({"memory": memory, "runs": [{"memory": memory, "layers": rows}]})
            output.say(f"wrote {plot}")
        if compiled.accuracy is not None:
            accuracy_table(output, compiled.accuracy)
        plain = sum(layer.cycles_plain for layer in program.layers)
        protected = sum(layer.cycles_protected for layer in program.layers)
        size = output_file.stat().st_size
        output.say(
            f"{program.name}: {len(program.tensors)} table rows, {size:,} bytes, "
            f"{protected:,} cycles expected; digest {program.config.digest.hex()[:16]}…"
        )
        output.say("The file holds the weights in the clear: keep it with the model's owner.")
        output.document(
            {
                "name": program.name,
                "file": str(output_file),
                "seconds": time.perf_counter() - start,
                "rows": len(program.tensors),
                "bytes": size,
                "cycles_plain": plain,
                "cycles_protected": protected,
                "config_digest": program.config.digest.hex(),
                "owner_side": {
                    port.name: [step.op for step in port.steps]
                    for port in (*program.inputs, *program.outputs)
                    if port.steps
                },
                "layers": [
                    {
                        "name": layer.name,
                        "kind": layer.kind,
                        "macs": layer.macs,
                        "cycles_plain": layer.cycles_plain,
                        "cycles_protected": layer.cycles_protected,
                        "bytes_plain": layer.bytes_plain,
                        "bytes_protected": layer.bytes_protected,
                    }
                    for layer in program.layers
                ],
                "memory": memory,
                **({"plan": [p.document() for p in compiled.plan]} if explain else {}),
                "accuracy": compiled.accuracy and compiled.accuracy.document(),
            }
        )
