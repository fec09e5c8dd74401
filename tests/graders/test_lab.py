"""lab.toml and submissions: what is accepted, and the whole sentence for what is not."""

import errno
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from graders.errors import HarnessError, SubmissionError
from graders.lab import Lab, UnknownLab
from graders.submission import digest, parse_values, read_submission, submission_folder

LAB = """
title = "Serve a model"
summary = "A team's first endpoint is slow."
minutes = 45

[needs]
gpus = 1

[submission]
files = ["values.yaml"]
max_bytes = 100

[[checks]]
id = "streams"
title = "Streams are correct"
points = 30

[[checks]]
id = "throughput"
title = "Throughput"
points = 70
needs = ["streams"]
hints = { slow = ["Look at batching.", "Raise max-num-seqs."] }

[thresholds.L1]
ratio = 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "labs" / "03_vllm"
    (place / "starter").mkdir(parents=True)
    (place / "lab.toml").write_text(LAB)
    (place / "test_vllm.py").write_text("")
    (place / "starter" / "values.yaml").write_text("replicas: 1\n")
    return place


def message(folder: Path, old: str, new: str) -> str:
    (folder / "lab.toml").write_text(LAB.replace(old, new))
    with pytest.raises(HarnessError) as caught:
        Lab.load(folder)
    return str(caught.value).replace(str(folder), "LAB")


def test_a_lab_is_what_its_file_says(folder: Path) -> None:
    lab = Lab.load(folder)
    assert (lab.name, lab.folder, lab.minutes, lab.needs.nodes, lab.needs.gpus) == ("03_vllm", folder, 45, 1, 1)
    throughput = lab.check("throughput")
    assert throughput is not None
    assert throughput.needs == ("streams",)
    assert throughput.hints == {"slow": ("Look at batching.", "Raise max-num-seqs.")}
    assert lab.check("latency") is None
    assert lab.threshold("L1", "ratio") == 2.0
    assert lab.test_file == folder / "test_vllm.py"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("minutes = 45", 'minutes = "long"', "Expected `int`, got `str` - at `$.minutes`"),
        ("points = 30", "points = 30\npoint = 3", "Object contains unknown field `point` - at `$.checks[0]`"),
        ("minutes = 45", "minutes =", "Invalid value (at line 4, column 10)"),
        ("points = 30", "points = 20", "the points of the checks sum to 90, not 100"),
        ("points = 30", "points = 0", "the check 'streams' is worth 0 points, where 1 is the least"),
        ('id = "throughput"', 'id = "streams"', "the check 'streams' is listed twice"),
        (
            'id = "throughput"',
            'id = "Fast!"',
            "the check 'Fast!' needs an id of small letters, digits and underscores, which starts with a letter",
        ),
        ('needs = ["streams"]', 'needs = ["s"]', "the check 'throughput' needs 's', which is no check listed above it"),
        (
            'needs = ["streams"]',
            'needs = ["throughput"]',
            "the check 'throughput' needs 'throughput', which is no check listed above it",
        ),
        (
            '["Look at batching.", "Raise max-num-seqs."]',
            "[]",
            "the check 'throughput' has no text for the hint 'slow'",
        ),
        ('["values.yaml"]', "[]", "a submission has no files"),
        (
            '["values.yaml"]',
            '["../values.yaml"]',
            "the submission file '../values.yaml' is not a plain path inside the folder",
        ),
        ('["values.yaml"]', '["a", "a"]', "a submission file is listed twice"),
        ("max_bytes = 100", "max_bytes = 0", "a submission may have 0 bytes, where 1 is the least"),
    ],
)
def test_a_mistake_in_lab_toml_is_named(folder: Path, old: str, new: str, said: str) -> None:
    assert message(folder, old, new) == f"LAB/lab.toml: {said}; correct lab.toml"


VARIANTS = "[variants.L1]\nspeed = "


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        (
            "[variants.L3]\nspeed = [{ ratio = 2 }, { ratio = 3 }]",
            "the variants 'speed' at L3 give 'ratio', which [thresholds.L3] does not have",
        ),
        (VARIANTS + "[{ rate = 2 }]", "the variants 'speed' at L1 give 'rate', which [thresholds.L1] does not have"),
        (
            VARIANTS + "[{ ratio = 2 }, { ratio = 3 }]\nmore = [{ ratio = 2 }, { ratio = 3 }]",
            "the variants 'more' at L1 give 'ratio', which another group gives, too",
        ),
        (VARIANTS + "[{ ratio = 2 }, {}]", "the variants 'speed' at L1 do not all give the same thresholds"),
        (VARIANTS + "[]", "the variants 'speed' at L1 are not at least two that differ"),
        (VARIANTS + "[{ ratio = 2 }, { ratio = 2 }]", "the variants 'speed' at L1 are not at least two that differ"),
        (
            VARIANTS + "[{ ratio = 3 }, { ratio = 4 }]",
            "the variants 'speed' at L1 lack what [thresholds.L1] says itself",
        ),
    ],
)
def test_a_mistake_in_variants_is_named(folder: Path, variants: str, said: str) -> None:
    told = message(folder, "[thresholds.L1]", f"{variants}\n[thresholds.L1]")
    assert told == f"LAB/lab.toml: {said}; correct lab.toml"


def test_an_unknown_lab_lists_the_known_ones(folder: Path) -> None:
    with pytest.raises(UnknownLab) as caught:
        Lab.find(folder.parent, "99_nope")
    assert str(caught.value) == "there is no lab '99_nope'; the labs are: 03_vllm"
    assert Lab.find(folder.parent, "03_vllm").title == "Serve a model"


def test_no_labs_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnknownLab) as caught:
        Lab.find(tmp_path, "03_vllm")
    assert str(caught.value) == f"there is no lab '03_vllm'; the labs are: none, in {tmp_path}"


def test_a_folder_without_lab_toml_is_no_lab(folder: Path) -> None:
    with pytest.raises(UnknownLab) as caught:
        Lab.find(folder.parent, "03_vllm/starter")
    assert str(caught.value) == (
        f"{folder}/starter is not a lab: it holds no lab.toml; give the folder of a lab, such as labs/NN_name"
    )


def test_a_missing_threshold_says_which_there_are(folder: Path) -> None:
    with pytest.raises(HarnessError) as caught:
        Lab.load(folder).threshold("L1", "goodput")
    assert str(caught.value) == (
        "the lab 03_vllm asks for the threshold 'goodput' at level L1, where lab.toml has: ratio; "
        "add it to [thresholds.L1]"
    )
    with pytest.raises(HarnessError) as caught:
        Lab.load(folder).threshold("L3", "ratio")
    assert str(caught.value) == (
        "the lab 03_vllm asks for the threshold 'ratio' at level L3, where lab.toml has: none; "
        "add it to [thresholds.L3]"
    )


def test_a_lab_has_one_test_file(folder: Path) -> None:
    lab = Lab.load(folder)
    (folder / "test_more.py").write_text("")
    with pytest.raises(HarnessError) as caught:
        _ = lab.test_file
    assert str(caught.value) == (
        f"{folder} holds 2 files named test_*.py, test_more.py, test_vllm.py; keep exactly one"
    )
    (folder / "test_more.py").unlink()
    (folder / "test_vllm.py").unlink()
    with pytest.raises(HarnessError) as caught:
        _ = lab.test_file
    assert str(caught.value) == f"{folder} holds 0 files named test_*.py, so nothing to grade by; keep exactly one"


def test_the_named_folder_goes_before_work_and_work_before_the_starter(tmp_path: Path) -> None:
    work, labs = tmp_path / "work", tmp_path / "labs"
    named = tmp_path / "alice"
    assert submission_folder("03_vllm", explicit=None, work=work, labs=labs) == labs / "03_vllm" / "starter"
    (work / "03_vllm").mkdir(parents=True)
    assert submission_folder("03_vllm", explicit=None, work=work, labs=labs) == work / "03_vllm"
    assert submission_folder("03_vllm", explicit=named, work=work, labs=labs) == named


def test_a_submission_is_its_bytes_and_their_digest(folder: Path) -> None:
    submission = read_submission(folder / "starter", Lab.load(folder))
    assert submission.files == {"values.yaml": b"replicas: 1\n"}
    assert submission.values() == {"replicas": 1}
    assert submission.digest == hashlib.sha256(b"values.yaml\x0012\0replicas: 1\n").hexdigest()


def test_the_digest_tells_names_and_borders_apart() -> None:
    digests = {digest(files) for files in ({"a": b"xy"}, {"b": b"xy"}, {"a": b"x", "b": b"y"}, {"a": b"", "b": b"xy"})}
    assert len(digests) == 4
    assert digest({"a": b"1", "b": b"2"}) == digest({"b": b"2", "a": b"1"})


def refusal(place: Path, folder: Path, read: Callable[[int, int], bytes] = os.read) -> str:
    with pytest.raises(SubmissionError) as caught:
        read_submission(place, Lab.load(folder), read=read)
    return str(caught.value)


def test_a_missing_folder_is_refused(folder: Path) -> None:
    place = folder / "nowhere"
    assert refusal(place, folder) == (
        f"the submission {place} is not there; `gpulab start 03_vllm` makes one to begin with"
    )
    place.write_text("")
    assert refusal(place, folder) == (
        f"the submission {place} is not a folder; `gpulab start 03_vllm` makes one to begin with"
    )


def test_a_missing_file_is_refused(folder: Path) -> None:
    place = folder / "starter"
    (place / "values.yaml").unlink()
    assert refusal(place, folder) == f"values.yaml is missing in {place}; the starter of the lab has one"


@pytest.mark.parametrize("name", ["conftest.py", "pytest.ini", ".pth", "src/values.yaml"])
def test_a_file_outside_the_allow_list_is_refused(folder: Path, name: str) -> None:
    place = folder / "starter"
    (place / name).parent.mkdir(exist_ok=True)
    (place / name).write_text("")
    assert refusal(place, folder) == (
        f"{name.split('/')[0]} in {place} is no part of a submission for 03_vllm, which is: values.yaml; "
        "move it elsewhere"
    )


def test_a_file_in_an_allowed_folder_is_read(folder: Path) -> None:
    (folder / "lab.toml").write_text(LAB.replace('["values.yaml"]', '["values.yaml", "src/train.py"]'))
    (folder / "starter" / "src").mkdir()
    (folder / "starter" / "src" / "train.py").write_text("print()")
    submission = read_submission(folder / "starter", Lab.load(folder))
    assert submission.text("src/train.py") == "print()"


def test_a_link_is_refused_wherever_it_leads(folder: Path) -> None:
    place = folder / "starter"
    (place / "values.yaml").rename(folder / "real.yaml")
    (place / "values.yaml").symlink_to(folder / "real.yaml")
    assert refusal(place, folder) == f"values.yaml in {place} is a link; put the file itself there"
    (folder / "alice").symlink_to(place)
    assert refusal(folder / "alice", folder) == f"the submission {folder}/alice is a link; give the folder itself"


def test_what_is_no_regular_file_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder / "starter"
    said = f"values.yaml in {place} is not a regular file; put a plain file there"
    (place / "values.yaml").unlink()
    os.mkfifo(place / "values.yaml")
    assert refusal(place, folder) == said
    (place / "values.yaml").unlink()
    monkeypatch.chdir(place)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("values.yaml")
        assert refusal(place, folder) == said


def test_a_folder_in_the_place_of_a_file_is_refused(folder: Path) -> None:
    place = folder / "starter"
    (place / "values.yaml").unlink()
    (place / "values.yaml").mkdir()
    assert refusal(place, folder) == f"values.yaml in {place} is not a regular file; put a plain file there"


def test_too_large_is_refused_before_it_is_read_whole(folder: Path) -> None:
    place = folder / "starter"
    (place / "values.yaml").write_bytes(b"x" * 100)
    assert read_submission(place, Lab.load(folder)).files["values.yaml"] == b"x" * 100
    with (place / "values.yaml").open("wb") as file:
        file.truncate(1 << 40)
    assert refusal(place, folder) == (
        f"the submission {place} is larger than the 100 bytes allowed, seen while reading values.yaml; make it smaller"
    )


def test_what_cannot_be_read_is_refused(folder: Path) -> None:
    def broken_disk(handle: int, size: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    place = folder / "starter"
    assert refusal(place, folder, read=broken_disk) == (
        f"values.yaml in {place} cannot be read (Input/output error); give yourself the right to"
    )


def test_a_folder_that_may_be_listed_and_not_entered_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As unzip makes one of a folder with mode 0444; root may enter any."""
    place = folder / "starter"
    lstat = Path.lstat

    def denied(path: Path) -> os.stat_result:
        if path.name == "values.yaml":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", denied)
    assert refusal(place, folder) == (
        f"{place}/values.yaml cannot be read (Permission denied); give yourself the right to"
    )


