"""What the model raises when its caller is wrong, as opposed to `Fatal`, when the device is."""

__all__ = ["KeygenError"]


class KeygenError(ValueError):
    """An identity, source or request that no device has; nothing has changed."""
