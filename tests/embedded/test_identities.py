"""Which ids containers can have, found out by trying, and what belongs to such ids is removed."""

import os
from pathlib import Path

import pytest

from clusters.embedded import identities
from clusters.process import CommandFailed, run


def test_a_range_of_subordinate_ids_makes_users_real() -> None:
    asked: list[list[str]] = []

    def answer(argv: list[str]) -> str:
        asked.append(argv)
        return "         0       1000          1\n         1     165536      65535\n"

    assert identities.kind(root=False, run=answer) == "real"
    assert asked == [["unshare", "--user", "--map-root-user", "--map-auto", "cat", "/proc/self/uid_map"]]
    assert identities.unshare("real", root=False) == ["--user", "--map-root-user", "--map-auto"]


def test_without_one_a_single_id_stands_for_all() -> None:
    def refuse(argv: object) -> str:
        raise CommandFailed(["unshare"], 1, f"unshare: failed to find subordinate ids, {argv}")

    assert identities.kind(root=False, run=refuse) == "mapped"
    assert identities.unshare("mapped", root=False) == ["--user", "--map-root-user"]
    assert identities.unshare("real", root=True) == []


@pytest.mark.skipif(
    os.geteuid() == 0 or identities.kind(root=False) == "mapped", reason="needs a user with a range of subordinate ids"
)
def test_files_of_subordinate_ids_are_removed(tmp_path: Path) -> None:
    inner = tmp_path / "state" / "volume"
    inner.mkdir(parents=True)
    script = 'mkdir "$1/kept" && touch "$1/kept/file" && chown -R 1000:1000 "$1/kept" && chmod 700 "$1/kept"'
    run(["unshare", *identities.unshare("real", root=False), "sh", "-c", script, "sh", str(inner)])
    identities.remove(tmp_path / "state")
    assert not (tmp_path / "state").exists()
