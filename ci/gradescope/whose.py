"""Turns Gradescope's submission_metadata.json into flags of `gpulab grade`: whose it is, and when it came.

Place: run_autograder calls it. Limits: a group is named by the addresses of all its members, in order.
"""

import json
import sys
from pathlib import Path


def flags(metadata: dict[str, object]) -> list[str]:
    """The flags; raises KeyError or TypeError for a file of another shape."""
    users = metadata["users"]
    assert isinstance(users, list)
    emails = sorted(str(user["email"]) for user in users)
    return [f"--student={'+'.join(emails)}", f"--submitted={metadata['created_at']}"]


if __name__ == "__main__":
    print("\n".join(flags(json.loads(Path(sys.argv[1]).read_text()))))  # noqa: T201
