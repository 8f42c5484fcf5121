"""Makes the package `protocol_model` of this folder importable; nothing else lives on this path."""

import sys
from pathlib import Path

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)
