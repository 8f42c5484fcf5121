"""What `ginseng.benchmarks` raises."""

__all__ = ["BenchmarkError", "MissingPackageError"]


class BenchmarkError(Exception):
    """A measurement that cannot be made here; the message says what is missing."""


class MissingPackageError(BenchmarkError):
    """A measurement whose weights or data come with a package that is not installed."""
