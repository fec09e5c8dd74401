"""Stored runs: what they hold, every way to tamper with them, and packed ones that an enemy made."""

import gzip
import os
import shutil
import stat
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from graders import packed, stored
from graders.packed import RunUnreadable
from graders.record import MANIFEST
from graders.stored import StoredRun
from tests.graders.stored_run import NAME, SAMPLES, graded

NAMES = (
    "evidence/first.jsonl.gz",
    "evidence/first.log",
    "evidence/second.jsonl.gz",
    "evidence/second.log",
    "manifest.json",
    "run.jsonl",
    "submission/values.yaml",
    "verdict.json",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return graded(tmp_path)


@pytest.fixture
def pack(folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / f"run{packed.SUFFIX}"
    assert stored.pack(folder, path) == (len(NAMES), path.stat().st_size)
    return path


def test_a_run_reads_alike_as_a_folder_and_packed(folder: Path, pack: Path) -> None:
    with StoredRun(folder) as one, StoredRun(pack) as other:
        assert one.names == other.names == NAMES
        for name in NAMES:
            assert one.raw(name) == other.raw(name) == (folder / name).read_bytes()
        assert one.read("evidence/first.jsonl.gz") == other.read("evidence/first.jsonl.gz") == SAMPLES
        assert one.read("evidence/first.log") == b"line of first\n"
        assert one.bytes == other.bytes == sum((folder / name).stat().st_size for name in NAMES)
        assert one.manifest.run == other.manifest.run == NAME
        assert one.tampered() == other.tampered() == ()


def test_packing_gives_equal_bytes_whatever_the_times_and_modes(folder: Path, pack: Path, tmp_path: Path) -> None:
    for number, path in enumerate(folder.rglob("*")):
        os.utime(path, (number, number))
    (folder / "run.jsonl").chmod(0o600)
    stored.pack(folder, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == pack.read_bytes()


def swap(one: Path, other: Path) -> None:
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere.parents[3] / "elsewhere")
    path.symlink_to(elsewhere.parents[3] / "elsewhere")


TAMPERINGS: dict[str, tuple[Callable[[Path], object], list[tuple[str, str]]]] = {
    "changed": (
        lambda run: (run / "evidence/first.log").write_text("LINE of first\n"),
        [("changed", "evidence/first.log is not what the run wrote")],
    ),
    "added": (
        lambda run: (run / "evidence/more.log").write_text(""),
        [("added", "evidence/more.log was added after the run")],
    ),
    "removed": (
        lambda run: (run / "evidence/first.log").unlink(),
        [("missing", "evidence/first.log is missing")],
    ),
    "renamed": (
        lambda run: (run / "evidence/first.log").rename(run / "evidence/third.log"),
        [("renamed", "evidence/first.log is called evidence/third.log now")],
    ),
    "swapped": (
        lambda run: swap(run / "evidence/first.log", run / "evidence/second.log"),
        [
            ("swapped", "evidence/first.log holds what evidence/second.log held"),
            ("swapped", "evidence/second.log holds what evidence/first.log held"),
        ],
    ),
    "truncated": (
        lambda run: os.truncate(run / "evidence/first.log", 5),
        [("truncated", "evidence/first.log has 5 bytes, where the run wrote 14")],
    ),
    "a link to the same content": (
        lambda run: link(run / "evidence/first.log"),
        [
            ("link", "'evidence/first.log' is a link, no regular file, or called as no file of a run is"),
            ("missing", "evidence/first.log is missing"),
        ],
    ),
    "a folder that is a link": (
        lambda run: (run / "evidence/more").symlink_to(run),
        [("link", "'evidence/more' is a link, no regular file, or called as no file of a run is")],
    ),
    "a pipe": (
        lambda run: os.mkfifo(run / "evidence/pipe"),
        [("link", "'evidence/pipe' is a link, no regular file, or called as no file of a run is")],
    ),
    "a name that would print": (
        lambda run: (run / "evidence/a\x1b[31mred\n").write_text(""),
        [("link", "'evidence/a\\x1b[31mred\\n' is a link, no regular file, or called as no file of a run is")],
    ),
    "a verdict": (
        lambda run: (run / "verdict.json").write_bytes(b" " + (run / "verdict.json").read_bytes()),
        [("changed", "verdict.json is not what the run wrote")],
    ),
}


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_tampering_is_named(kind: str, folder: Path) -> None:
    tamper, found = TAMPERINGS[kind]
    tamper(folder)
    with StoredRun(folder) as run:
        assert [(change.kind, change.said) for change in run.tampered()] == found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "{} has no manifest.json: its run did not end, so it proves nothing"),
        (b"{", "manifest.json in {} cannot be read: Input data was truncated; it proves nothing"),
        (
            b'{"format": "other", "sha256": {}}',
            "manifest.json in {} has the format 'other'; this program reads 'gpulab/record/v1'",
        ),
        (
            b'{"format": "gpulab/record/v1", "sha256": {"../x": ""}}',
            "manifest.json in {} lists '../x', which no file of a run is called",
        ),
        (
            b'{"format": "gpulab/record/v1"}',
            "manifest.json in {} cannot be read: Object missing required field `sha256`; it proves nothing",
        ),
    ],
)
def test_a_run_without_a_good_manifest_proves_nothing(folder: Path, content: bytes | None, said: str) -> None:
    (folder / MANIFEST).unlink()
    if content is not None:
        (folder / MANIFEST).write_bytes(content)
    with StoredRun(folder) as run, pytest.raises(RunUnreadable) as caught:
        run.tampered()
    assert str(caught.value) == said.format(folder)


