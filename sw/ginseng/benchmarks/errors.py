"""What `ginseng.benchmarks` raises."""

__all__ = ["BenchmarkError"]


class BenchmarkError(Exception):
    """A measurement that cannot be made here; the message says what is missing."""
