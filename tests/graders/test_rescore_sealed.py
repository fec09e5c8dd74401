"""Only a run whose every file is as it was sealed is judged again, and with a key only one that this key signed."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from graders import signing
from graders.packed import MOST_FILE_BYTES
from graders.record import MANIFEST, SIGNATURE
from graders.rescore import Refused, read_run
from graders.stored import pack
from tests.graders.judged_lab import edit, measured
from tests.graders.test_audit import remake_the_manifest
from tests.graders.tiny_lab import Session

pytest_plugins = ["pytester"]

AGAIN = "grade the submission again"
KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
PRINT, OTHER_PRINT = signing.fingerprint(KEY.public_key()), signing.fingerprint(OTHER.public_key())

CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "evidence of the same length": (
        lambda folder: edit(folder, "evidence/samples-1", lambda text: text.replace("3", "4"), sealed=False),
        "{folder} was changed: evidence/samples-1 is not what the run wrote; get it back, or " + AGAIN,
    ),
    "evidence that was cut": (
        lambda folder: os.truncate(folder / "evidence/samples-1", 2),
        "{folder} was changed: evidence/samples-1 has 2 bytes, where the run wrote 5; get it back, or " + AGAIN,
    ),
    "evidence that was added": (
        lambda folder: (folder / "evidence/more").write_text(""),
        "{folder} was changed: evidence/more was added after the run; get it back, or " + AGAIN,
    ),
    "evidence that leads elsewhere": (
        lambda folder: (folder / "evidence/more").symlink_to(folder),
        "{folder} was changed: 'evidence/more' is a link, no regular file, or called as no file of a run is; get it "
        "back, or " + AGAIN,
    ),
    "evidence as large as none is": (
        lambda folder: os.truncate(folder / "evidence/samples-1", MOST_FILE_BYTES + 1),
        "evidence/samples-1 in {folder} has 67108865 bytes, and no file of a run has more than 67108864; take the run "
        "from where it was graded again; " + AGAIN,
    ),
    "the submission": (
        lambda folder: edit(folder, "submission/values.yaml", lambda text: text.replace("1", "2"), sealed=False),
        "{folder} was changed: submission/values.yaml is not what the run wrote; get it back, or " + AGAIN,
    ),
    "a signature that is none": (
        lambda folder: (folder / SIGNATURE).write_text("{}"),
        "{folder} proves nothing: manifest.json.sig is no signature that can be read: Object missing required field "
        "`fingerprint`; get it back, or " + AGAIN,
    ),
}  # fmt: skip


def refused(place: Path, key: Ed25519PrivateKey | None = None) -> str:
    with pytest.raises(Refused) as caught:
        read_run(place, key.public_key() if key else None)
    return str(caught.value)


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_of_which_any_file_was_changed_is_refused_by_the_name_of_the_file(session: Session, name: str) -> None:
    change, said = CHANGES[name]
    folder = measured(session, "3.0")
    change(folder)
    assert refused(folder) == said.format(folder=folder)


def test_with_a_key_only_what_it_signed_is_judged(session: Session) -> None:
    session.sign = lambda manifest: signing.sign(KEY, manifest).encode()
    folder = measured(session, "3.0")
    assert read_run(folder, KEY.public_key()) == read_run(folder)
    assert refused(folder, OTHER) == (
        f"{folder} proves nothing: the run is signed by {PRINT}, and it is to be signed by {OTHER_PRINT}; name another "
        f"key, or {AGAIN}"
    )
    signature = (folder / SIGNATURE).read_bytes()
    (folder / SIGNATURE).unlink()
    assert refused(folder, KEY) == (
        f"{folder} proves nothing: the run has no manifest.json.sig, and it is to be signed by {PRINT}; get it back, "
        f"or {AGAIN}"
    )
    (folder / SIGNATURE).write_bytes(signature)
    edit(folder, "evidence/samples-1", lambda text: text.replace("3", "4"), sealed=False)
    remake_the_manifest(folder)
    said = (
        f"{folder} proves nothing: manifest.json.sig does not fit manifest.json: one of them was changed after the run "
        f"was signed; get it back, or {AGAIN}"
    )
    assert refused(folder) == refused(folder, KEY) == said


def test_a_packed_run_of_which_evidence_is_damaged_is_refused(session: Session, tmp_path: Path) -> None:
    folder, path = measured(session, "3.0"), tmp_path / "run.gpulab.zip"
    pack(folder, path)
    content = path.read_bytes()
    at = content.rfind(b"evidence/samples-1") - 46 + 16  # its checksum in the index
    path.write_bytes(content[:at] + bytes([content[at] ^ 8]) + content[at + 1 :])
    assert refused(path) == (
        f"{path} is no packed run: evidence/samples-1 in it is damaged (Bad CRC-32 for file "
        f"'evidence/samples-1'); pack the run's folder again with `gpulab pack`; {AGAIN}"
    )


def test_the_file_that_the_system_keeps_back_is_named(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, opened = measured(session, "3.0"), os.open

    def refuse(path: Path, flags: int) -> int:
        if path.name == "samples-1":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags)

    monkeypatch.setattr("graders.stored.os.open", refuse)
    assert refused(folder) == (
        f"{folder}/evidence/samples-1 cannot be read: Permission denied; make it readable, or {AGAIN}"
    )


def test_of_large_evidence_little_is_in_memory(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = measured(session, "3.0")
    (folder / "evidence/large").touch()
    os.truncate(folder / "evidence/large", 32 << 20)
    remake_the_manifest(folder)
    read: list[str] = []

    def raw(_: object, name: str) -> bytes:
        read.append(name)
        return (folder / name).read_bytes()

    monkeypatch.setattr("graders.stored._Folder.raw", raw)
    assert read_run(folder).place == folder
    assert set(read) == {MANIFEST, "run.jsonl", "verdict.json"}
