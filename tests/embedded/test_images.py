"""Image references, and the list of images that a running cluster reads again."""

from pathlib import Path

import msgspec
import pytest

from clusters.api import SpecError
from clusters.embedded.runtime import images
from clusters.embedded.runtime.images import Bind, Entry, Image

PYTHON = Image("python:3", "sha256:aa", command=("python3",))
VLLM = Image("vllm/vllm-openai:v1", "sha256:bb", ("vllm", "serve"), binds=(Bind("/cache/models", "/models"),), size=7)
ENTRIES = (
    Entry(("python:3*", "python:latest"), PYTHON),
    Entry(("busybox:*",), Image("busybox:latest", "sha256:cc", command=("sh",))),
    Entry(("vllm/vllm-openai:v1",)),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "list.json", ENTRIES)


def write(file: Path, entries: tuple[Entry, ...]) -> Path:
    partial = file.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(entries))
    return partial.replace(file)


@pytest.mark.parametrize(
    ("asked", "named", "digest"),
    [
        ("python:3.12", "python:3.12", "sha256:aa"),
        ("docker.io/library/python:3.12-slim", "python:3.12-slim", "sha256:aa"),
        ("index.docker.io/python", "python:latest", "sha256:aa"),
        ("busybox", "busybox:latest", "sha256:cc"),
        ("library/busybox:1.36", "busybox:1.36", "sha256:cc"),
        ("sha256:aa", "python:3", "sha256:aa"),
        ("docker.io/library/python@sha256:aa", "python:3", "sha256:aa"),
    ],
)
def test_a_reference_finds_its_image_under_the_name_asked_for(file: Path, asked: str, named: str, digest: str) -> None:
    found = images.load(file).find(asked)

    assert found
    assert (found.reference, found.digest) == (named, digest)


@pytest.mark.parametrize(
    "asked", ["python:2.7", "someone/python:3", "registry.example:5000/busybox", "vllm/vllm-openai:v1"]
)
def test_other_references_find_nothing(file: Path, asked: str) -> None:
    assert images.load(file).find(asked) is None


def test_an_unknown_image_is_refused_with_what_there_is(file: Path) -> None:
    assert images.load(file).missing("nginx:1.29") == (
        "there is no image 'nginx:1.29' on this node; the embedded cluster downloads none, its images are environments "
        "of this machine: python:3*, python:latest, busybox:*, vllm/vllm-openai:v1. Use one of these, or a cluster "
        "with a container runtime"
    )


def test_an_image_that_is_not_prepared_yet_is_refused_with_how_to_prepare_it(file: Path) -> None:
    assert images.load(file).missing("vllm/vllm-openai:v1") == (
        "there is no image 'vllm/vllm-openai:v1' on this node yet; it has to be prepared, which starting a cluster for "
        "a lab that needs it does, as in `gpulab up --lab LAB`"
    )


def test_a_list_that_was_replaced_is_read_again(file: Path) -> None:
    known = images.load(file)
    before = [image.reference for image in known.all()]

    write(file, (*ENTRIES[:2], Entry(ENTRIES[2].references, VLLM)))

    assert before == ["python:3", "busybox:latest"]
    assert known.find("vllm/vllm-openai:v1") == VLLM


def test_a_list_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as refused:
        images.load(tmp_path / "list.json")

    assert str(refused.value) == f"the list of images {tmp_path}/list.json cannot be read: No such file or directory"


def test_a_list_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text('[{"references": 1}]')

    with pytest.raises(SpecError) as refused:
        images.load(tmp_path / "list.json")

    assert str(refused.value) == (
        f"{tmp_path}/list.json is no list of images: Expected `array`, got `int` - at `$[0].references`"
    )
