"""The catalogue of images and its recipes where they cannot be read, and a launch program that is not there."""

from pathlib import Path

import pytest

from clusters.api import MachineError, SpecError
from clusters.embedded import catalogue
from clusters.embedded.runtime.launch import Launcher


def test_a_catalogue_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        catalogue.listings(tmp_path)
    assert str(caught.value) == (
        f"the catalogue of images cannot be read: {tmp_path}/catalogue.toml: No such file or directory"
    )


def test_a_recipe_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server/recipe.toml").write_text("brew = 1\n")
    with pytest.raises(SpecError) as caught:
        catalogue.recipe(tmp_path, "server")
    assert str(caught.value) == (
        f"the catalogue of images is wrong: {tmp_path}/server/recipe.toml: Object contains unknown field `brew`"
    )


def test_a_launch_program_that_was_not_built_is_said(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught:
        Launcher(tmp_path / "launch")
    assert str(caught.value) == (
        f"{tmp_path}/launch cannot be read: No such file or directory; it is built with Kubernetes"
    )
