"""What every device that runs on a Verilated model tells about it."""

from pathlib import Path

from ginseng.bench.model import Model

__all__ = ["Simulated"]


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
