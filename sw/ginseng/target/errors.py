"""What `ginseng.target` raises."""

__all__ = ["TargetError"]


class TargetError(Exception):
    """A module that cannot be partitioned, or options that mean nothing; one line."""
