"""What the model raises when its caller is wrong, as opposed to `Fatal`, when the adversary is."""

__all__ = ["TecError"]


class TecError(ValueError):
    """A call that the monitor or the core would never make; nothing has changed."""
