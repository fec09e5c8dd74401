"""Files that only their owner may read.

Place: every file with a key, and what is written down about a cluster. Limits: none is synced to disk; a cluster does
not outlive its machine.
"""

import os
from pathlib import Path


def write_private(path: Path, content: bytes) -> Path:
    """Writes a file that only its owner may read, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    partial.rename(path)
    return path
