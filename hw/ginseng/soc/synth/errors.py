"""What synthesis raises."""

__all__ = ["SynthError"]


class SynthError(Exception):
    """Synthesis failed, or met what it has no figures for."""
