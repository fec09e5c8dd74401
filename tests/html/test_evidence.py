"""What is read of a run's folder, and what is said of what cannot be."""

import gzip
from pathlib import Path

import pytest

from graders.errors import HarnessError
from graders.html import evidence
from graders.html.evidence import Unread, read
from tests.html.conftest import CHECKS, OBJECTIVE, STREAMS
from tests.html.runs import even, load_run, store

LINES = load_run(even(2, 1.0), streams=1).encode()


def test_loads_and_counters_are_read_compressed_or_not(stored: Path) -> None:
    found = read(stored)
    assert (found.run, found.place, found.verdict.checks, found.unread) == (
        "20260901T120000Z-abcdef",
        stored,
        CHECKS,
        (),
    )
    assert len(found.loads) == 5
    assert found.loads["evidence/objective-1-submission.jsonl.gz"][0].name == "objective-1-submission"
    assert [trace.metric for trace in found.counters["evidence/objective-1-scrapes.jsonl"].traces] == [
        "vllm:kv_cache_usage_perc",
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
    ]
    assert found.evidence_of(OBJECTIVE) == [
        "evidence/objective-1-submission.jsonl.gz",
        "evidence/objective-1-scrapes.jsonl",
    ]
    assert (
        found.seal
        == "All files are as they were when the run was sealed: their SHA-256 sums are those of its manifest."
    )


def test_what_cannot_be_read_is_named_and_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MOST_BYTES", 1 << 20)
    files = {
        "older.jsonl": LINES.replace(b"gpulab/load/v2", b"gpulab/load/v1"),
        "cut.jsonl.gz": gzip.compress(LINES)[:-20],
        "huge.jsonl.gz": gzip.compress(LINES + b" " * (1 << 20)),
        "good-submission.jsonl": LINES,
        "other.jsonl": b'{"format":"gpulab/record/v1"}\n{"t":1}\n',
        "words.jsonl": b"<script>\n",
        "values.yaml": b"a: 1\n",
    }
    store(tmp_path / "run", [STREAMS], files)
    found = read(tmp_path / "run")
    assert list(found.loads) == ["evidence/good-submission.jsonl"]
    assert found.unread == (
        Unread("evidence/cut.jsonl.gz", "Compressed file ended before the end-of-stream marker was reached"),
        Unread("evidence/huge.jsonl.gz", "it holds more than 1 MiB"),
        Unread(
            "evidence/older.jsonl",
            "these lines are a load run of format 'gpulab/load/v1' or were changed; "
            "this program reads 'gpulab/load/v2'",
        ),
    )
    assert len(found.files) == len(files)


def test_a_run_that_was_changed_or_never_sealed_says_so(stored: Path, tmp_path: Path) -> None:
    (stored / "evidence/added").write_text("")
    assert read(stored).seal == "Changed since the run was sealed: evidence/added."
    store(tmp_path / "killed", [STREAMS], seal=False)
    with (tmp_path / "killed/run.jsonl").open("a") as file:
        file.write('{"kind":"eve')
    found = read(tmp_path / "killed")
    assert [fact["kind"] for fact in found.facts] == ["start", "check"]
    assert found.seal == (
        "The run was not sealed, as it did not end: nothing shows whether its files were changed since."
    )


def test_a_folder_without_a_verdict_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(HarnessError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'verdict.json'} is not a verdict that can be read: [Errno 2] No such file or directory: "
        f"'{tmp_path / 'verdict.json'}'; grade the submission again"
    )
