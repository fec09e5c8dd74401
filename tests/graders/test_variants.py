"""Numbers of a student: the same each time, another secret or id draws others, and what is wrong is said whole."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from graders.lab import CheckSpec, Lab, SubmissionRules
from graders.variants import (
    Variant,
    WrongVariant,
    applied,
    changes,
    checked_id,
    draw,
    fingerprint,
    read,
    secret_from,
    write,
)

SECRET = b"sixteen bytes or more"
LAB = Lab(
    name="01_tiny",
    folder=Path("labs/01_tiny"),
    title="A tiny lab",
    summary="It is tiny.",
    minutes=1,
    submission=SubmissionRules(("values.yaml",)),
    checks=(CheckSpec("first", "The first", 100),),
    thresholds={"L1": {"a": 1, "b": 10, "c": 100, "d": 1000}, "L3": {"a": 5}},
    variants={
        "L1": {
            "one": tuple({"a": float(number)} for number in range(1, 8)),
            "two": ({"b": 10, "c": 100}, {"b": 20, "c": 200}, {"b": 30, "c": 300}),
        }
    },
)
ALICE = draw(LAB, "alice", SECRET)


def test_numbers_are_those_that_openssl_computes() -> None:
    # printf 'gpulab/variant/v1\0%s\0L1\0one\0alice' 01_tiny | openssl dgst -sha256 -hmac 'sixteen bytes or more'
    one = 0x045E170836596BA0A426D3A774345926A52FAA4074AAF4E860FD3FB4DA4574AC
    two = 0x36007751BA9AC0D2DD66623DDB7DBA90687CD46B6EE291B4D4334799A438269E
    assert (
        Variant(
            lab="01_tiny",
            student="alice",
            fingerprint="cf7c61d1b2e0c1a5",
            numbers={"L1": {"a": one % 7 + 1, "b": (two % 3 + 1) * 10, "c": (two % 3 + 1) * 100}},
        )
        == ALICE
    )


def test_a_draw_depends_on_everything_that_it_is_for() -> None:
    many = msgspec.structs.replace(LAB, variants={"L1": {"one": tuple({"a": float(n)} for n in range(2**20))}})
    draws = [
        draw(many, "alice", SECRET),
        draw(many, "bob", SECRET),
        draw(many, "alice", SECRET + b"!"),
        draw(msgspec.structs.replace(many, name="02_other"), "alice", SECRET),
        draw(msgspec.structs.replace(many, variants={"L1": {"two": many.variants["L1"]["one"]}}), "alice", SECRET),
        draw(msgspec.structs.replace(many, variants={"L3": many.variants["L1"]}), "alice", SECRET),
    ]
    assert len({str(each.numbers.get("L1") or each.numbers.get("L3")) for each in draws}) == len(draws)


def test_each_choice_is_drawn_about_as_often() -> None:
    drawn = Counter(draw(LAB, f"student-{number}", SECRET).numbers["L1"]["a"] for number in range(7000))
    assert set(drawn) == {1, 2, 3, 4, 5, 6, 7}
    assert all(900 < count < 1100 for count in drawn.values())


def test_a_lab_is_graded_with_the_numbers_drawn_and_its_other_ones() -> None:
    mine = msgspec.structs.replace(ALICE, numbers={"L1": {"a": 3, "b": 20, "c": 200}})
    lab = applied(LAB, mine)
    assert lab.thresholds == {"L1": {"a": 3, "b": 20, "c": 200, "d": 1000}, "L3": {"a": 5}}
    assert changes(LAB, mine, "L1") == [
        "a = 3, where the lab's own is 1",
        "b = 20, where the lab's own is 10",
        "c = 200, where the lab's own is 100",
    ]
    assert changes(LAB, mine, "L3") == []
    assert changes(LAB, msgspec.structs.replace(mine, numbers={"L1": {"a": 1, "b": 10, "c": 100}}), "L1") == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lab": "02_x"}, "these numbers of 'alice' are for 02_x, not for 01_tiny; draw anew"),
        (
            {"numbers": {}},
            "the numbers of 'alice' are for the levels none, which 01_tiny does not offer; draw them anew",
        ),
        (
            {"numbers": {"L1": {"a": 0.5, "b": 10, "c": 100}}},
            "the numbers of 'alice' are a = 0.5, which 01_tiny does not offer; draw them anew",
        ),
        (
            {"numbers": {"L1": {"a": 1, "b": 10, "c": 300}}},
            "the numbers of 'alice' are b = 10, c = 300, which 01_tiny does not offer; draw them anew",
        ),
        (
            {"numbers": {"L1": {"a": 1, "b": 10}}},
            "the numbers of 'alice' are b = 10, no c, which 01_tiny does not offer; draw them anew",
        ),
        (
            {"numbers": {"L1": {"a": 1, "b": 10, "c": 100, "d": 1}}},
            "the numbers of 'alice' are d = 1, which 01_tiny does not offer; draw them anew",
        ),
    ],
)
def test_numbers_that_the_lab_does_not_offer_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(WrongVariant) as caught:
        applied(LAB, msgspec.structs.replace(ALICE, **change))
    assert str(caught.value) == said


def test_a_secret_comes_from_a_file_or_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("of a file, long enough\n")
    env = {"GPULAB_COURSE_SECRET": "of the environment"}
    assert secret_from(file, env) == b"of a file, long enough"
    assert secret_from(None, env) == b"of the environment"
    assert secret_from(None, {}) is None


def test_a_secret_that_is_none_is_refused_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hunter2\n")
    short = "has 7 bytes, where 16 are the fewest; make one with: openssl rand -hex 32"
    for given, env, said in (
        (file, {}, f"the course's secret in {file} {short}"),
        (None, {"GPULAB_COURSE_SECRET": "hunter2"}, f"the course's secret in GPULAB_COURSE_SECRET {short}"),
        (
            tmp_path / "none",
            {},
            f"the course's secret in {tmp_path}/none cannot be read (No such file or directory); name a file that "
            "holds it",
        ),
    ):
        with pytest.raises(WrongVariant) as caught:
            secret_from(given, env)
        assert str(caught.value) == said


def test_numbers_are_written_and_read_without_the_secret(tmp_path: Path) -> None:
    file = tmp_path / "alice.json"
    write(ALICE, file)
    assert read(file) == ALICE
    assert SECRET.decode() not in file.read_text()
    assert fingerprint(SECRET) != fingerprint(SECRET + b"!")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "{}",
            "FILE does not hold a student's numbers: Object missing required field `lab`; let `gpulab variant` write "
            "it",
        ),
        (
            '{"format": "v9", "lab": "x", "student": "y", "fingerprint": "", "numbers": {}}',
            "FILE has the format 'v9', this program reads 'gpulab/variant/v1'; draw anew",
        ),
    ],
)
def test_a_file_that_holds_no_numbers_is_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "alice.json"
    file.write_text(content)
    with pytest.raises(WrongVariant) as caught:
        read(file)
    assert str(caught.value).replace(str(file), "FILE") == said


def test_files_that_cannot_be_read_or_written_are_said(tmp_path: Path) -> None:
    with pytest.raises(WrongVariant) as caught:
        read(tmp_path / "none")
    assert str(caught.value) == (
        f"the numbers in {tmp_path}/none cannot be read (No such file or directory); name another file"
    )
    with pytest.raises(WrongVariant) as caught:
        write(ALICE, tmp_path / "none" / "file")
    assert str(caught.value) == (
        f"the numbers cannot be written to {tmp_path}/none/file (No such file or directory); name another file"
    )


@pytest.mark.parametrize("student", ["", " alice", "a\nb", "a\0b", "x" * 201])
def test_an_id_that_could_be_mistaken_is_refused(student: str) -> None:
    with pytest.raises(WrongVariant) as caught:
        checked_id(student)
    assert str(caught.value) == (
        f"{student!r} is no id of a student: it has to be printable, without a space at either end, and of at most 200 "
        "characters; give such a one"
    )
    assert checked_id("Zoë d'Arc-42@school.edu") == "Zoë d'Arc-42@school.edu"
