"""Machine facts from the texts of /proc, and None where they do not tell."""

from pathlib import Path

from graders.machine import describe_machine, distribution_versions, parse_cpu_model, parse_memory

X86 = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) @ 2.20GHz\n\nprocessor\t: 1\nmodel name\t: Another\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\n"


def test_the_first_processor_names_the_model() -> None:
    assert parse_cpu_model(X86) == "Intel(R) Xeon(R) @ 2.20GHz"


def test_a_model_that_is_not_named_is_unknown() -> None:
    assert parse_cpu_model(ARM) is None
    assert parse_cpu_model("model name :\n") is None


def test_memory_is_in_bytes() -> None:
    assert parse_memory("MemTotal:       16384256 kB\nMemFree: 1 kB\n") == 16384256 * 1024


def test_memory_in_no_known_form_is_unknown() -> None:
    assert parse_memory("") is None
    assert parse_memory("MemTotal: many kB\n") is None
    assert parse_memory("MemTotal: 16 GB\n") is None


def test_a_distribution_that_is_not_installed_has_no_version() -> None:
    versions = distribution_versions(["pytest", "no-such-distribution"])
    assert versions["pytest"]
    assert versions["no-such-distribution"] is None


def test_a_machine_is_described_from_its_proc(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "cpuinfo").write_text(X86)
    (tmp_path / "meminfo").write_text("MemTotal: 4 kB\n")
    (tmp_path / "sys/kernel/osrelease").write_text("6.1.0\n")
    machine = describe_machine(tmp_path, ["pytest"])
    assert (machine.cpu_model, machine.memory_bytes, machine.kernel) == ("Intel(R) Xeon(R) @ 2.20GHz", 4096, "6.1.0")
    assert machine.cores is not None
    assert machine.cores >= 1
    assert list(machine.versions) == ["pytest"]


def test_a_proc_that_is_not_there_leaves_facts_unknown(tmp_path: Path) -> None:
    machine = describe_machine(tmp_path / "nowhere", [])
    assert (machine.cpu_model, machine.memory_bytes, machine.kernel) == (None, None, None)
