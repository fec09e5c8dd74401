"""The record of a reference's gradings: what is kept of a verdict, that it is kept once, and the sentence on all."""

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from benchmarks.references import GRADINGS, Grading, add, busiest, main, read, summary
from graders.machine import Machine
from graders.rubric import CheckResult, Verdict, write_verdict
from tests.graders.verdicts import NOON, result, verdict_on

MACHINE = Machine("cpu", 2, 8 * 2**30, "6.1", "3.11.9", {})


def run(number: int, *checks: CheckResult) -> Verdict:
    started = NOON + timedelta(days=number)
    return verdict_on(checks, machine=MACHINE, started=started, ended=started + timedelta(seconds=240 + number))


RUNS = [
    run(1, result("streams", "passed", 50), result("speed", "passed", 50)),
    run(2, result("streams", "passed", 50), result("speed", "inconclusive", 50, attempts=2)),
    run(3, result("streams", "failed", 50), result("speed", "skipped", 50)),
]


def test_a_grading_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "gradings.jsonl"
    assert read(path) == []
    add((Grading.of(each, busy=0.5) for each in RUNS[:2]), path)
    add((Grading.of(each, busy=0.5) for each in RUNS), path)
    kept = read(path)
    assert [each.seconds for each in kept] == [241, 242, 243]
    assert [each.points for each in kept] == [100, 50, 0]
    assert [each.missed for each in kept] == [
        {},
        {"speed": "inconclusive"},
        {"streams": "failed", "speed": "skipped"},
    ]
    assert [each.again for each in kept] == [(), ("speed",), ()]
    assert {(each.machine, each.busy) for each in kept} == {("2 cores of cpu, 8 GiB", 0.5)}


def test_a_grading_that_did_not_end_is_not_kept() -> None:
    unfinished = msgspec.structs.replace(RUNS[0], ended=None)
    with pytest.raises(ValueError, match=r"^the grading of 03_vllm that began at .* has not ended$"):
        Grading.of(unfinished, busy=0)


def test_what_others_used_is_that_of_the_check_that_suffered_most(tmp_path: Path) -> None:
    lines = [
        '{"kind":"header","others":9}',
        '{"kind":"attempt","check":"speed","others":0.1}',
        '{"kind":"attempt","check":"speed","others":1.184}',
        '{"kind":"attempt","check":"streams","others":null}',
    ]
    (tmp_path / "run.jsonl").write_text("\n".join(lines))
    assert busiest(tmp_path) == 1.18
    (tmp_path / "run.jsonl").write_text(lines[0])
    assert busiest(tmp_path) is None
    assert busiest(tmp_path / "of a verdict alone") is None


def test_the_sentence_counts_gradings_of_the_newest_kind() -> None:
    assert summary([], "03_vllm") == "03_vllm: no grading is kept"
    other = Grading.of(msgspec.structs.replace(RUNS[2], submission="cd34"), busy=0)
    used = zip(RUNS, (0.0, 0.5, 0.5), (None, 0.7, 0.6), strict=True)
    kept = [other, *(Grading.of(each, busy=busy, others=others) for each, busy, others in used)]
    assert summary(kept[:3], "03_vllm") == (
        "03_vllm: 2 gradings (2 on 2 cores of cpu, 8 GiB), 1 of them beside a process that wanted a core some of the "
        "time; in 0 a check failed, which bounds the rate of false failures at 84.2 % with 95 % confidence; 1 were "
        "undecided in a check, 1 of them while others used more than 0.25 cores; 241 to 242 s each"
    )
    quiet = [*kept[:2], msgspec.structs.replace(kept[2], others=0.2)]
    assert "1 were undecided in a check, 0 of them while others" in summary(quiet, "03_vllm")
    assert "3 gradings" in summary(kept, "03_vllm")
    assert "in 1 a check failed" in summary(kept, "03_vllm")


def test_the_sentence_counts_all_machines_and_names_them() -> None:
    faster = msgspec.structs.replace(MACHINE, cpu_model="faster cpu", memory_bytes=16 * 2**30)
    kept = [Grading.of(each, busy=0) for each in (RUNS[0], RUNS[1], msgspec.structs.replace(RUNS[2], machine=faster))]
    said = summary(kept, "03_vllm")
    assert said.startswith("03_vllm: 3 gradings (2 on 2 cores of cpu, 8 GiB; 1 on 2 cores of faster cpu, 16 GiB), 0 of")
    assert "in 1 a check failed" in said


def test_docs_say_what_is_kept() -> None:
    kept = read()
    text = " ".join((GRADINGS.parents[1] / "docs" / "instructors.md").read_text().split())
    missing = [said for lab in sorted({each.lab for each in kept}) if (said := summary(kept, lab)) not in text]
    assert missing == []


def test_a_verdict_that_cannot_be_read_is_wrong_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, before = tmp_path / "verdict.json", GRADINGS.read_bytes()
    monkeypatch.setattr("sys.argv", ["references.py", "--add", str(missing)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"references.py: error: {missing} is not a verdict that can be read: [Errno 2] No such file or directory: "
        f"'{missing}'; grade the submission again"
    )
    assert GRADINGS.read_bytes() == before


def test_a_verdict_without_an_end_is_wrong_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, before = tmp_path / "verdict.json", GRADINGS.read_bytes()
    write_verdict(msgspec.structs.replace(RUNS[0], ended=None), path)
    monkeypatch.setattr("sys.argv", ["references.py", "--add", str(path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"references.py: error: the grading of 03_vllm that began at {RUNS[0].started} has not ended"
    )
    assert GRADINGS.read_bytes() == before
