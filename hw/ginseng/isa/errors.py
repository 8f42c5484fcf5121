"""What the contract raises."""

__all__ = ["AssemblyError", "ConfigError", "EncodingError", "IsaError"]


class IsaError(ValueError):
    """Base of every error of ``ginseng.isa``."""


class ConfigError(IsaError):
    """A configuration that no build can have."""


class EncodingError(IsaError):
    """A value that its field cannot hold, or bytes that are no such word."""


class AssemblyError(IsaError):
    """A line of assembly text that means nothing.

    Attributes
    ----------
    line : int
        Number of the line, from 1.
    token : str
        The offending word.

    """

    def __init__(self, line: int, token: str, reason: str) -> None:
        super().__init__(f"Line {line}: {token!r}: {reason}")
        self.line = line
        self.token = token
