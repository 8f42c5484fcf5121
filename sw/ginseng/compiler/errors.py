"""What `ginseng.compiler` raises."""

__all__ = ["CompilerError"]


class CompilerError(ValueError):
    """A model that cannot be compiled; one line says which node, which rule, and the way out."""
