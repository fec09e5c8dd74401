"""Random streams by concern: the same from the same seed and name, unrelated for any other."""

from graders.seeds import source


def test_a_stream_is_the_same_on_every_machine() -> None:
    assert source(1, "arrivals").random() == 0.9441743842982467


def test_neighbouring_seeds_and_other_concerns_have_streams_of_their_own() -> None:
    first = {source(seed, concern).getrandbits(64) for seed in range(50) for concern in ("arrivals", "lengths")}
    assert len(first) == 100
