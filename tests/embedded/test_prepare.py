"""Preparing images, with a uv that installs nothing: what is kept, made again, shared, refused and cleaned up."""

import fcntl
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from clusters.api import MachineError, SpecError
from clusters.embedded import catalogue
from clusters.embedded.prepare import Machine, prepare
from clusters.embedded.runtime.images import Bind, Image, load
from tests.patience import PATIENCE

CATALOGUE = """\
[[images]]
references = ["python:3*"]
command = ["python3"]
python = true

[[images]]
references = ["team/server:v1"]
recipe = "server"
"""
RECIPE = """\
entrypoint = ["serve"]

[env]
PATH = "{folder}/env/bin:/usr/bin"

[binds]
"/models" = "models"

[variants.cpu]
lock = "cpu.txt"
gigabytes = 2

[variants.gpu]
lock = "gpu.txt"
gigabytes = 3

[[steps]]
says = "drawing the model"
script = "draw.py"
arguments = ["{folder}/models"]
prints = "digest"
"""
DRAW = "import pathlib, sys\npathlib.Path(sys.argv[1]).mkdir()\nprint('digest')\n"
UV = """\
#!/bin/sh
set -e
case "$1 $2" in
"venv --python") mkdir -p "$4/bin" && ln -s "$3" "$4/bin/python" ;;
"pip install") echo "$*" >> "{record}"; echo packages > "$(dirname "$(dirname "$4")")/packages" ;;
esac
{more}
"""
Fake = Callable[..., Machine]


@dataclass
class Heard:
    """Keeps what progress was told; `then` acts on a line."""

    lines: list[str] = field(default_factory=list)
    then: Callable[[str], None] = lambda line: None

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self.then(line)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "server").mkdir(parents=True)
    (folder / "catalogue.toml").write_text(CATALOGUE)
    files = {"recipe.toml": RECIPE, "draw.py": DRAW, "cpu.txt": "a==1", "gpu.txt": "b==1"}
    for name, text in files.items():
        (folder / "server" / name).write_text(text)
    return folder


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    def make(more: str = "", gpus: int = 0, free: float = 100e9, system_python: bool = True) -> Machine:
        uv = tmp_path / "uv"
        uv.write_text(UV.replace("{record}", str(tmp_path / "installs")).replace("{more}", more))
        uv.chmod(0o755)
        here = Path(sys.executable) if system_python else tmp_path / "none"
        return Machine(
            uv=lambda env: str(uv), gpus=lambda: gpus, free_bytes=lambda folder: int(free), system_pythons=(here,)
        )

    return make


@dataclass
class Bench:
    """The folders of one test, and preparation with them."""

    cache: Path
    sources: Path

    def prepare(self, *references: str, machine: Machine, heard: Heard | None = None, **env: str) -> Path:
        everything = {**os.environ, **env}
        return prepare(references, self.cache, everything, heard or Heard(), sources=self.sources, machine=machine)

    @property
    def folders(self) -> list[Path]:
        return [path for path in (self.cache / "images").glob("server-*") if path.is_dir()]


@pytest.fixture
def bench(tmp_path: Path, sources: Path) -> Bench:
    return Bench(tmp_path / "cache", sources)


def installs(bench: Bench) -> list[str]:
    record = bench.cache.with_name("installs")
    return record.read_text().splitlines() if record.exists() else []


def test_a_prepared_image_is_in_the_list_with_all_that_its_containers_need(bench: Bench, fake: Fake) -> None:
    listed = bench.prepare("team/server:v1", machine=fake())

    (folder,) = bench.folders
    digest = catalogue.digest(
        bench.sources / "server", "cpu", os.uname().machine, ".".join(map(str, sys.version_info[:2]))
    )
    image = load(listed).find("docker.io/team/server:v1")
    assert image
    assert (image.digest, image.entrypoint) == (f"sha256:{digest}", ("serve",))
    assert image.env == {"PATH": f"{folder}/env/bin:/usr/bin"}
    assert image.binds[:2] == (Bind(str(folder), str(folder)), Bind(f"{folder}/models", "/models"))
    assert image.size >= len("packages\n")
    assert installs(bench) == [
        f"pip install --python {folder}/env/bin/python --require-hashes --no-deps --only-binary :all: "
        f"--compile-bytecode --requirements {bench.sources}/server/cpu.txt"
    ]


def test_progress_names_the_image_and_what_is_being_done(bench: Bench, fake: Fake) -> None:
    heard = Heard()

    bench.prepare("team/server:v1", machine=fake(), heard=heard)

    assert heard.lines == [
        "preparing team/server:v1: making its environment, begun",
        "preparing team/server:v1: installing its packages, begun",
        "preparing team/server:v1: drawing the model, begun",
        "preparing team/server:v1: measuring it",
    ]


