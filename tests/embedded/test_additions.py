"""Images that a user adds by a file of their own: what is read, and each thing that cannot be."""

from pathlib import Path

import msgspec
import pytest

from clusters.api import SpecError
from clusters.embedded import additions
from clusters.embedded.runtime import images
from clusters.embedded.runtime.images import Bind, Entry, Image

WHOLE = """\
[[images]]
references = ["docker.io/library/server:1.*", "server"]
root = "tree"
entrypoint = ["/server"]
command = ["--port=80"]
env = { MODE = "test" }
user = "www:staff"
working_dir = "/srv"

[images.binds]
"/data.json" = "data.json"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "data.json").write_text("{}")
    (tmp_path / "a,b").mkdir()
    return tmp_path


def file(folder: Path, text: str, name: str = "own.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_an_image_is_read_with_the_real_paths_of_its_files(folder: Path) -> None:
    (entry,) = additions.read([file(folder, WHOLE)])

    assert entry.references == ("server:1.*", "server:latest")
    assert entry.image
    assert entry.image.digest.startswith("sha256:")
    assert entry.image == Image(
        "server:1.",
        entry.image.digest,
        ("/server",),
        ("--port=80",),
        {"MODE": "test"},
        (Bind(f"{folder}/data.json", "/data.json"),),
        root=f"{folder}/tree",
        user="www:staff",
        working_dir="/srv",
    )
    assert additions.places([entry]) == [f"{folder}/tree", f"{folder}/data.json"]


def test_the_digest_changes_with_the_description(folder: Path) -> None:
    (before,) = additions.read([file(folder, WHOLE)])
    (after,) = additions.read([file(folder, WHOLE.replace("80", "81"))])

    assert before.image
    assert after.image
    assert before.image.digest != after.image.digest


def test_the_files_of_a_folder_are_taken_by_name(folder: Path) -> None:
    names = ["b.toml", "a.toml"]
    for name in names:
        file(folder, f'[[images]]\nreferences = ["{name[0]}"]\n', name)
    (folder / "notes.txt").touch()

    entries = additions.read(additions.in_folder(folder))

    assert [entry.references for entry in entries] == [("a:latest",), ("b:latest",)]
    assert additions.in_folder(folder / "none") == []


def test_references_that_no_added_image_answers_to_are_left(folder: Path) -> None:
    entries = additions.read([file(folder, WHOLE)])

    assert additions.others(["server:1.2", "index.docker.io/server", "server:2"], entries) == ["server:2"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[images]]\nreferences = []", 'it has no references; give it some, as in references = ["team/server:v1"]'),
        ('[[images]]\nreferences = ["x"]\nworking_dir = "srv"', "the container's path 'srv' does not start with /"),
        ('[[images]]\nreferences = ["x"]\nbinds = {"a" = "tree"}', "the container's path 'a' does not start with /"),
        (
            '[[images]]\nreferences = ["x"]\nuser = "a:b:c"',
            "the user 'a:b:c' is neither NAME, NUMBER, nor one of these with :GROUP",
        ),
        (
            '[[images]]\nreferences = ["x"]\nenv = {"A=B" = "c"}',
            "the variable 'A=B' has no name, or a = in it, or a NUL character",
        ),
        (
            '[[images]]\nreferences = ["x"]\nroot = "no"',
            "{0}/no is not there; name a folder below / that is there, absolute or relative to {0}",
        ),
        (
            '[[images]]\nreferences = ["x"]\nroot = "data.json"',
            "{0}/data.json is no folder; name a folder below / that is there, absolute or relative to {0}",
        ),
        (
            '[[images]]\nreferences = ["x"]\nroot = "/"',
            "/ is the whole machine; name a folder below / that is there, absolute or relative to {0}",
        ),
        (
            '[[images]]\nreferences = ["x"]\nbinds = {"/a" = "no"}',
            "{0}/no is not there; name a file or folder below / that is there, absolute or relative to {0}",
        ),
        (
            '[[images]]\nreferences = ["x"]\nroot = "a,b"',
            "the root folder {0}/a,b has a colon, a comma, a backslash or a line break in its path, which no overlay "
            "mount takes; move it",
        ),
    ],
)
def test_what_cannot_be_is_said(folder: Path, text: str, sentence: str) -> None:
    path = file(folder, text)

    with pytest.raises(SpecError) as refused:
        additions.read([path])

    name = "an image: " if "references = []" in text else "x: "
    assert str(refused.value) == f"the file of images {path} is wrong: {name}{sentence.format(folder)}"


def test_an_unknown_key_is_refused_by_name(folder: Path) -> None:
    path = file(folder, '[[images]]\nreferences = ["x"]\nrot = "tree"')

    with pytest.raises(SpecError) as refused:
        additions.read([path])

    assert str(refused.value) == (
        f"the file of images {path} is wrong: Object contains unknown field `rot` - at `$.images[0]`"
    )


def test_a_file_that_is_not_there_is_said(folder: Path) -> None:
    with pytest.raises(SpecError) as refused:
        additions.read([folder / "no.toml"])

    assert str(refused.value) == f"the file of images {folder}/no.toml cannot be read: No such file or directory"


def test_an_added_image_comes_before_one_of_the_catalogue(tmp_path: Path) -> None:
    lists = {}
    for name, digest in (("catalogue", "sha256:aa"), ("added", "sha256:bb")):
        lists[name] = tmp_path / f"{name}.json"
        lists[name].write_bytes(msgspec.json.encode([Entry(("busybox:*",), Image("busybox:latest", digest))]))

    known = images.load(lists["catalogue"], lists["added"])

    assert [image.digest for image in known.all()] == ["sha256:bb", "sha256:aa"]
    found = known.find("busybox")
    assert found
    assert found.digest == "sha256:bb"
