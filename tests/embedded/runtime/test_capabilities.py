"""Which capabilities a container holds."""

import pytest

from clusters.embedded.runtime.capabilities import ALL, DEFAULT, granted


@pytest.mark.parametrize(
    ("uid", "add", "drop", "expected"),
    [
        (0, [], [], set(DEFAULT)),
        (0, [], ["ALL"], set()),
        (0, ["NET_BIND_SERVICE"], ["ALL"], {"CAP_NET_BIND_SERVICE"}),
        (0, ["CAP_SYS_TIME"], ["net_raw"], set(DEFAULT) - {"CAP_NET_RAW"} | {"CAP_SYS_TIME"}),
        (0, ["ALL"], ["SYS_ADMIN"], set(ALL) - {"CAP_SYS_ADMIN"}),
        (1000, ["NET_ADMIN"], [], set()),
    ],
)
def test_granted(uid: int, add: list[str], drop: list[str], expected: set[str]) -> None:
    held = granted(uid, add, drop)
    assert set(held) == expected
    assert list(held) == sorted(held)
