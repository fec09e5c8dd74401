"""What `gpulab check` finds: verdicts that are not what their records say, signatures, runs that did not end."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from graders import packed, signing, stored, submission
from graders.audit import audit
from graders.record import MANIFEST, SIGNATURE, pretty, sums
from tests.graders.stored_run import NAME, begun, graded, measured
from tests.graders.verdicts import NOON

ROOT = Path(__file__).resolve().parents[2]
KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
PRINT, OTHER_PRINT = signing.fingerprint(KEY.public_key()), signing.fingerprint(OTHER.public_key())


def sign(manifest: bytes) -> bytes:
    return signing.sign(KEY, manifest).encode()


def remake_the_manifest(folder: Path) -> None:
    """What anyone can do who may write the folder, but has no key."""
    found = sums(folder)
    sealed = msgspec.json.decode((folder / MANIFEST).read_bytes())
    sizes = {name: (folder / name).stat().st_size for name in found}
    (folder / MANIFEST).write_bytes(pretty({**sealed, "sha256": found, "bytes": sizes}))


def edit(folder: Path, change: Callable[[Any], object]) -> None:
    verdict = msgspec.json.decode((folder / "verdict.json").read_bytes())
    change(verdict)
    (folder / "verdict.json").write_bytes(pretty(verdict))


def edit_records(folder: Path, change: Callable[[list[Any]], object]) -> None:
    lines = [msgspec.json.decode(line) for line in (folder / "run.jsonl").read_bytes().splitlines()]
    change(lines)
    (folder / "run.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(lines))


def found(folder: Path) -> list[tuple[str, str]]:
    return [(flaw.name, flaw.said) for flaw in audit(folder).flaws]


def test_a_run_that_holds_is_one_line(tmp_path: Path) -> None:
    folder = graded(tmp_path)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    assert audit(folder).text() == f"{folder}: holds; 100/100 passed; 8 files, {size:.1f} MB; not signed"
    signed = graded(tmp_path / "signed", sign)
    assert audit(signed).text() == f"{signed}: holds; 100/100 passed; 9 files, {size:.1f} MB; signed by {PRINT}"
    assert audit(signed, KEY.public_key()).holds


def test_what_was_tampered_with_is_a_line_each(tmp_path: Path) -> None:
    folder = graded(tmp_path)
    (folder / "evidence/first.log").unlink()
    (folder / "evidence/more.log").touch()
    assert audit(folder).text() == (
        f"{folder}: does not hold, 3 findings\n"
        "  missing: evidence/first.log is missing\n"
        "  added: evidence/more.log was added after the run\n"
        "  evidence: the check 'first' rests on evidence/first.log, which is missing"
    )


def test_a_changed_manifest_does_not_fit_its_signature(tmp_path: Path) -> None:
    folder = graded(tmp_path, sign)
    (folder / "evidence/first.log").write_text("LINE of first\n")
    remake_the_manifest(folder)
    assert found(folder) == [
        ("signature", "manifest.json.sig does not fit manifest.json: one of them was changed after the run was signed")
    ]


def test_only_the_key_that_was_asked_for_will_do(tmp_path: Path) -> None:
    folder = graded(tmp_path, sign)
    assert [(flaw.name, flaw.said) for flaw in audit(folder, OTHER.public_key()).flaws] == [
        ("signer", f"the run is signed by {PRINT}, and it is to be signed by {OTHER_PRINT}")
    ]
    (folder / SIGNATURE).unlink()
    assert audit(folder).holds
    assert [(flaw.name, flaw.said) for flaw in audit(folder, KEY.public_key()).flaws] == [
        ("unsigned", f"the run has no manifest.json.sig, and it is to be signed by {PRINT}")
    ]
    (folder / SIGNATURE).write_text("{}")
    assert found(folder) == [
        (
            "signature",
            "manifest.json.sig is no signature that can be read: Object missing required field `fingerprint`",
        )
    ]


def verdict_of(field: str, value: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder, lambda verdict: verdict.update({field: value}))


def check_of(field: str, value: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder, lambda verdict: verdict["checks"][0].update({field: value}))


def without(kind: str) -> Callable[[Path], None]:
    def change(lines: list[Any]) -> None:
        lines[:] = [line for line in lines if line.get("kind") != kind]

    return lambda folder: edit_records(folder, change)


def failed_at_last(lines: list[Any]) -> None:
    for line in lines:
        if line.get("kind") == "attempt":
            line["finding"]["verdict"] = "failed"


DISAGREEMENTS: dict[str, tuple[Callable[[Path], object], list[tuple[str, str]]]] = {
    "points": (
        verdict_of("points", 99),
        [("points", "verdict.json says points 99, and its checks come to 100")],
    ),
    "another learner's work": (
        verdict_of("submission", "ab" * 32),
        [
            ("header", f'verdict.json says submission "{"ab" * 32}", and run.jsonl "DIGEST"'),
            (
                "submission",
                f'verdict.json is on a submission of digest "{"ab" * 32}", and the copy kept has "DIGEST"',
            ),
        ],
    ),
    "the copy of the submission": (
        lambda folder: (folder / "submission/values.yaml").write_text("replicas: 9\n"),
        [("submission", 'verdict.json is on a submission of digest "DIGEST", and the copy kept has "OTHER"')],
    ),
    "the time": (
        verdict_of("started", "2026-08-31T12:00:00Z"),
        [("header", 'verdict.json says started "2026-08-31T12:00:00Z", and run.jsonl "2026-09-01T12:00:00Z"')],
    ),
    "the end": (
        verdict_of("ended", "2026-08-31T12:00:00Z"),
        [("ended", 'verdict.json says ended "2026-08-31T12:00:00Z", and the end of run.jsonl "2026-09-01T12:00:00Z"')],
    ),
    "what was observed": (
        check_of("observed", "300 tokens/s"),
        [
            (
                "check",
                'the check \'first\' has observed "300 tokens/s" in verdict.json, "3 tokens/s" in run.jsonl',
            )
        ],
    ),
    "a status": (
        check_of("status", "failed"),
        [
            ("check", 'the check \'first\' has status "failed" in verdict.json, "passed" in run.jsonl'),
            ("points", "the check 'first' is failed with 60 points of 60"),
            ("status", 'verdict.json says status "passed", and its checks come to "failed"'),
        ],
    ),
    "a check twice": (
        lambda folder: edit(folder, lambda verdict: verdict["checks"].append(verdict["checks"][0])),
        [
            ("check", "verdict.json lists the check 'first' more than once"),
            ("points", "verdict.json says points 100, and its checks come to 160"),
            ("max_points", "verdict.json says max_points 100, and its checks come to 160"),
        ],
    ),
    "a check less": (
        lambda folder: edit(folder, lambda verdict: verdict["checks"].pop()),
        [
            ("check", "run.jsonl has a result of the check 'second', which verdict.json does not list"),
            ("points", "verdict.json says points 100, and its checks come to 60"),
            ("max_points", "verdict.json says max_points 100, and its checks come to 60"),
        ],
    ),
    "a result that is nowhere": (
        without("check"),
        [
            ("check", "verdict.json says that 'first' is passed with 60 points, and run.jsonl has no result of it"),
            ("check", "verdict.json says that 'second' is passed with 40 points, and run.jsonl has no result of it"),
        ],
    ),
    "a measurement that was never taken": (
        without("attempt"),
        [
            ("check", "the check 'first' passed, though its last measurement was never taken"),
            ("check", "the check 'second' passed, though its last measurement was never taken"),
        ],
    ),
    "a measurement that failed": (
        lambda folder: edit_records(folder, failed_at_last),
        [
            ("check", "the check 'first' passed, though its last measurement was failed"),
            ("check", "the check 'second' passed, though its last measurement was failed"),
        ],
    ),
    "no end": (without("end"), [("unfinished", "run.jsonl does not say that the run ended")]),
    "no beginning": (without("start"), [("unreadable", "run.jsonl does not say how the run began")]),
    "another format": (
        lambda folder: edit_records(folder, lambda lines: lines[0].update(format="other")),
        [
            (
                "unreadable",
                'run.jsonl begins with {"format":"other"}; this program reads the format \'gpulab/record/v1\'',
            )
        ],
    ),
    "half a line": (
        lambda folder: os.truncate(folder / "run.jsonl", (folder / "run.jsonl").stat().st_size - 9),
        [("unreadable", "line 8 of run.jsonl is no fact of a run: Input data was truncated")],
    ),
    "no verdict": (
        lambda folder: (folder / "verdict.json").unlink(),
        [("unreadable", "FOLDER holds no file 'verdict.json'; its run did not keep one, or it was taken away")],
    ),
    "another verdict": (
        lambda folder: (folder / "verdict.json").write_text("[]"),
        [("unreadable", "verdict.json is no verdict that can be read: Expected `object`, got `array`")],
    ),
    "another schema": (
        verdict_of("schema", "other"),
        [("unreadable", "verdict.json has the schema 'other'; this program reads 'gpulab/verdict/v1'")],
    ),
}


@pytest.mark.parametrize("kind", DISAGREEMENTS)
def test_a_verdict_that_is_not_what_the_records_say_is_named_also_with_a_new_manifest(
    kind: str, tmp_path: Path
) -> None:
    folder = graded(tmp_path)
    digest = msgspec.json.decode((folder / "verdict.json").read_bytes())["submission"]
    tamper, said = DISAGREEMENTS[kind]
    tamper(folder)
    remake_the_manifest(folder)
    other = submission.digest({"values.yaml": b"replicas: 9\n"})
    expected = [
        (name, text.replace("DIGEST", digest).replace("OTHER", other).replace("FOLDER", str(folder)))
        for name, text in said
    ]
    assert found(folder) == expected


def test_a_submission_whose_secrets_were_redacted_still_holds(tmp_path: Path) -> None:
    run = begun(tmp_path, b"env: {HF_TOKEN: hunter2}\n")
    for number in range(2):
        measured(run, number)
    run.finish(NOON, None)
    folder = run.record.folder
    assert (folder / "submission/values.yaml").read_text() == 'env: {HF_TOKEN: "[redacted]"}\n'
    assert audit(folder).holds


def test_a_run_that_was_killed_keeps_what_it_had_whole_and_proves_nothing(tmp_path: Path) -> None:
    source = (
        "import os, signal, sys; from pathlib import Path; from tests.graders.stored_run import begun, measured; "
        "run = begun(Path(sys.argv[1])); measured(run, 0); lines = run.record.lines('cluster/pods.jsonl'); "
        "lines.write({'at': 1}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", source, str(tmp_path)], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    folder = tmp_path / "results/01_tiny" / NAME
    verdict = msgspec.json.decode((folder / "verdict.json").read_bytes())
    assert (verdict["status"], verdict["points"], verdict["reason"]) == ("error", 60, "the run did not finish")
    assert audit(folder).text() == (
        f"{folder}: does not hold, 2 findings\n"
        f"  unfinished: {folder} has no manifest.json: its run did not end, so it proves nothing\n"
        "  unfinished: run.jsonl does not say that the run ended"
    )
    with stored.StoredRun(folder) as run:
        assert [name for name in run.names if name.startswith("evidence/")] == [
            "evidence/cluster/pods.jsonl",
            "evidence/first.jsonl.gz",
            "evidence/first.log",
        ]
        assert run.read("evidence/cluster/pods.jsonl").endswith(b'\n{"at":1}\n')
        assert run.read("evidence/first.jsonl.gz").endswith(b'{"index":1}\n')


def test_a_submission_that_was_blown_up_afterwards_is_not_read(tmp_path: Path) -> None:
    folder = graded(tmp_path)
    for number in range(3):
        with (folder / f"submission/{number}").open("wb") as file:
            file.truncate(30 << 20)
    assert found(folder) == [
        *(("added", f"submission/{number} was added after the run") for number in range(3)),
        ("unreadable", f"submission/ has {size_of(folder)} bytes, and none has more than 67108864"),
    ]


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "submission").iterdir())


def test_what_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / f"x{packed.SUFFIX}"
    path.write_bytes(b"x" * 99)
    assert audit(path).text() == (
        f"{path}: does not hold, 1 finding\n"
        f"  unreadable: {path} is no packed run: it is no zip that can be read (its end is not that of a zip without a "
        "comment); pack the run's folder again with `gpulab pack`"
    )


def flipped(path: Path, draw: random.Random, count: int) -> Iterator[None]:
    """Changes one bit of a file, again and again."""
    content = path.read_bytes()
    for _ in range(min(count, 8 * len(content))):
        at, bit = draw.randrange(len(content)), 1 << draw.randrange(8)
        path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
        yield
    path.write_bytes(content)


def test_no_bit_of_a_signed_run_can_be_changed(tmp_path: Path) -> None:
    folder, draw = graded(tmp_path, sign), random.Random(1)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        for _ in flipped(path, draw, 60):
            assert not audit(folder, KEY.public_key()).holds
    assert audit(folder, KEY.public_key()).holds


def test_a_packed_run_of_which_a_bit_was_changed_is_refused_or_the_same(tmp_path: Path) -> None:
    folder, path, draw = graded(tmp_path, sign), tmp_path / "run.zip", random.Random(1)
    stored.pack(folder, path)
    refused = 0
    for _ in flipped(path, draw, 500):
        if not audit(path, KEY.public_key()).holds:
            refused += 1
            continue
        with stored.StoredRun(path) as run:
            assert all(run.raw(name) == (folder / name).read_bytes() for name in run.names)
    assert refused > 300


@pytest.mark.parametrize("name", ["verdict.json", "run.jsonl", MANIFEST, SIGNATURE])
@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b'"\xff"', b"1e999", b"", b"null", b"\0" * 9])
def test_hostile_content_is_a_finding(name: str, content: bytes, tmp_path: Path) -> None:
    folder = graded(tmp_path, sign)
    whole = (folder / name).read_bytes()
    for each in (content, whole.replace(b"{", b'{"traits": ' + content + b",", 1), whole + content):
        if each != whole:
            (folder / name).write_bytes(each)
            assert not audit(folder).holds


FILL = """
import sys
from contextlib import suppress
from pathlib import Path
from tests.graders.stored_run import begun, measured
from tests.graders.verdicts import NOON
run = begun(Path(sys.argv[1]))
measured(run, 0)
try:
    for number in range(1000):
        run.record.keep(str(number), bytes(10_000))
