"""What `ginseng.bench` raises."""

__all__ = ["BenchError", "BuildError", "BusError"]


class BenchError(Exception):
    """Base of every error of ``ginseng.bench``."""


class BuildError(BenchError):
    """A tool that makes a model out of gates is missing or failed."""


class BusError(BenchError):
    """A register access was not answered, or a manager broke a rule of AXI."""