def test_what_a_run_does_not_hold_is_not_read(folder: Path) -> None:
    (folder / "evidence/large").touch()
    os.truncate(folder / "evidence/large", packed.MOST_FILE_BYTES + 1)
    with StoredRun(folder) as run:
        for name, said in {
            "../run.jsonl": f"{folder} holds no file '../run.jsonl'; its run did not keep one, or it was taken away",
            "evidence/large": f"evidence/large in {folder} has 67108865 bytes, and no file of a run has more than "
            "67108864; take the run from where it was graded again",
        }.items():
            with pytest.raises(RunUnreadable) as caught:
                run.raw(name)
            assert str(caught.value) == said


def test_compressed_evidence_that_is_damaged_or_a_bomb_is_refused() -> None:
    good = gzip.compress(SAMPLES)
    for content, said in (
        (b"none", "x.gz is damaged: Error -3 while decompressing data: incorrect header check"),
        (good[:-9], "x.gz is damaged: it does not end where its content does"),
        (good + b"more", "x.gz is damaged: it does not end where its content does"),
        (
            gzip.compress(bytes(packed.MOST_FILE_BYTES + 1), 1),
            "x.gz unpacks to more than 67108864 bytes, which no file of a run has",
        ),
    ):
        with pytest.raises(RunUnreadable) as caught:
            stored.unpacked("x.gz", content)
        assert str(caught.value) == said
    assert stored.unpacked("x.gz", good) == stored.unpacked("x", SAMPLES) == SAMPLES


def entry(name: str, content: bytes = b"", mode: int = stat.S_IFREG | 0o644, **fields: int) -> Callable[[Path], None]:
    """Makes a zip of one entry."""

    def make(path: Path) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        for field, value in fields.items():
            setattr(info, field, value)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(info, content)

    return make


def twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run.jsonl", "one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("run.jsonl", "two")