def test_images_that_nobody_asks_for_are_not_made(bench: Bench, fake: Fake) -> None:
    known = load(bench.prepare("python:3.12", machine=fake()))

    assert installs(bench) == []
    assert [image.reference for image in known.all()] == ["python:3"]


def test_a_machine_with_a_gpu_gets_the_packages_for_it(bench: Bench, fake: Fake) -> None:
    bench.prepare("team/server:v1", machine=fake(gpus=1))

    assert installs(bench)[0].endswith("/server/gpu.txt")


def test_a_person_may_choose_the_build(bench: Bench, fake: Fake) -> None:
    bench.prepare("team/server:v1", machine=fake(gpus=1), GPULAB_VARIANT="cpu")

    assert installs(bench)[0].endswith("/server/cpu.txt")
    with pytest.raises(SpecError) as caught:
        bench.prepare("team/server:v1", machine=fake(), GPULAB_VARIANT="tpu")
    assert str(caught.value) == ("GPULAB_VARIANT is 'tpu'; name cpu or gpu, or unset it to have the machine decide")


def test_a_python_outside_the_system_is_bound_into_the_python_image(bench: Bench, fake: Fake) -> None:
    image = load(bench.prepare(machine=fake(system_python=False))).find("python:3.12")

    assert image
    assert image.binds == (Bind(str(Path(sys.base_prefix).resolve()), sys.base_prefix),)
    assert image.env["PATH"].startswith(f"{sys.base_prefix}/bin:")


def test_what_is_there_is_used_and_nothing_is_written(bench: Bench, fake: Fake) -> None:
    first = bench.prepare("team/server:v1", machine=fake())
    times = {path: path.stat().st_mtime_ns for path in bench.cache.rglob("*")}

    second = bench.prepare("team/server:v1", machine=fake(more="exit 1"))

    assert second == first
    assert {path: path.stat().st_mtime_ns for path in bench.cache.rglob("*")} == times


def test_a_changed_recipe_makes_another_environment(bench: Bench, fake: Fake) -> None:
    first = bench.prepare("team/server:v1", machine=fake())
    (bench.sources / "server" / "cpu.txt").write_text("a==2")

    second = bench.prepare("team/server:v1", machine=fake())

    assert len(bench.folders) == 2
    assert first != second


def test_a_folder_without_its_marker_is_made_again(bench: Bench, fake: Fake) -> None:
    bench.prepare("team/server:v1", machine=fake())
    (folder,) = bench.folders
    (folder / "complete.json").unlink()
    (folder / "half").touch()

    bench.prepare("team/server:v1", machine=fake())

    assert len(installs(bench)) == 2
    assert not (folder / "half").exists()


def test_an_environment_whose_interpreter_has_gone_is_made_again(bench: Bench, fake: Fake) -> None:
    bench.prepare("team/server:v1", machine=fake())
    (folder,) = bench.folders
    (folder / "env" / "bin" / "python").unlink()

    bench.prepare("team/server:v1", machine=fake())

    assert len(installs(bench)) == 2


def test_a_cache_that_was_copied_elsewhere_is_made_again(bench: Bench, fake: Fake) -> None:
    bench.prepare("team/server:v1", machine=fake())
    (folder,) = bench.folders
    moved = msgspec.structs.replace(
        msgspec.json.decode((folder / "complete.json").read_bytes(), type=Image), binds=(Bind("/old", "/old"),)
    )
    (folder / "complete.json").write_bytes(msgspec.json.encode(moved))

    bench.prepare("team/server:v1", machine=fake())

    assert len(installs(bench)) == 2


def test_an_interruption_leaves_nothing_behind(bench: Bench, fake: Fake) -> None:
    def interrupt(line: str) -> None:
        if "drawing" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.prepare("team/server:v1", machine=fake(), heard=Heard(then=interrupt))

    assert bench.folders == []


def test_two_starts_at_once_make_it_once(bench: Bench, fake: Fake) -> None:
    bench.prepare("team/server:v1", machine=fake())
    (folder,) = bench.folders
    (folder / "complete.json").rename(bench.cache / "kept")
    machine, waiting = fake(), threading.Event()
    heard = Heard(then=lambda line: waiting.set())
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other = threading.Thread(target=lambda: bench.prepare("team/server:v1", machine=machine, heard=heard))
        other.start()
        assert waiting.wait(PATIENCE)
        (bench.cache / "kept").rename(folder / "complete.json")
    other.join(PATIENCE)

    assert not other.is_alive()
    assert set(heard.lines) == {"preparing team/server:v1: waiting for another gpulab that prepares it, 0 s"}
    assert len(installs(bench)) == 1


def test_an_unknown_image_is_refused_with_those_there_are(bench: Bench, fake: Fake) -> None:
    with pytest.raises(SpecError) as refused:
        bench.prepare("nginx", machine=fake())

    assert str(refused.value) == (
        "asked for the image 'nginx', which the embedded cluster has no recipe for; it has: python:3*, team/server:v1. "
        "Use one of these, or add a recipe to clusters/embedded/images/"
    )


