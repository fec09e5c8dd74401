"""The default system call filter: what the program says, and that the kernel takes it."""

import ctypes
import errno
import struct

import pytest

from clusters.embedded.runtime import seccomp
from clusters.embedded.runtime.capabilities import DEFAULT, NUMBERS
from clusters.embedded.runtime.errors import Refused

X86, ARM, I386 = 0xC000003E, 0xC00000B7, 0x40000003
ALLOW, ERROR = 0x7FFF0000, 0x00050000
TWO_TABLES = [("x86_64", X86, 0), ("aarch64", ARM, 1)]


def verdict(program: bytes, number: int, argument: int = 0, architecture: int = X86) -> int:
    """What the program returns for a call, by its own rules (linux/filter.h)."""
    data = {0: number, 4: architecture, 16: argument & 0xFFFFFFFF, 20: argument >> 32}
    lines, at, value = list(struct.iter_unpack("=HBBI", program)), 0, 0
    while True:
        code, yes, no, operand = lines[at]
        at += 1
        if code == 0x06:
            return int(operand)
        if code == 0x20:
            value = data[operand]
        else:
            holds = {0x15: value == operand, 0x25: value > operand, 0x45: bool(value & operand)}[code]
            at += yes if holds else no


def refused(error: int) -> int:
    return ERROR | error


@pytest.mark.parametrize(("machine", "architecture", "column"), TWO_TABLES)
def test_what_a_container_has_no_business_with_is_refused(machine: str, architecture: int, column: int) -> None:
    program = seccomp.default(DEFAULT, machine)
    for name, numbers in seccomp._CALLS.items():
        if numbers[column] >= 0:
            expected = ALLOW if name == "chroot" else refused(errno.EPERM)
            assert verdict(program, numbers[column], architecture=architecture) == expected, name


@pytest.mark.parametrize(("machine", "architecture", "column"), TWO_TABLES)
def test_a_capability_stands_for_its_calls(machine: str, architecture: int, column: int) -> None:
    for capability, names in seccomp._ALLOWS.items():
        program = seccomp.default([capability], machine)
        for name in names:
            if (number := seccomp._CALLS[name][column]) >= 0:
                assert verdict(program, number, architecture=architecture) == ALLOW, name


def test_every_capability_of_the_table_is_one() -> None:
    assert set(seccomp._ALLOWS) <= set(NUMBERS)


def test_ordinary_calls_pass_and_unknown_ones_are_not_there() -> None:
    program = seccomp.default((), "x86_64")
    assert [verdict(program, number) for number in (0, 1, 59, 231, 317, 435 + 1)] == [ALLOW] * 6
    assert verdict(program, seccomp._NEWEST) == ALLOW
    assert verdict(program, seccomp._NEWEST + 1) == refused(errno.ENOSYS)
    assert verdict(program, 0x40000000 + 1) == refused(errno.ENOSYS)
    assert verdict(program, 1, architecture=I386) == refused(errno.ENOSYS)


def test_namespaces_are_made_by_who_may() -> None:
    plain, admin = seccomp.default((), "x86_64"), seccomp.default(["CAP_SYS_ADMIN"], "x86_64")
    thread, user = 0x3D0F00, 0x10000000 | 17
    assert (verdict(plain, 56, thread), verdict(plain, 56, user)) == (ALLOW, refused(errno.EPERM))
    assert verdict(plain, 435) == refused(errno.ENOSYS)
    assert (verdict(admin, 56, user), verdict(admin, 435)) == (ALLOW, ALLOW)


def test_arguments_that_are_looked_at() -> None:
    program = seccomp.default((), "x86_64")
    assert [verdict(program, 41, family) for family in (2, 40)] == [ALLOW, refused(errno.EPERM)]
    assert [verdict(program, 135, value) for value in (0, 8, 0xFFFFFFFF)] == [ALLOW] * 3
    assert verdict(program, 135, 0x0040000) == refused(errno.EPERM)  # ADDR_NO_RANDOMIZE


def test_an_unknown_processor_is_said() -> None:
    with pytest.raises(Refused) as caught:
        seccomp.default((), "riscv64")
    assert str(caught.value) == (
        "the pod asks for the seccomp profile RuntimeDefault (which is the default); it is known for x86_64 and "
        "aarch64, and this machine is a riscv64; set seccompProfile to Unconfined"
    )


def test_the_numbers_are_those_of_libseccomp() -> None:
    try:
        resolve = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name_arch
    except OSError:
        pytest.skip("no libseccomp on this machine, which knows the numbers of all calls")
    resolve.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    known = {
        **seccomp._CALLS,
        "clone": seccomp._CLONE,
        "clone3": seccomp._CLONE3,
        "personality": seccomp._PERSONALITY,
        "socket": seccomp._SOCKET,
    }
    for call, numbers in known.items():
        for number, architecture in zip(numbers, (X86, ARM), strict=True):
            assert max(resolve(architecture, call.encode()), -1) == number, call