def many(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(packed.MOST_FILES + 1):
            archive.writestr(zipfile.ZipInfo(str(number)), b"")


def bomb(path: Path) -> None:
    """Nine entries that share no bytes and unpack to more than a run."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(9):
            archive.writestr(f"evidence/{number}", b"")
    patched = bytearray(path.read_bytes())
    at = patched.find(b"PK\1\2")
    while at >= 0:
        patched[at + 24 : at + 28] = struct.pack("<L", 60 << 20)
        at = patched.find(b"PK\1\2", at + 1)
    path.write_bytes(patched)


def large_index(path: Path) -> None:
    entry("run.jsonl")(path)
    patched = bytearray(path.read_bytes())
    patched[-10:-6] = struct.pack("<L", 1 << 30)
    path.write_bytes(patched)


def zip64(path: Path) -> None:
    entry("run.jsonl")(path)
    content = path.read_bytes()
    path.write_bytes(content[:-22] + struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1) + content[-22:])


def encrypted(path: Path) -> None:
    entry("run.jsonl")(path)
    patched = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        patched[patched.find(mark) + offset] |= 1
    path.write_bytes(patched)


def with_comment(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run.jsonl", "")
        archive.comment = b"hello"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b""), "it is no zip that can be read (unpack requires a buffer of 22 bytes)"),
        (
            lambda path: path.write_bytes(b"x" * 100),
            "it is no zip that can be read (its end is not that of a zip without a comment)",
        ),
        (with_comment, "it is no zip that can be read (its end is not that of a zip without a comment)"),
        (zip64, "it is no zip that can be read (it is a zip64)"),
        (large_index, "it is no zip that can be read (its index has 1073741824 bytes, 4194304 at most)"),
        (entry("../run.jsonl"), "'../run.jsonl' in it has a name that no file of a run has"),
        (entry("/etc/passwd"), "'/etc/passwd' in it has a name that no file of a run has"),
        (entry("a/../../b"), "'a/../../b' in it has a name that no file of a run has"),
        (entry("a\\..\\b"), "'a\\\\..\\\\b' in it has a name that no file of a run has"),
        (entry("c:run.jsonl"), "'c:run.jsonl' in it has a name that no file of a run has"),
        (entry("evidence/"), "'evidence/' in it has a name that no file of a run has"),
        (entry("a\x1b[2J"), "'a\\x1b[2J' in it has a name that no file of a run has"),
        (entry("run.jsonl", b"/etc/passwd", stat.S_IFLNK | 0o777), "'run.jsonl' in it is a link or no regular file"),
        (entry("run.jsonl", b"", stat.S_IFIFO | 0o644), "'run.jsonl' in it is a link or no regular file"),
        (encrypted, "'run.jsonl' in it is encrypted"),
        (
            entry("run.jsonl", b"x", compress_type=zipfile.ZIP_LZMA),
            "'run.jsonl' in it is compressed in a way that no run is",
        ),
        (
            entry("x", bytes(packed.MOST_FILE_BYTES + 1), compress_type=zipfile.ZIP_DEFLATED),
            "'x' in it unpacks to 67108865 bytes, and a file of a run has 67108864 at most",
        ),
        (bomb, "it unpacks to 566231040 bytes, and a run has 536870912 at most"),
        (twice, "it holds 'run.jsonl' twice"),
        (many, "it holds 10001 files, and a run 10000 at most"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_hostile_pack_is_refused(make: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.zip"
    make(path)
    with pytest.raises(RunUnreadable) as caught:
        StoredRun(path)
    assert str(caught.value) == (f"{path} is no packed run: {said}; pack the run's folder again with `gpulab pack`")


def test_a_pack_that_unpacks_to_more_than_its_index_says_is_never_unpacked_further(tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    entry("run.jsonl", bytes(64 << 20), compress_type=zipfile.ZIP_DEFLATED)(path)
    patched = bytearray(path.read_bytes())
    at = patched.find(b"PK\1\2")
    patched[at + 24 : at + 28] = struct.pack("<L", 100)
    path.write_bytes(patched)
    with StoredRun(path) as run:
        tracemalloc.start()
        with pytest.raises(RunUnreadable) as caught:
            run.raw("run.jsonl")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert str(caught.value) == (
        f"{path} is no packed run: run.jsonl in it is damaged (Bad CRC-32 for file 'run.jsonl'); "
        "pack the run's folder again with `gpulab pack`"
    )
    assert most < 4 << 20


def test_a_pack_whose_index_leads_out_of_it_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "away.zip"
    entry("run.jsonl", b"{}")(path)
    patched = bytearray(path.read_bytes())
    at = patched.find(b"PK\1\2")
    patched[at + 42 : at + 46] = struct.pack("<L", 0x7FFFFFFF)
    path.write_bytes(patched)
    with StoredRun(path) as run:
        for read in (run.raw, run.sum):
            with pytest.raises(RunUnreadable, match=r"run\.jsonl in it is damaged \("):
                read("run.jsonl")


def test_a_pack_whose_content_is_not_what_its_index_says_is_damaged(pack: Path) -> None:
    content = pack.read_bytes()
    at = content.find(b"line of first")  # deflated, but so short that it stands as it is
    at = at if at >= 0 else content.find(b"first.log") + 12
    pack.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with StoredRun(pack) as run:
        kinds = {change.kind for change in run.tampered()}
    assert kinds == {"damaged"}
    with pytest.raises(RunUnreadable) as caught:
        packed.Packed(pack).raw("evidence/first.log")
    assert str(caught.value) == (
        f"{pack} is no packed run: evidence/first.log in it is damaged (Bad CRC-32 for file 'evidence/first.log'); "
        "pack the run's folder again with `gpulab pack`"
    )


def test_a_pack_is_never_written_over_a_file(folder: Path, pack: Path) -> None:
    content = pack.read_bytes()
    with pytest.raises(RunUnreadable) as caught:
        stored.pack(folder, pack)
    assert str(caught.value) == f"{pack} is there already; name another file"
    assert pack.read_bytes() == content


def test_only_a_runs_folder_without_links_is_packed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.zip"
    with pytest.raises(RunUnreadable) as caught:
        stored.pack(tmp_path, out)
    assert str(caught.value) == f"{tmp_path} is no run's folder; name one, as in results/"
    (folder / "evidence/link").symlink_to("/etc/passwd")
    with pytest.raises(RunUnreadable) as caught:
        stored.pack(folder, out)
    assert str(caught.value) == (
        f"{folder} cannot be packed: 'evidence/link' is a link, no regular file, or called as no file of a run is; "
        "take it away"
    )
    assert not out.exists()


def test_runs_are_found_in_folders_packed_or_not(folder: Path, pack: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "results/02_other/run")
    (tmp_path / "other.zip").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert stored.find([tmp_path]) == [folder, tmp_path / "results/02_other/run", pack]
    assert stored.find([pack, folder]) == [pack, folder]
    proven = tmp_path / "results/verify/02_other/starter-1"
    proven.mkdir(parents=True)
    for name in ("kept.json", "verdict.json"):
        (proven / name).write_text("{}")
    assert stored.find([tmp_path / "results"]) == [folder, tmp_path / "results/02_other/run"]
    reports = [tmp_path / "variance-0123456789abcdef.txt", tmp_path / f"{folder.name}.html"]
    for report in reports:
        report.write_text("")
    assert stored.find([*reports, folder]) == [folder]
    for place, why in ((tmp_path / "none", "is not there"), (folder / "evidence", "holds no run")):
        with pytest.raises(RunUnreadable) as caught:
            stored.find([folder, place])
        assert str(caught.value) == (
            f"{place} {why}; name a run's folder, a packed run, or a folder of runs, as results/"
        )
