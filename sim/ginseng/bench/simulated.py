"""What every device that runs on a Verilated model tells about it, and what cores on one share."""

from pathlib import Path
from typing import Final

from ginseng.bench.model import Model

__all__ = ["Simulated", "zero_scratchpads"]

#: Cycles of clearing between two looks at whether it is done.
_CLEAR_STEP: Final = 64


class Simulated:
    """Base of devices whose gates run in ``_model``."""

    _model: Model

    @property
    def cycle(self) -> int:
        """Cycles that the gates were given since power-up."""
        return self._model.cycle

    @property
    def wave_file(self) -> Path | None:
        """Where waveforms go."""
        return self._model.wave_file

    @property
    def note(self) -> str:
        """What is other than was asked for; empty otherwise."""
        return self._model.built.note


def zero_scratchpads(model: Model, *, uops: bool) -> None:
    """Have a core that is a model's top, or drives its pins, zero INP, WGT and ACC, or all."""
    model.set("clear_uops", int(uops))
    model.set("clear", 1)
    model.run(1)
    model.set("clear", 0)
    while model.get("clearing"):
        model.run(_CLEAR_STEP)
