"""What a learner's program may hold, hand in and print that no program should: it is graded as any other."""

import warnings

import msgspec
import numpy as np
import pytest

from ddp_lab import replay
from ddp_lab.bench import SEEDS
from ddp_lab.runs import proof
from ddp_lab.start import budget
from ddp_lab.trainers import Trainers
from tests.graders.api_server import serving

PODS = "/api/v1/namespaces/ns/pods"
LISTED = b"""{"items": [{"metadata": {"name": "race-0", "uid": "u"}, "status": {},
"spec": {"containers": [{"name": "trainer", "resources": {}}]}}]}"""


def test_an_escape_that_python_warns_of_is_python() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert budget({}, {"workers": 1, "threads": 1}, 'print("\\d")\n').foreign == ()


def test_the_end_of_a_log_is_told_whatever_bytes_it_has() -> None:
    with serving() as api:
        api.answers = {PODS: (200, LISTED), f"{PODS}/race-0/log": (200, b"one\xff\nValueError: \xc3\xa4\n")}
        with api.client() as client:
            said = Trainers(client, "ns").last_words("race")
    assert said == "; the log of race-0 ends:\none\N{REPLACEMENT CHARACTER}\nValueError: ä"


@pytest.mark.parametrize("size", [1e300, 1e155, -1.7e308])
def test_weights_beyond_all_bounds_are_far_off_and_no_error(size: float) -> None:
    spec = proof(SEEDS)
    plain = msgspec.structs.replace(spec, job=msgspec.structs.replace(spec.job, momentum=0.0))
    true = replay.problem(spec).weights
    given = np.full(sum(each.size for each in true), size, "<f8").tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not replay.error(spec, given, true) <= 1.0
        assert not replay.strayed(plain, np.zeros(len(given) // 8).tobytes(), [range(spec.job.batch)], given) <= 1.0
        assert not replay.strayed(plain, given, [range(spec.job.batch)], given) <= 1e-9
