"""A run's folder: facts in lines, evidence copied once, and a manifest that shows every change."""

import errno
import gzip
import math
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest

from graders.errors import HarnessError
from graders.record import FACT_CHARACTERS, FORMAT, NotWritten, Record, run_id, sums, write_over, write_whole
from graders.rubric import Finding
from graders.stored import StoredRun


def test_a_run_is_named_by_its_time_in_utc() -> None:
    berlin = timezone(timedelta(hours=2))
    assert run_id(datetime(2026, 9, 1, 14, 5, 6, 700, berlin), "a1b2c3") == "20260901T120506Z-a1b2c3"


def test_facts_are_lines_after_a_line_that_names_the_format(tmp_path: Path) -> None:
    record = Record(tmp_path / "03_vllm" / "run", now=lambda: datetime(2026, 9, 1, 12, tzinfo=UTC))
    record.write("sample", value=math.inf, when=datetime(2026, 9, 1, tzinfo=UTC))
    lines = (record.folder / "run.jsonl").read_text().splitlines()
    assert [msgspec.json.decode(line) for line in lines] == [
        {"format": FORMAT},
        {"kind": "sample", "at": "2026-09-01T12:00:00Z", "value": None, "when": "2026-09-01T00:00:00Z"},
    ]
    record.seal()


def test_a_run_does_not_write_over_another(tmp_path: Path) -> None:
    Record(tmp_path / "run").seal()
    with pytest.raises(FileExistsError):
        Record(tmp_path / "run")


def test_evidence_is_kept_once_from_text_bytes_or_a_file(tmp_path: Path) -> None:
    record = Record(tmp_path / "run")
    (tmp_path / "pod.log").write_text("hello")
    assert record.keep("a/values.yaml", "x: 1") == "evidence/a/values.yaml"
    assert record.keep("raw", b"\0") == "evidence/raw"
    assert record.keep("pod.log", tmp_path / "pod.log") == "evidence/pod.log"
    assert record.put("submission/values.yaml", "x: 1") == "submission/values.yaml"
    assert (record.folder / "evidence/pod.log").read_text() == "hello"
    assert record.has("evidence/raw")
    assert not record.has("evidence/other")
    with pytest.raises(HarnessError) as caught:
        record.keep("raw", b"again")
    assert str(caught.value) == (
        "evidence 'evidence/raw' is there already; what a run wrote is never changed, use another name"
    )
    with pytest.raises(HarnessError) as caught:
        record.keep("../verdict.json", b"{}")
    assert str(caught.value) == (
        "evidence cannot be kept as 'evidence/../verdict.json': that leaves the run's folder; use a plain name"
    )
    with pytest.raises(HarnessError) as caught:
        record.keep("pod:1.log", b"")
    assert str(caught.value) == (
        "evidence cannot be kept as 'evidence/pod:1.log': not every system has such names; use a plain one"
    )
    record.seal()


def test_samples_have_a_file_of_their_own(tmp_path: Path) -> None:
    record = Record(tmp_path / "run")
    with record.lines("samples.jsonl") as samples:
        samples.write({"t": 1})
    samples.close()
    assert (record.folder / "evidence/samples.jsonl").read_text() == f'{{"format":"{FORMAT}"}}\n{{"t":1}}\n'
    with record.lines("looks.jsonl", form="gpulab/looks/v1"):
        assert (record.folder / "evidence/looks.jsonl").read_text() == '{"format":"gpulab/looks/v1"}\n'
    record.seal()


def changes(folder: Path) -> list[tuple[str, str]]:
    with StoredRun(folder) as run:
        return [(change.kind, change.name) for change in run.tampered()]


def test_the_manifest_shows_what_was_changed_added_or_taken_away(tmp_path: Path) -> None:
    record = Record(tmp_path / "run")
    for name in ("kept", "changed", "taken"):
        record.keep(name, name)
    assert record.seal() == record.folder / "manifest.json"
    assert changes(record.folder) == []
    (record.folder / "evidence/changed").write_text("CHANGED")
    (record.folder / "evidence/taken").unlink()
    (record.folder / "evidence/added").write_text("")
    assert changes(record.folder) == [
        ("added", "evidence/added"),
        ("changed", "evidence/changed"),
        ("missing", "evidence/taken"),
    ]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    write_whole(path, b"one")
    write_whole(path, b"two")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "folder", b"three")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "verdict.json"]
    assert path.read_bytes() == b"two"


