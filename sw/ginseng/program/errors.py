"""What `ginseng.program` raises."""

__all__ = ["ProgramError"]


class ProgramError(ValueError):
    """A `.ginseng` file, or a part of one, that cannot be used; the message says why."""
