"""The demo's steps: compile, attest, run protected, look at DRAM, attack, and the control."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from ginseng.benchmarks.digits import MODEL, Digits, load_digits, split
from ginseng.benchmarks.digits.train import forward
from ginseng.cli.compile import layer_table
from ginseng.cli.errors import UsageError
from ginseng.cli.output import Output
from ginseng.compiler import CompiledModel, PlainImage, compile_model, lower
from ginseng.driver import BareDriver, Board, SimulatedBoard, open_board
from ginseng.isa.config import SystemConfig
from ginseng.isa.formats import chunk_count, chunk_place
from ginseng.isa.table import GRANULE
from ginseng.program import Program
from ginseng.secureos import LocalSession, Step, local_session
from ginseng.secureos.attacks import AttackResult, flip_bit, run_attacks

__all__ = ["Story"]

#: Training images that decide the scales.
_CALIBRATION: Final = 256
#: Images on which the control compares results.
_CONTROL: Final = 8
#: The attacks shown; `ginseng.secureos.attacks` has more.
_ATTACKS: Final = (
    "bit flip in the weights",
    "two chunks swapped",
    "old input replayed",
    "memory rolled back to an earlier session",
    "the host's own key in the result's slot",
)
_SHADES: Final = " ░▒▓█"


@dataclass(frozen=True)
class Clear:
    """What a tensor looks like in DRAM: ``blocks`` of it stand in the clear."""

    tensor: str
    nbytes: int
    plain_entropy: float
    dram_entropy: float
    blocks: int


def _entropy(data: bytes) -> float:
    """Bits per byte of the byte histogram; ciphertext of 4 KiB or more comes close to 8."""
    share = np.bincount(np.frombuffer(data, np.uint8), minlength=256) / len(data)
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


class Story:
    """The demo on one board; each step shows what it does and keeps what the next one needs.

    Parameters
    ----------
    board : str
        Name of the board.
    images : int
        Held-back images to run.
    output : Output
    trace : Path or None
        Where waveforms of the protected board go.

    """

    def __init__(
        self, board: str, *, images: int, output: Output, trace: Path | None = None
    ) -> None:
        self._board_name: Final = board
        self._output: Final = output
        self._trace: Final = trace
        self._training, held = split(load_digits())
        self._held: Final = Digits(held.images[:images], held.labels[:images])
        self._config: Final = SystemConfig()

    def tell(self) -> dict[str, Any]:
        """Do every step; return the JSON document of `ginseng demo`."""
        say = self._output.say
        start = time.perf_counter()
        with open_board(self._board_name, config=self._config, trace=self._trace) as board:
            self._output.waves(board)
            if not isinstance(board, SimulatedBoard):
                raise UsageError(
                    f"Board {board.name} is a device, whose DRAM nobody can attack from here; "
                    "run the demo on a simulated board"
                )
            compiled = self._compile()
            program = compiled.program
            self._title("Attest: a device, a host, two owners who share nothing")
            for what in board.simulated:
                say(f"  [yellow]simulated[/yellow] {what}")
            with local_session(board, program, progress=self._step) as session:
                float_accuracy, accuracy = self._run(session)
                runs = -(-len(self._held.labels) // program.config.core.batch)
                cycles = session.cycles // runs
                clear = self._look(session, program)
                attacks = self._attack(session)
                moved = session.read_bytes + session.write_bytes
            simulated = list(board.simulated)
        control = self._control(compiled)
        plain = sum(layer.cycles_plain for layer in program.layers)
        protected = sum(layer.cycles_protected for layer in program.layers)
        nbytes = sum(tensor.length for tensor in program.tensors)
        self._title("What came of it")
        self._output.table(
            "",
            ("", "value"),
            (
                ("accuracy, float", f"{100 * float_accuracy:.2f} %"),
                ("accuracy, on the device", f"{100 * accuracy:.2f} %"),
                ("images", len(self._held.labels)),
                ("bytes of tensors protected", f"{nbytes:,}"),
                ("bytes moved through the TEC", f"{moved:,}"),
                ("16-byte blocks in the clear in DRAM", sum(c.blocks for c in clear)),
                ("cycles an image, modelled", f"{protected:,}"),
                ("cycles a run, on the device", f"{cycles:,}" if cycles else "n/a"),
                ("cost of protection, modelled", f"{100 * (protected / plain - 1):+.2f} %"),
                ("attacks stopped", f"{len(attacks)} of {len(_ATTACKS)}"),
                ("control, protection off", control),
                ("seconds", f"{time.perf_counter() - start:.1f}"),
            ),
        )
        return {
            "board": self._board_name,
            "simulated": simulated,
            "images": len(self._held.labels),
            "accuracy_float": float_accuracy,
            "accuracy_device": accuracy,
            "bytes_protected": nbytes,
            "bytes_moved": moved,
            "blocks_in_clear": sum(c.blocks for c in clear),
            "cycles_device": cycles,
            "cycles_plain": plain,
            "cycles_protected": protected,
            "overhead_modelled": protected / plain - 1,
            "attacks": [{"name": a.name, "outcome": a.outcome, "by": a.by} for a in attacks],
            "control": {"outcome": control},
            "seconds": time.perf_counter() - start,
        }

    def _title(self, text: str) -> None:
        self._output.say(f"\n[bold cyan]{text}[/bold cyan]")

    def _step(self, step: Step) -> None:
        size = f" [dim]({step.nbytes:,} bytes)[/dim]" if step.nbytes else ""
        self._output.say(f"  [bold]{step.party}[/bold] {step.text}{size}")

    def _compile(self) -> CompiledModel:
        self._title("Compile: a residual network on real digits becomes one protected program")
        model = onnx.load_from_string(MODEL.read_bytes())
        compiled = compile_model(
            model,
            {"image": self._training.images[:_CALIBRATION]},
            config=self._config,
            name="digits",
            progress=lambda text: self._output.say(f"  {text}"),
        )
        layer_table(self._output, compiled.program)
        return compiled

    def _run(self, session: LocalSession) -> tuple[float, float]:
        """Run the held-back images; return the accuracy in float and on the device."""
        session.quiet()
        images, labels = self._held
        self._title(f"Run: {len(labels)} images, sealed by their owner, one session")
        guesses: list[int] = []
        batch = session.data_owner.batch
        with self._output.progress("  protected runs", len(labels)) as advance:
            for at in range(0, len(labels), batch):
                logits = session.run({"image": images[at : at + batch]})["logits"]
                guesses.extend(logits.argmax(1).tolist())
                for _ in logits:
                    advance()
        self._show(images[:4], guesses[:4])
        on_device = float(np.mean(np.array(guesses) == labels))
        in_float = float(np.mean(_float_guesses(images) == labels))
        self._output.say(f"  device {100 * on_device:.2f} %, float {100 * in_float:.2f} %")
        return in_float, on_device

    def _show(self, images: NDArray[np.float32], guesses: list[int]) -> None:
        """Draw digits side by side, each over what the device said."""
        shades = (images[:, 0] * (len(_SHADES) - 1)).round().astype(int)
        for row in range(shades.shape[1]):
            line = "  ".join("".join(_SHADES[v] * 2 for v in image[row]) for image in shades)
            self._output.say(f"  {line}".rstrip())
        self._output.say("  " + "  ".join(f"{f'→ {g}':^16}" for g in guesses))

    def _look(self, session: LocalSession, program: Program) -> list[Clear]:
        """Hold DRAM against every plaintext that some owner knows."""
        self._title("Look: the same tensors, as their owners know them and as DRAM holds them")
        board = session.board
        assert isinstance(board, SimulatedBoard)  # tell() asked
        port = program.inputs[0]
        core = program.config.core
        last = port.quantise(self._held.images[-1:])
        plain: dict[str, bytes] = {
            name: content
            for name, content in program.contents.items()
            if isinstance(content, bytes)
        }
        plain[port.tensor] = port.pack(last, batch=core.batch, block=core.block)
        found = []
        with session.runtime.device_session(session.name) as device:
            for name, text in plain.items():
                at = device.placement[name] - board.config.bus.window_base
                # Byte for byte, without the tags in between.
                chunk = program.by_name[name].chunk
                held = b"".join(
                    board.dram[place : place + min(chunk, len(text) - n * chunk)].tobytes()
                    for n in range(chunk_count(len(text), chunk))
                    for place in [at + chunk_place(n, chunk)]
                )
                pairs = (
                    (text[n : n + GRANULE], held[n : n + GRANULE])
                    for n in range(0, len(text), GRANULE)
                )
                blocks = sum(owner == dram for owner, dram in pairs)
                found.append(Clear(name, len(text), _entropy(text), _entropy(held), blocks))
                if name == port.tensor:
                    # The image's middle: its first row is mostly blank.
                    middle = len(text) // 2
                    self._output.say(f"  owner  {text[middle : middle + 20].hex(' ')}")
                    self._output.say(f"  DRAM   {held[middle : middle + 20].hex(' ')}")
        self._output.table(
            "",
            ("tensor", "bytes", "entropy, owner", "entropy, DRAM", "blocks in clear"),
            (
                (
                    c.tensor,
                    f"{c.nbytes:,}",
                    f"{c.plain_entropy:.2f}",
                    f"{c.dram_entropy:.2f}",
                    c.blocks,
                )
                for c in found
            ),
        )
        return found

    def _attack(self, session: LocalSession) -> tuple[AttackResult, ...]:
        self._title("Attack: the host owns DRAM, driver and network")
        results: list[AttackResult] = []
        with self._output.progress("  attacks", len(_ATTACKS)) as advance:
            for name in _ATTACKS:
                results += run_attacks(session, self._held.images[:1], names=[name])
                advance()
        self._output.table(
            "",
            ("attack", "outcome", "by"),
            ((r.name, f"[green]{r.outcome}[/green]", r.by) for r in results),
        )
        return tuple(results)

    def _control(self, compiled: CompiledModel) -> str:
        """Flip the same bit on a build without a TEC; return ``silent`` if nobody noticed."""
        self._title("Control: the same flip with protection off")
        config = SystemConfig(core=self._config.core, tec=None, bus=self._config.bus)
        image = lower(compiled.graph, config, protect=False)
        assert isinstance(image, PlainImage)  # protect=False
        victims = {name: size for name, (_, size) in image.segments.items() if "weights" in name}
        victim = max(victims, key=lambda name: victims[name])
        with open_board(self._board_name, config=config) as board:
            before = self._bare_logits(board, image)
            at, size = image.segments[victim]
            assert isinstance(board, SimulatedBoard)  # the protected one was
            flip_bit(board.dram[at : at + size])
            after = self._bare_logits(board, image, load=False)
        changed = int((before != after).any(1).sum())
        outcome = "silent" if changed else "no effect"
        self._output.say(
            f"  one bit of {victim}: {changed} of {_CONTROL} results changed, and nobody was told"
        )
        return outcome

    def _bare_logits(
        self, board: Board, image: PlainImage, *, load: bool = True
    ) -> NDArray[np.int8]:
        """Run images on a bare board; return the integers it stored."""
        assert isinstance(board, SimulatedBoard)  # the caller asked
        core = image.config.core
        if load:
            board.dram[: len(image.dram)] = np.frombuffer(image.dram, np.uint8)
        (given,), (result,) = image.inputs.values(), image.outputs.values()
        logits = []
        for sample in self._held.images[:_CONTROL]:
            packed = given.port.pack(
                given.port.quantise(sample[None]), batch=core.batch, block=core.block
            )
            board.dram[given.address : given.address + len(packed)] = list(packed)
            BareDriver(board).run(image.insn_addr, image.insn_count)
            size = image.segments[result.port.tensor][1]
            stored = board.dram[result.address : result.address + size].tobytes()
            logits.append(result.port.unpack(stored, batch=core.batch, block=core.block)[0])
        return np.array(logits)


def _float_guesses(images: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return what the float network says, with the parameters that ``digits.onnx`` ships."""
    model = onnx.load_from_string(MODEL.read_bytes())
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    parameters = {
        name: value if name.endswith(".b") else value.reshape(len(value), -1).T
        for name, value in tensors.items()
    }
    guesses: NDArray[np.int64] = forward(parameters, images)[0].argmax(1)
    return guesses
