"""Turns Gradescope's submission_metadata.json into flags of `gpulab grade`: whose it is, and when it came.

Place: run_autograder calls it. Limits: a group is named by the addresses of all its members, in order; where
they are longer than `--student` takes, by as many as fit and a digest of them all.
"""

import hashlib
import json
import sys
from pathlib import Path

LONGEST = 200  # as graders/variants.py has it, which this script cannot import


def flags(metadata: dict[str, object]) -> list[str]:
    """The flags; raises KeyError or TypeError for a file of another shape."""
    users = metadata["users"]
    assert isinstance(users, list)
    emails = sorted(str(user["email"]) for user in users)
    return [f"--student={_named('+'.join(emails))}", f"--submitted={metadata['created_at']}"]


def _named(group: str) -> str:
    if len(group) <= LONGEST:
        return group
    digest = hashlib.sha256(group.encode()).hexdigest()[:32]
    return f"{group[: LONGEST - len(digest) - 1]}-{digest}"


if __name__ == "__main__":
    print("\n".join(flags(json.loads(Path(sys.argv[1]).read_text()))))  # noqa: T201
