"""What UTF-8 cannot encode (names and escapes that are half a character) in records, verdicts and submissions."""

import os
from pathlib import Path

import msgspec
import pytest

from graders.audit import audit
from graders.errors import SubmissionError
from graders.judging import Attempt
from graders.lines import Lines, encodable
from graders.record import Record
from graders.rubric import Finding
from graders.submission import parse_values
from tests.graders.tiny_lab import FIRST, RUN, SECOND, Session

pytest_plugins = ["pytester"]

HALF, TOLD = "\ud83d", "\\ud83d"
FINDING = Finding(expected="", observed=f"it said {HALF}", verdict="failed")


def test_what_cannot_be_encoded_is_told_by_its_number() -> None:
    whole = {"a": ["ä\n", 1, None, {"b": 0.5}], "c": True}
    assert encodable(whole) == whole
    assert encodable({HALF: [f"{HALF}!", {"b": (HALF,)}]}) == {TOLD: [f"{TOLD}!", {"b": [TOLD]}]}


def test_a_line_is_written_whatever_text_it_holds(tmp_path: Path) -> None:
    attempt = Attempt(check=HALF, attempt=1, finding=FINDING, facts=msgspec.Raw(b'{"a":[1]}'))
    with Lines(tmp_path / "lines.jsonl") as lines:
        lines.write(attempt)
        lines.write({HALF: float("inf")})
    _, first, second = map(msgspec.json.decode, (tmp_path / "lines.jsonl").read_bytes().splitlines())
    assert (first["check"], first["finding"]["observed"], first["facts"]) == (TOLD, f"it said {TOLD}", {"a": [1]})
    assert second == {TOLD: None}


def test_a_record_writes_and_cleans_alike(tmp_path: Path) -> None:
    record = Record(tmp_path / "run")
    record.write("finding", finding=FINDING)
    record.keep("said.txt", f"it said {HALF}")
    written = msgspec.json.decode((tmp_path / "run/run.jsonl").read_bytes().splitlines()[1])
    record.seal()
    assert written["finding"]["observed"] == record.clean(FINDING).observed == f"it said {TOLD}"
    assert (tmp_path / "run/evidence/said.txt").read_text() == f"it said {TOLD}"


@pytest.mark.parametrize(
    ("name", "said"), [(b"\xff.py", r"'\udcff.py'"), (b"a\nb.py", r"'a\nb.py'"), ("ü.py".encode(), "ü.py")]
)
def test_a_file_is_refused_by_a_name_that_can_be_told(session: Session, name: bytes, said: str) -> None:
    Path(os.fsdecode(os.fsencode(session.lab / "starter") + b"/" + name)).write_text("")
    result = session.run(FIRST + SECOND)
    assert result.ret == 1
    first = session.check("first")
    assert (first.status, first.error_class, session.statuses()) == ("failed", "learner", ["failed", "skipped"])
    assert first.observed == (
        f"{said} in {session.lab}/starter is no part of a submission for 01_tiny, which is: values.yaml; "
        "move it elsewhere"
    )
    result.stdout.fnmatch_lines(["01_tiny: A tiny lab", "0/100 failed", f"{RUN}/verdict.json"])
    assert audit(session.pytester.path / RUN).holds


def test_facts_and_findings_are_judged_whatever_text_they_hold(session: Session) -> None:
    session.flags = (f"--submission=/of/{HALF}",)
    session.run(FIRST.replace("GOOD", "Finding(expected='', observed='\\ud83d', verdict='passed')") + SECOND)
    assert (session.check("first").observed, session.verdict.flags) == (TOLD, (f"--submission=/of/{TOLD}",))
    assert session.verdict.status == "passed"
    assert audit(session.pytester.path / RUN).holds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"\\ud800": 1\n', "values.yaml is not plain YAML at line 1, column 1: '\\ud800', which is half a character"),
        ('a: ["\\uDC00"]\n', "values.yaml is not plain YAML at line 1, column 5: '\\udc00', which is half a character"),
        ("a: !!bool x\n", "values.yaml is not plain YAML at line 1, column 4: 'x', which is no bool"),
        ("a: !!timestamp x\n", "values.yaml is not plain YAML at line 1, column 4: 'x', which is no timestamp"),
        ('a: !!int ""\n', "values.yaml is not plain YAML at line 1, column 4: '', which is no int"),
        (
            f"a: !!float 1{':1' * 400}\n",
            f"values.yaml is not plain YAML at line 1, column 4: '1{':1' * 19}:', which is no float",
        ),
        ("{1: a, 0x1: b}\n", "values.yaml is not plain YAML at line 1, column 8: the key '0x1' a second time"),
        ("true: 1\nyes: 2\n", "values.yaml is not plain YAML at line 2, column 1: the key 'yes' a second time"),
        (
            "!!map [a]\n",
            "values.yaml is not plain YAML at line 1, column 1: expected a mapping node, but found sequence",
        ),
        (
            "a: !!set [a]\n",
            "values.yaml is not plain YAML at line 1, column 4: expected a mapping node, but found sequence",
        ),
    ],
    ids=["key", "value", "bool", "timestamp", "int", "float", "one key", "yes again", "map", "set"],
)
def test_values_that_are_none_are_refused_with_the_place(text: str, said: str) -> None:
    with pytest.raises(SubmissionError) as caught:
        parse_values(text, "values.yaml")
    assert str(caught.value) == f"{said}; correct it there"


def test_a_character_of_no_unicode_is_refused() -> None:
    with pytest.raises(SubmissionError) as caught:
        parse_values('a: "\\UFFFFFFFF"', "values.yaml")
    assert str(caught.value) == (
        "values.yaml is not YAML that can be read: Python int too large to convert to C int; correct it"
    )
