"""Cases as edits of the reference: what they come to, and what is told of those that do not fit it."""

from pathlib import Path

import pytest

from graders.gates.edits import Edit, edited
from tests.gates.small_lab import CHEATS, FAULTS, NAME, SmallLab

REFERENCE = f"tests/solutions/{NAME}/values.yaml"
NINE = '{ file = "values.yaml", old = "replicaCount: 2", new = "replicaCount: 9" }'
LONG = "readiness: {path: /a/very/long/one/that/nobody/would/ever/write/here}"


def edit(old: str, new: str, file: str = "values.yaml") -> str:
    return f'{{ file = "{file}", old = "{old}", new = "{new}" }}'


def files_of(small: SmallLab, name: str) -> dict[str, str]:
    return {file: content.decode() for file, content in small.proof.case(name).files().items()}


def test_edits_of_two_files_come_to_both() -> None:
    files = {"a": b"one two three\n", "b": "é two\n".encode(), "c": b"\xff"}

    assert edited(files, [Edit("a", "three", "3"), Edit("b", "two", "é"), Edit("a", "one ", "")]) == {
        "a": b"two 3\n",
        "b": "é é\n".encode(),
        "c": b"\xff",
    }


def test_what_an_edit_puts_in_is_not_edited_again() -> None:
    assert edited({"a": b"1 2"}, [Edit("a", "1", "2"), Edit("a", "2", "1")]) == {"a": b"2 1"}


def test_edits_that_touch_each_other_fit(small: SmallLab) -> None:
    small.change(FAULTS, NINE, f"{edit('replicaCount:', 'replicaCount: ')}, {edit(' 2', '9')}")

    assert small.mistakes() == {}
    assert files_of(small, "too_many_replicas") == {"values.yaml": "replicaCount: 9\n"}


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        (
            edit("replicas: 2", "replicas: 9"),
            f"edits values.yaml where it says 'replicas: 2', which is found 0 times in {REFERENCE}; copy it from there "
            "as it is",
        ),
        (
            edit("replica", "Replica"),
            f"edits values.yaml where it says 'replica', which is found 2 times in {REFERENCE}; take in more of what "
            "is around it, to be found once",
        ),
        (
            edit(LONG, ""),
            f"edits values.yaml where it says {LONG[:57]!r}..., which is found 0 times in {REFERENCE}; copy it from "
            "there as it is",
        ),
        (
            edit("2", "9", file="values.yml"),
            f"edits values.yml, and the files of tests/solutions/{NAME} are: values.yaml; name one of them",
        ),
        (
            f"{edit('Count: 2', 'Count: 9')}, {edit('replicaCount', 'replicas')}",
            "edits values.yaml where it says 'replicaCount' and 'Count: 2', which overlap; make one edit of them",
        ),
    ],
)
def test_edits_that_do_not_fit_are_told(small: SmallLab, edits: str, said: str) -> None:
    (small.solution / "values.yaml").write_text("# One replica is too few.\nreplicaCount: 2\n")
    small.change(FAULTS, NINE, edits)

    assert small.mistakes() == {
        "proof": (
            f"the fault too_many_replicas {said}",
            "no fault fails the check 'resources_within_budget', so nothing proves that it can fail; plant one that it "
            "must name",
        )
    }


def test_a_file_is_edited_or_in_the_folder(small: SmallLab) -> None:
    small.change(CHEATS, "[another_server]", f"[another_server]\nedits = [{NINE}]")

    assert small.mistakes() == {
        "proof": (
            "the cheat another_server edits values.yaml, and its folder has a values.yaml of its own; keep one of them",
        )
    }


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('{ file = "values.yaml", old = "", new = "a" }', "Expected `str` of length >= 1 - at `$.edits[0].old`"),
        ('{ file = "values.yaml", old = "a" }', "Object missing required field `new` - at `$.edits[0]`"),
        (
            '{ file = "values.yaml", old = "a", new = "b", count = 2 }',
            "Object contains unknown field `count` - at `$.edits[0]`",
        ),
    ],
)
def test_an_edit_that_is_none_is_told(small: SmallLab, table: str, said: str) -> None:
    small.change(FAULTS, NINE, table)

    assert small.mistakes()["proof"][0] == (f"the table [too_many_replicas] in {FAULTS} is wrong: {said}; correct it")


class TwoFiles(SmallLab):
    """A lab whose submission has a program as well."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.change(f"labs/{NAME}/lab.toml", 'files = ["values.yaml"]', 'files = ["values.yaml", "serve.py"]')
        for folder in (self.folder / "starter", self.solution):
            (folder / "serve.py").write_text(f'print("{folder.name}")\n')


def test_what_a_folder_lacks_is_the_references(tmp_path: Path) -> None:
    small = TwoFiles(tmp_path)

    assert small.mistakes() == {}
    assert files_of(small, "another_server") == {
        "serve.py": f'print("{NAME}")\n',
        "values.yaml": (small.cheats / "another_server/values.yaml").read_text(),
    }


def test_a_folder_may_have_some_files_and_edits_the_others(tmp_path: Path) -> None:
    small = TwoFiles(tmp_path)
    small.change(CHEATS, "[another_server]", f"[another_server]\nedits = [{edit(NAME, 'mine', file='serve.py')}]")

    assert small.mistakes() == {}
    assert files_of(small, "another_server")["serve.py"] == 'print("mine")\n'


def test_a_folder_with_all_files_is_graded_as_it_is(small: SmallLab, tmp_path: Path) -> None:
    place = tmp_path / "place"
    names = ("reference", "starter", "another_server", "too_many_replicas")
    found = [small.proof.case(name).submission(place) for name in names]

    assert found == [small.solution, small.folder / "starter", small.cheats / "another_server", place]
    assert (place / "values.yaml").read_text() == "replicaCount: 9\n"


def test_a_stranger_is_told_where_it_is(tmp_path: Path) -> None:
    small = TwoFiles(tmp_path)
    (small.faults / "too_many_replicas").mkdir()
    (small.faults / "too_many_replicas/notes.txt").write_text("mine\n")

    assert small.mistakes() == {
        "submissions": (
            f"the fault too_many_replicas cannot be graded: notes.txt in tests/faults/{NAME}/too_many_replicas is no "
            f"part of a submission for {NAME}, which is: values.yaml, serve.py; move it elsewhere",
        )
    }
