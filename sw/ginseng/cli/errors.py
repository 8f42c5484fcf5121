"""What the command line raises."""

__all__ = ["UsageError"]


class UsageError(Exception):
    """What the user gave cannot be used; the message is the one line that is shown."""
