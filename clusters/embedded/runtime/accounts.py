"""Users and groups of a container, from the passwd and group files of its image.

Place: `plan.py` asks whom a container runs as. Limits: files only; an image that is the machine's own system has none,
so there a number is only a number.
"""

from pathlib import Path

import msgspec

from clusters.embedded.protos import Message
from clusters.embedded.runtime.errors import Refused
from clusters.embedded.runtime.images import Image
from clusters.embedded.runtime.layer import inside

_STRICT = 1  # SupplementalGroupsPolicy of the CRI: only the groups that the pod names


class Account(msgspec.Struct, frozen=True):
    """Whom a container runs as; `groups` are the supplementary ones, `home` is "" when the image does not say."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = ""


def account(container: str, security: Message, image: Image) -> Account:
    """Whom a container runs as: what its pod says, else its image, else root; as containerd finds it.

    Raises:
        Refused: it is to run as a user by a name that the image does not have.
    """
    asked = image.user.partition(":")[0] or "0"
    if security.HasField("run_as_user"):
        asked = str(security.run_as_user.value)
    elif security.run_as_username:
        asked = security.run_as_username
    found = _user(image.root, asked)
    if found is None and not asked.isdecimal():
        raise Refused(
            f"container {container!r} runs as the user {asked!r}, which the image {image.reference} does not have in "
            "its /etc/passwd; give runAsUser a number"
        )
    name, uid, gid, home = found or ("", int(asked), 0, "")
    if security.HasField("run_as_group"):
        gid = security.run_as_group.value
    own = _groups(image.root, name) if security.supplemental_groups_policy != _STRICT else []
    return Account(uid, gid, tuple(dict.fromkeys([*security.supplemental_groups, *own])), home)


def _user(root: str, asked: str) -> tuple[str, int, int, str] | None:
    """Name, user, group and home of a line of passwd(5), found by name or number."""
    for line in _lines(root, "/etc/passwd"):
        match line:
            case [name, _, uid, gid, _, home, *_] if asked in {name, uid}:
                return name, int(uid), int(gid), home
    return None


def _groups(root: str, name: str) -> list[int]:
    """The groups that have a user among their members, see group(5)."""
    if not name:
        return []
    return [int(line[2]) for line in _lines(root, "/etc/group") if len(line) == 4 and name in line[3].split(",")]


def _lines(root: str, path: str) -> list[list[str]]:
    if not root:
        return []
    try:
        text = (Path(root) / inside(Path(root), path)[1:]).read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [line.split(":") for line in text.splitlines()]
