"""What a machine had run out of when a cluster did not start, in the words that its programs left in their logs.

Place: backend.py adds it to the error, which names the first program that ended and not the one that could tell why.
Limits: the words of the Linux kernel's errors and of Go, Python and shells; only the end of a long log is read.
"""

import re
from pathlib import Path

_END = 1_000_000
_WORDS = (
    (
        re.compile(rb"failed to create new OS thread|can't start new thread|Resource temporarily unavailable"),
        "the machine allows no more processes (ulimit -u, or pids.max of the control group); allow more",
    ),
    (
        re.compile(rb"(?:fs|i)notify[^\n]*too many open files"),
        "this user has no inotify instances left, of which a node takes five and what is beside the nodes nine; end "
        "other clusters, or allow more: sysctl -w fs.inotify.max_user_instances=1024",
    ),
    (re.compile(rb"[Nn]o space left on device"), "the disk is full; make room"),
    (re.compile(rb"[Cc]annot allocate memory"), "there is no memory left; leave it more"),
)


def exhausted(logs: Path) -> str | None:
    """A sentence with the log that says it, or None where none says that anything was missing."""
    for path in sorted(logs.rglob("*.log")):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _END))
            text = file.read()
        for pattern, sentence in _WORDS:
            if found := pattern.search(text):
                return f"{path.relative_to(logs)} says {found[0].decode()!r}: {sentence}"
    return None
