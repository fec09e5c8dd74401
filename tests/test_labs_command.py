"""`gpulab labs`: its words, its width, and that README.md's table of labs says the same."""

from pathlib import Path

import pytest

import gpulab
from commands import labs
from commands.places import LABS, ROOT
from graders.lab import CheckSpec, Lab, Needs, SubmissionRules, known_labs


def lab(name: str, title: str, minutes: int, needs: Needs) -> Lab:
    return Lab(
        name=name,
        folder=Path(name),
        title=title,
        summary="",
        minutes=minutes,
        submission=SubmissionRules(("values.yaml",)),
        checks=(CheckSpec("first", "The first", 100),),
        needs=needs,
    )


IMAGES = ("vllm/vllm-openai:v0.32.0", "pytorch/pytorch:2.8.0-cuda12.6-cudnn9-runtime")
LISTED = """\
01_small        A small lab
                1 minute; L1; needs 1 node
20_much_larger  A lab with a title that says more and more and more and more and
                more and more and more
                90 minutes; L1, L2, L3; needs 3 nodes, 4 GPUs,
                vllm/vllm-openai:v0.32.0,
                pytorch/pytorch:2.8.0-cuda12.6-cudnn9-runtime
30_one          One GPU
                45 minutes; L2, L3; needs 1 node, 1 GPU, busybox"""


def test_each_lab_is_told_with_what_it_needs_in_80_columns() -> None:
    found = [
        lab("01_small", "A small lab", 1, Needs(levels=("L1",))),
        lab("20_much_larger", f"A lab with a title that says {'more and ' * 6}more", 90, Needs(3, 4, IMAGES)),
        lab("30_one", "One GPU", 45, Needs(gpus=1, images=("busybox",), levels=("L2", "L3"))),
    ]
    assert labs.listed(found) == LISTED


def test_gpulab_lists_every_lab(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpulab.main(["labs"]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines() if not line.startswith(" ")] == list(known_labs(LABS))
    assert max(map(len, said.splitlines())) <= labs.WIDTH


def test_a_folder_without_labs_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(labs, "LABS", tmp_path)
    assert gpulab.main(["labs"]) == 1
    assert capsys.readouterr().out == f"{tmp_path} holds no lab.\n"


def test_a_lab_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "01_broken").mkdir()
    (tmp_path / "01_broken" / "lab.toml").write_text("title = 1\n")
    monkeypatch.setattr(labs, "LABS", tmp_path)
    assert gpulab.main(["labs"]) == 2
    assert capsys.readouterr().err == (
        f"gpulab: {tmp_path}/01_broken/lab.toml: Expected `str`, got `int` - at `$.title`; correct lab.toml\n"
    )


def test_the_readme_lists_the_same_labs() -> None:
    found = [Lab.load(LABS / name) for name in known_labs(LABS)]
    table = [
        "| lab | title | minutes | levels | needs |",
        "|---|---|---|---|---|",
        *(
            f"| [{each.name}](labs/{each.name}/README.md) | {each.title} | {each.minutes} | {labs.levels(each)} | "
            f"{labs.needs(each)} |"
            for each in found
        ),
    ]
    lines = (ROOT / "README.md").read_text().splitlines()
    begin = lines.index(table[0])
    shown = lines[begin : lines.index("", begin)]
    assert shown == table
