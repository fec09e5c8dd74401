"""The root of containers whose image names none."""

from pathlib import Path

import pytest

from clusters.embedded.runtime import base
from clusters.embedded.runtime.bubblewrap import programs


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine whose /bin is a link and whose /lib is a folder."""
    machine = tmp_path / "machine"
    for name in ("usr", "lib", "dev", "etc/ssl/certs", "etc/alternatives"):
        (machine / name).mkdir(parents=True)
    (machine / "bin").symlink_to("usr/bin")
    (machine / "etc" / "ssl" / "certs" / "one.pem").symlink_to("/usr/share/one.crt")
    (machine / "etc" / "services").write_text("http 80/tcp\n")
    (machine / "etc" / "os-release").symlink_to("services")
    (machine / "etc" / "shadow").write_text("secret\n")
    return machine


def test_it_has_links_folders_and_copies_of_what_every_program_may_read(machine: Path, tmp_path: Path) -> None:
    place = tmp_path / "base"
    base.make(place, machine)

    assert (place / "bin").readlink() == Path("usr/bin")
    assert (place / "var" / "run").readlink() == Path("/run")
    assert (place / "etc" / "ssl" / "certs" / "one.pem").readlink() == Path("/usr/share/one.crt")
    assert (place / "etc" / "services").read_text() == "http 80/tcp\n"
    assert not (place / "etc" / "os-release").is_symlink()
    assert not (place / "etc" / "shadow").exists()
    modes = {name: (place / name).stat().st_mode & 0o7777 for name in ("", "lib", "dev", "root", "tmp", "var/tmp")}
    assert modes == {"": 0o755, "lib": 0o755, "dev": 0o755, "root": 0o755, "tmp": 0o1777, "var/tmp": 0o1777}


def test_programs_are_shown_where_they_are_folders(machine: Path) -> None:
    assert programs(machine) == ("--ro-bind", f"{machine}/usr", "/usr", "--ro-bind", f"{machine}/lib", "/lib")