def test_text_that_is_not_utf8_is_refused(folder: Path) -> None:
    place = folder / "starter"
    (place / "values.yaml").write_bytes(b"name: caf\xe9\n")
    assert refusal(place, folder) == f"values.yaml in {place} is not UTF-8 text (byte 9); save it as UTF-8"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a: b: c\n",
            "values.yaml is not plain YAML at line 1, column 5: mapping values are not allowed here; correct it there",
        ),
        (
            "a: 1\nb: [1,\n",
            "values.yaml is not plain YAML at line 3, column 1: expected the node content, but found '<stream end>'; "
            "correct it there",
        ),
        (
            "a: !!python/object/apply:os.system [id]\n",
            "values.yaml is not plain YAML at line 1, column 4: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system'; correct it there",
        ),
        (
            "- a\n- b\n",
            "values.yaml holds a list at line 1, column 1, where chart values are a mapping; write `key: value` lines",
        ),
        (
            "a: \x00\n",
            "values.yaml is not YAML: unacceptable character #x0000: special characters are not allowed in "
            '"<unicode string>", position 3; correct it',
        ),
        (
            "a: &a [1]\nb: [*a, *a]\n",
            "values.yaml is not plain YAML at line 2, column 5: an alias, where the value is to be written out; "
            "correct it there",
        ),
        (
            "replicas: 1\nport: 80\nreplicas: 2\n",
            "values.yaml is not plain YAML at line 3, column 1: the key 'replicas' a second time; correct it there",
        ),
        (
            "? [1]\n: 2\n",
            "values.yaml is not plain YAML at line 1, column 3: found unhashable key; correct it there",
        ),
        ("a: 2024-13-45\n", "values.yaml is not YAML that can be read: month must be in 1..12; correct it"),
        ("a: [{b: 2024-05-01}]\n", "values.yaml holds a date at a[0].b, which no chart value can be; put it in quotes"),
        ("a: {b: .nan}\n", "values.yaml holds nan at a.b, which no chart value can be; put it in quotes"),
        (
            "2024-05-01: 1\n",
            "values.yaml holds a date at the key 2024-05-01, which no chart value can be; put it in quotes",
        ),
        (
            "a: 0x10000000000000000\n",
            "values.yaml holds a whole number of more than 64 bits at a, which no chart value can be; put it in quotes",
        ),
        ("[" * 600, "values.yaml is not YAML that can be read: it is nested too deeply; correct it"),
    ],
)
def test_values_that_are_no_mapping_are_refused_with_the_place(text: str, said: str) -> None:
    with pytest.raises(SubmissionError) as caught:
        parse_values(text, "values.yaml")
    assert str(caught.value) == said


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert parse_values("# nothing\n", "values.yaml") == {}