def facts(record: Record) -> list[dict[str, object]]:
    """The lines of run.jsonl, without their times."""
    lines = map(msgspec.json.decode, (record.folder / "run.jsonl").read_bytes().splitlines())
    return [{name: value for name, value in line.items() if name != "at"} for line in lines]


def test_secrets_are_redacted_before_they_are_written_and_counted(tmp_path: Path) -> None:
    record = Record(tmp_path / "run", secrets=["from-the-environment-1"])
    record.put("submission/values.yaml", "env: {HF_TOKEN: abc123def}\n")
    record.keep("pod.log", "it is abc123def\nAuthorization: Bearer x\nfrom-the-environment-1, max_tokens: 64\n")
    record.keep("raw.bin", b"\xff\x00 password=hunter2 \xfe")
    record.keep("samples.jsonl.gz", b'{"password": "as the server answered"}\n')
    record.write("attempt", observed="its log ends: API_KEY=hunter2")
    with record.lines("pods.jsonl") as lines:
        lines.write({"env": [{"name": "HF_TOKEN", "value": "hunter2"}], "message": "abc123def"})
    record.seal()
    read = {name: (record.folder / name).read_bytes() for name in sums(record.folder) if name != "run.jsonl"}
    assert read["submission/values.yaml"] == b'env: {HF_TOKEN: "[redacted]"}\n'
    assert read["evidence/pod.log"] == b"it is [redacted]\nAuthorization: [redacted]\n[redacted], max_tokens: 64\n"
    assert read["evidence/raw.bin"] == b"\xff\x00 password=[redacted] \xfe"
    assert gzip.decompress(read["evidence/samples.jsonl.gz"]) == b'{"password": "as the server answered"}\n'
    assert read["evidence/pods.jsonl"].splitlines()[1] == (
        b'{"env":[{"name":"HF_TOKEN","value":"[redacted]"}],"message":"[redacted]"}'
    )
    assert facts(record)[1] == {"kind": "attempt", "observed": "its log ends: API_KEY=[redacted]"}
    assert facts(record)[-1]["redacted"] == {
        "evidence/pod.log": 3,
        "evidence/pods.jsonl": 2,
        "evidence/raw.bin": 1,
        "run.jsonl": 1,
        "submission/values.yaml": 1,
    }


def test_what_is_larger_than_its_bound_is_cut_at_a_line_and_said(tmp_path: Path) -> None:
    record = Record(tmp_path / "run")
    record.keep("head.log", "one\ntwo\nthree\n", most=9)
    record.keep("tail.log", "one\ntwo\nthree\n", most=9, end=True)
    record.keep("line", "onetwothree", most=4)
    record.keep("end", "onetwothree", most=4, end=True)
    record.keep("fits", "one\n", most=4)
    record.keep("samples.jsonl.gz", b"one\ntwo\n", most=5)
    with record.lines("lines.jsonl", most=40) as lines:
        for number in range(3):
            lines.write({"n": number})
    record.seal()
    evidence = {path.name: path.read_bytes() for path in (record.folder / "evidence").iterdir()}
    assert gzip.decompress(evidence.pop("samples.jsonl.gz")) == b"one\n"
    assert evidence == {
        "head.log": b"one\ntwo\n",
        "tail.log": b"three\n",
        "line": b"onet",
        "end": b"hree",
        "fits": b"one\n",
        "lines.jsonl": b'{"format":"gpulab/record/v1"}\n{"n":0}\n',
    }
    assert [fact for fact in facts(record) if fact.get("kind") == "cut"] == [
        {"kind": "cut", "name": "evidence/head.log", "bytes": 14, "kept": 8, "end": False},
        {"kind": "cut", "name": "evidence/tail.log", "bytes": 14, "kept": 6, "end": True},
        {"kind": "cut", "name": "evidence/line", "bytes": 11, "kept": 4, "end": False},
        {"kind": "cut", "name": "evidence/end", "bytes": 11, "kept": 4, "end": True},
        {"kind": "cut", "name": "evidence/samples.jsonl.gz", "bytes": 8, "kept": 4, "end": False},
        {"kind": "cut", "name": "evidence/lines.jsonl", "bytes": 54, "kept": 38, "end": False},
    ]


