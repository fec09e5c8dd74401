"""What is read of a stored run, and what is said of what cannot be."""

from pathlib import Path

import pytest

from graders import stored as stored_runs
from graders.errors import HarnessError
from graders.html.evidence import Unread, read
from graders.html.page import write
from tests.html.conftest import CHECKS, OBJECTIVE, STREAMS
from tests.html.runs import even, load_run, store

LINES = load_run(even(2, 1.0), streams=1).encode()


def test_loads_counters_and_events_are_read(stored: Path) -> None:
    found = read(stored)
    assert (found.run, found.place, found.verdict.checks) == ("20260901T120000Z-abcdef", stored, CHECKS)
    assert found.unread == ()
    assert len(found.loads) == 5
    assert [load.name for load in found.loads_of(OBJECTIVE)] == ["objective-1-submission"]
    (counters,) = found.counters_of(OBJECTIVE)
    assert [trace.metric for trace in counters.traces] == [
        "vllm:kv_cache_usage_perc",
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
    ]
    assert [event.name for event in found.events] == ["submission-0"]
    assert found.holds == "It holds: all files are as they were sealed, and prove the verdict; not signed."


def test_a_packed_run_is_read_as_its_folder_is(stored: Path, tmp_path: Path) -> None:
    pack = tmp_path / "03_vllm-run.gpulab.zip"
    stored_runs.pack(stored, pack)
    one, other = read(stored), read(pack)
    assert (other.run, other.place) == ("03_vllm-run", pack)
    assert (one.verdict, one.facts, one.loads, one.counters) == (
        other.verdict,
        other.facts,
        other.loads,
        other.counters,
    )
    assert (one.events, one.files, one.holds) == (other.events, other.files, other.holds)
    assert write(pack) == tmp_path / "03_vllm-run.html"
    assert "tail -n" not in (tmp_path / "03_vllm-run.html").read_text()


def test_what_cannot_be_read_is_named_and_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "cut.jsonl.gz": LINES,
        "good-submission.jsonl": LINES,
        "huge.jsonl.gz": LINES + b" " * (1 << 20),
        "older.jsonl": LINES.replace(b"gpulab/load/v2", b"gpulab/load/v1"),
        "other.jsonl": b'{"format":"gpulab/record/v1"}\n{"t":1}\n',
        "values.yaml": b"a: 1\n",
        "when.jsonl": b'{"format":"gpulab/events/v1"}\n{"first":"yesterday"}\n',
        "words.jsonl": b"<script>\n",
    }
    store(tmp_path / "run", [STREAMS], files)
    cut = tmp_path / "run/evidence/cut.jsonl.gz"
    cut.write_bytes(cut.read_bytes()[:-20])
    monkeypatch.setattr(stored_runs, "MOST_FILE_BYTES", 1 << 20)
    found = read(tmp_path / "run")
    assert list(found.loads) == ["evidence/good-submission.jsonl"]
    assert found.unread == (
        Unread("evidence/cut.jsonl.gz", "evidence/cut.jsonl.gz is damaged: it does not end where its content does"),
        Unread(
            "evidence/huge.jsonl.gz",
            "evidence/huge.jsonl.gz unpacks to more than 1048576 bytes, which no file of a run has",
        ),
        Unread(
            "evidence/older.jsonl",
            "these lines are a load run of format 'gpulab/load/v1' or were changed; "
            "this program reads 'gpulab/load/v2'",
        ),
        Unread("evidence/when.jsonl", "Invalid RFC3339 encoded datetime - at `$[0].first`"),
    )
    assert len(found.files) == len(files)
    assert found.holds.startswith("It does not hold: evidence/cut.jsonl.gz has ")


def test_a_run_that_was_changed_or_never_sealed_says_so(stored: Path, tmp_path: Path) -> None:
    (stored / "evidence/added").write_text("")
    assert read(stored).holds == "It does not hold: evidence/added was added after the run."
    store(tmp_path / "killed", [STREAMS], seal=False)
    with (tmp_path / "killed/run.jsonl").open("a") as file:
        file.write('{"kind":"eve')
    found = read(tmp_path / "killed")
    assert [fact["kind"] for fact in found.facts] == ["start", "attempt", "check", "end", "kept"]
    assert found.holds.startswith(
        f"It does not hold: {tmp_path / 'killed'} has no manifest.json: its run did not end, so it proves nothing; "
    )


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(HarnessError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds no verdict.json, so it is no run; name the folder of one, as in results/"
    )
    with pytest.raises(HarnessError) as caught:
        read(tmp_path / "none")
    assert str(caught.value) == (
        f"there is no run {tmp_path / 'none'}; name the folder of one, as in results/, or a packed one"
    )
    (tmp_path / "verdict.json").write_text('{"lab": 3}')
    with pytest.raises(HarnessError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'verdict.json'} is not a verdict that can be read: Expected `str`, got `int` - at `$.lab`; grade "
        "the submission again"
    )