except Exception as error:
    print(type(error).__name__, error)
with suppress(OSError), (Path(sys.argv[1]) / "more").open("wb", buffering=0) as more:
    for _ in range(int(sys.argv[2])):  # what others write meanwhile
        more.write(bytes(4096))
run.finish(NOON, None)
print(run.verdict.status, run.verdict.points, run.verdict.reason)
print((run.place.read_text() if run.place.exists() else "no verdict"))
"""


@pytest.mark.parametrize("others", [0, 1000])
def test_a_disk_that_is_full_leaves_no_broken_verdict(machine: None, tmp_path: Path, others: int) -> None:
    words = ['mount -t tmpfs -o size=256k none $1 && exec $2 -c "$3" $1 $4', "sh", str(tmp_path), sys.executable, FILL]
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", *words, str(others)]
    ended = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    said = (
        f"the run's folder {tmp_path / 'results/01_tiny' / NAME} cannot be written: No space left on device; make room "
        "there, or name another place with --out, and grade again"
    )
    refused, status, *verdict = ended.stdout.split("\n", 2)
    assert refused == f"NotWritten {said}"
    assert status == f"error 60 {said}"
    found = msgspec.json.decode("".join(verdict))
    assert (found["status"], found["points"], found["reason"]) == ("error", 60, said)