def test_the_whole_run_has_a_bound_and_says_what_it_keeps(tmp_path: Path) -> None:
    clock = iter(float(number) for number in range(9))
    record = Record(tmp_path / "run", most=100, clock=lambda: next(clock))
    record.put("submission/values.yaml", "a: 1\n")
    record.keep("samples.jsonl.gz", b"x" * 5000)
    size = (record.folder / "evidence/samples.jsonl.gz").stat().st_size
    record.keep("cluster/pod.log", "line\n" * 20)
    left = (100 - 5 - size) // 5 * 5
    record.keep("cluster/other.log", "line that does not fit into what is left\n")
    record.seal()
    assert (record.folder / "evidence/cluster/pod.log").stat().st_size == left
    assert facts(record)[-1] == {
        "kind": "kept",
        "files": 4,
        "bytes": {"submission": 5, "evidence": size, "evidence/cluster": 100 - 5 - size},
        "most": 100,
        "cut": ["evidence/cluster/pod.log", "evidence/cluster/other.log"],
        "redacted": {},
        "compressed": {"bytes": 5000, "stored": size, "seconds": 1.0},
    }


def test_measured_data_of_equal_content_is_kept_as_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        record = Record(tmp_path / name)
        record.keep("samples.jsonl.gz", b'{"t":1}\n' * 1000)
        record.seal()
    one, other = ((tmp_path / name / "evidence/samples.jsonl.gz").read_bytes() for name in ("one", "other"))
    assert one == other
    assert one[4:8] == bytes(4)  # no time in its header
    assert gzip.decompress(one) == b'{"t":1}\n' * 1000


def test_texts_of_facts_and_verdicts_have_a_bound(tmp_path: Path) -> None:
    record = Record(tmp_path / "run")
    record.write("attempt", observed="x" * (FACT_CHARACTERS + 5))
    long = Finding(expected="", observed="x" * (FACT_CHARACTERS + 5), verdict="failed", value=math.inf)
    assert facts(record)[1]["observed"] == "x" * FACT_CHARACTERS + " [cut: 5 more characters]"
    assert record.clean(long).observed == "x" * FACT_CHARACTERS + " [cut: 5 more characters]"
    assert record.clean(record.clean(long)) == record.clean(long)
    assert record.clean(long).value == math.inf
    record.seal()


def test_facts_may_hold_json_as_it_is(tmp_path: Path) -> None:
    record = Record(tmp_path / "run")
    record.write("attempt", facts=msgspec.Raw(b'{"ratios":[1.5,2]}'))
    assert facts(record)[1] == {"kind": "attempt", "facts": {"ratios": [1.5, 2]}}
    record.seal()


class Disk:
    """Takes so many bytes, the last of them in part; then it is full."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, handle: int, content: bytes | memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(handle, content[: self.room])
        self.room -= written
        return written


def test_a_full_disk_leaves_no_half_of_anything(tmp_path: Path) -> None:
    disk = Disk(room=150)
    record = Record(tmp_path / "run", write=disk.write)
    record.write("first", text="x" * 20)
    record.keep("fits", "x" * 20)
    said = (
        f"the run's folder {tmp_path}/run cannot be written: No space left on device; make room there, or name another "
        "place with --out, and grade again"
    )
    for attempt in (lambda: record.keep("large", "x" * 100), lambda: record.write("second", text="y" * 100)):
        disk.room = 30
        with pytest.raises(NotWritten) as caught:
            attempt()
        assert str(caught.value) == said
    assert str(record.broken) == said
    assert sorted(path.name for path in (record.folder / "evidence").iterdir()) == ["fits"]
    disk.room = 1000
    record.write("third")
    assert [fact.get("kind") for fact in facts(record)] == [None, "first", "third"]
    record.seal()


@pytest.mark.parametrize("content", [b"", b"new", b"newer than all that was there"])
def test_a_file_is_written_where_it_stands_or_stays_as_it_was(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "verdict.json"
    place.write_bytes(b"what was there")

    def full(handle: int, piece: bytes | memoryview) -> int:
        os.write(handle, piece[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    if content:
        with pytest.raises(OSError, match="No space left on device"):
            write_over(place, content, full)
        assert place.read_bytes() == b"what was there"
    write_over(place, content)
    assert place.read_bytes() == content