def test_too_little_space_is_said_before_anything_is_made(bench: Bench, fake: Fake) -> None:
    with pytest.raises(MachineError) as refused:
        bench.prepare("team/server:v1", machine=fake(free=1.5e9))

    assert str(refused.value) == (
        f"the image team/server:v1 needs 2.0 GB in {bench.cache}/images, where 1.5 GB are free; free some space there, "
        "or let GPULAB_CACHE name a folder on a larger disk"
    )
    assert bench.folders == []


def test_no_space_left_half_way_is_said_as_such(bench: Bench, fake: Fake) -> None:
    machine = fake(more='test "$1" = venv || { echo "No space left on device (os error 28)"; exit 2; }')

    with pytest.raises(MachineError) as failed:
        bench.prepare("team/server:v1", machine=machine)

    assert str(failed.value) == (
        "no space was left on the disk while installing its packages for the image team/server:v1, which needs 2.0 GB "
        f"in {bench.cache}/images (now free: 100.0 GB) and as much for uv's own cache where that is on another disk; "
        "free some space, or let GPULAB_CACHE and UV_CACHE_DIR name folders on a larger disk. It said: "
        "No space left on device (os error 28)"
    )
    assert bench.folders == []


def test_a_failed_installation_is_said_with_its_words(bench: Bench, fake: Fake) -> None:
    machine = fake(more='test "$1" = venv || { echo "no such package: a"; exit 1; }')

    with pytest.raises(MachineError) as failed:
        bench.prepare("team/server:v1", machine=machine)

    assert str(failed.value) == (
        "the image team/server:v1 could not be prepared: installing its packages failed: no such package: a\n"
        "It needs a package index that uv can reach; run the command again, what uv has fetched is kept"
    )
    assert bench.folders == []


def test_a_step_that_gives_something_else_than_expected_fails(bench: Bench, fake: Fake) -> None:
    (bench.sources / "server" / "draw.py").write_text(DRAW.replace("print('digest')", "print('other')"))

    with pytest.raises(MachineError) as failed:
        bench.prepare("team/server:v1", machine=fake())

    assert str(failed.value) == (
        "the image team/server:v1 could not be prepared: drawing the model gave 'other' where 'digest' was expected, "
        "so it is not what other machines have; tell its maintainers"
    )
    assert bench.folders == []


def test_a_cache_that_is_no_folder_is_said(bench: Bench, fake: Fake) -> None:
    bench.cache.write_text("")

    with pytest.raises(MachineError) as failed:
        bench.prepare("team/server:v1", machine=fake())

    assert str(failed.value) == (
        f"the images could not be prepared in {bench.cache}/images: Not a directory; mend that, or let GPULAB_CACHE "
        "name another"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_for_reading_that_lacks_an_image_is_said(bench: Bench, fake: Fake) -> None:
    bench.cache.mkdir(mode=0o500)

    with pytest.raises(MachineError) as failed:
        bench.prepare("team/server:v1", machine=fake())

    assert str(failed.value) == (
        f"an image has to be prepared, but {bench.cache}/images cannot be written (Permission denied); have whoever "
        "owns that cache prepare it, or let GPULAB_CACHE name a folder of your own"
    )


def test_the_recipes_of_this_project_are_whole() -> None:
    listings = catalogue.listings()
    recipes = {one.recipe: catalogue.recipe(catalogue.FOLDER, one.recipe) for one in listings if one.recipe}

    assert [one.references[-1] for one in listings] == [
        "python:latest",
        "busybox:*",
        "vllm/vllm-openai:v0.32.0",
        "pytorch/pytorch:2.13.0-*",
    ]
    for name, recipe in recipes.items():
        files = [variant.lock for variant in recipe.variants.values()] + [step.script for step in recipe.steps]
        assert [file for file in files if not (catalogue.FOLDER / name / file).is_file()] == []


def test_locks_name_no_address() -> None:
    texts = {path: path.read_text() for path in catalogue.FOLDER.glob("*/*.txt")}

    assert len(texts) == 4
    assert [path for path, text in texts.items() if "://" in text or "--index" in text] == []


def test_the_torch_of_pytorchs_image_is_the_engines_too_so_that_uv_keeps_it_once() -> None:
    for name in ("pytorch/packages.txt", "vllm-openai/cpu.txt"):
        assert "\ntorch==2.13.0 \\\n" in (catalogue.FOLDER / name).read_text()


def test_both_locks_agree_on_what_the_tokenizer_is_made_from() -> None:
    texts = [(catalogue.FOLDER / "vllm-openai" / name).read_text() for name in ("cpu.txt", "gpu.txt")]
    pinned = [
        {line for line in text.splitlines() if line.startswith(("transformers==", "tokenizers=="))} for text in texts
    ]

    assert len(pinned[0]) == 2
    assert pinned[0] == pinned[1]
