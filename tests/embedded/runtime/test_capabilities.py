"""Which capabilities a container holds."""

import pytest

from clusters.embedded.runtime.capabilities import DEFAULT, NUMBERS, granted, mask


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], [], set(DEFAULT)),
        ([], ["ALL"], set()),
        (["NET_BIND_SERVICE"], ["ALL"], {"CAP_NET_BIND_SERVICE"}),
        (["CAP_SYS_TIME"], ["net_raw"], set(DEFAULT) - {"CAP_NET_RAW"} | {"CAP_SYS_TIME"}),
        (["ALL"], ["SYS_ADMIN"], set(NUMBERS) - {"CAP_SYS_ADMIN"}),
    ],
)
def test_granted(add: list[str], drop: list[str], expected: set[str]) -> None:
    held = granted(add, drop)
    assert set(held) == expected
    assert list(held) == sorted(held)


def test_the_mask_is_the_kernels() -> None:
    assert mask(DEFAULT) == 0xA80425FB  # what /proc/PID/status shows in every container of containerd
    assert mask(NUMBERS) == (1 << 41) - 1
    assert mask(["CAP_CHOWN", "CAP_CHOWN", "CAP_NO_SUCH"]) == 1
