"""A run's folder: facts in lines, evidence copied once, and a manifest that shows every change."""

import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest

from graders.errors import HarnessError
from graders.record import FORMAT, Record, run_id, tampered, write_whole


def test_a_run_is_named_by_its_time_in_utc() -> None:
    berlin = timezone(timedelta(hours=2))
    assert run_id(datetime(2026, 9, 1, 14, 5, 6, 700, berlin), "a1b2c3") == "20260901T120506Z-a1b2c3"


def test_facts_are_lines_after_a_line_that_names_the_format(tmp_path: Path) -> None:
    record = Record(tmp_path / "03_vllm" / "run")
    record.write("sample", value=math.inf, when=datetime(2026, 9, 1, tzinfo=UTC))
    lines = (record.folder / "run.jsonl").read_text().splitlines()
    assert [msgspec.json.decode(line) for line in lines] == [
        {"format": FORMAT},
        {"kind": "sample", "value": None, "when": "2026-09-01T00:00:00Z"},
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
    record.seal()


def test_samples_have_a_file_of_their_own(tmp_path: Path) -> None:
    record = Record(tmp_path / "run")
    with record.lines("samples.jsonl") as samples:
        samples.write({"t": 1})
    samples.close()
    assert (record.folder / "evidence/samples.jsonl").read_text() == f'{{"format":"{FORMAT}"}}\n{{"t":1}}\n'
    record.seal()


def test_the_manifest_shows_what_was_changed_added_or_taken_away(tmp_path: Path) -> None:
    record = Record(tmp_path / "run")
    for name in ("kept", "changed", "taken"):
        record.keep(name, name)
    assert record.seal() == record.folder / "manifest.json"
    assert tampered(record.folder) == ()
    (record.folder / "evidence/changed").write_text("CHANGED")
    (record.folder / "evidence/taken").unlink()
    (record.folder / "evidence/added").write_text("")
    assert tampered(record.folder) == ("evidence/added", "evidence/changed", "evidence/taken")


def test_a_run_without_a_manifest_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(HarnessError) as caught:
        tampered(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has no manifest that can be read; its run did not end, so it proves nothing"
    )


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    write_whole(path, b"one")
    write_whole(path, b"two")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "folder", b"three")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "verdict.json"]
    assert path.read_bytes() == b"two"
