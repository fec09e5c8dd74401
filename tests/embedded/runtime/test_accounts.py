"""Whom a container runs as, from its pod and from the users that its image has."""

from pathlib import Path

import pytest

from clusters.embedded.protos import Api, Message
from clusters.embedded.runtime.accounts import Account, account
from clusters.embedded.runtime.errors import Refused
from clusters.embedded.runtime.images import Image

PASSWD = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:web:/var/www:/bin/false\nbroken line\n"
GROUP = "root:x:0:\nstaff:x:50:www,other\nvideo:x:44:other\n"


@pytest.fixture
def image(tmp_path: Path) -> Image:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(PASSWD)
    (tmp_path / "etc" / "group").write_text(GROUP)
    return Image("web:1", "sha256:0", root=str(tmp_path), user="www")


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        ({}, Account(33, 34, (50,), "/var/www")),
        ({"run_as_username": "www"}, Account(33, 34, (50,), "/var/www")),
        ({"run_as_user": {"value": 0}}, Account(0, 0, (), "/root")),
        ({"run_as_user": {"value": 33}, "run_as_group": {"value": 7}}, Account(33, 7, (50,), "/var/www")),
        ({"run_as_user": {"value": 33}, "supplemental_groups": [9, 50]}, Account(33, 34, (9, 50), "/var/www")),
        ({"supplemental_groups": [9], "supplemental_groups_policy": 1}, Account(33, 34, (9,), "/var/www")),
        ({"run_as_user": {"value": 1234}}, Account(1234, 0)),
    ],
)
def test_the_pod_then_the_image_say_whom(cri: Api, image: Image, security: Message, expected: Account) -> None:
    assert account("c", cri.LinuxContainerSecurityContext(**security), image) == expected


def test_the_machines_own_system_has_numbers_only(cri: Api) -> None:
    plain = Image("busybox:1", "sha256:0")

    assert account("c", cri.LinuxContainerSecurityContext(), plain) == Account(0, 0)
    assert account("c", cri.LinuxContainerSecurityContext(run_as_user={"value": 7}), plain) == Account(7, 0)


def test_a_user_that_the_image_does_not_have_is_refused(cri: Api, image: Image) -> None:
    with pytest.raises(Refused) as refused:
        account("c", cri.LinuxContainerSecurityContext(run_as_username="nginx"), image)

    assert str(refused.value) == (
        "container 'c' runs as the user 'nginx', which the image web:1 does not have in its /etc/passwd; "
        "give runAsUser a number"
    )
