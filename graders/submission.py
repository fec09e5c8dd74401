"""A submission read as data: the allow-listed files of a folder, their bytes and one digest; nothing in it is executed.

Place: the plugin reads it before anything starts, labs take chart values from it. Limits: UTF-8 text files; nothing is
followed (no link), nothing is evaluated (YAML without tags that build objects).
"""

import errno
import hashlib
import math
import os
import re
import stat
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import yaml

from graders.errors import SubmissionError
from graders.lab import Lab, SubmissionRules

_MERGE = "tag:yaml.org,2002:merge"
INTEGER_BITS = 64
"""Kubernetes has no larger whole numbers."""


@dataclass(frozen=True)
class Submission:
    """What a learner handed in: file contents by name (relative, with slashes), and `digest`, a SHA-256 of them all."""

    folder: Path
    files: Mapping[str, bytes]
    digest: str

    def text(self, name: str) -> str:
        """Text of one of its files."""
        return self.files[name].decode()

    def values(self, name: str = "values.yaml") -> dict[str, Any]:
        """Chart values from one of its files; an empty file is an empty mapping.

        Raises:
            SubmissionError: it is not YAML, or not a mapping; the message has line and column.
        """
        return parse_values(self.text(name), name)


def submission_folder(lab: str, *, explicit: Path | None, work: Path, labs: Path) -> Path:
    """Which folder is graded: the one named, else the learner's own in `work`, else the lab's starter."""
    if explicit is not None:
        return explicit
    own = work / lab
    return own if own.is_dir() else labs / lab / "starter"


def read_submission(folder: Path, lab: Lab, *, read: Callable[[int, int], bytes] = os.read) -> Submission:
    """Reads the submission in `folder` by the lab's allow-list.

    Args:
        folder: what the learner handed in.
        lab: the lab it is for.
        read: reads at most that many bytes of an open file, as `os.read`.

    Raises:
        SubmissionError: the folder or a file is missing, not on the allow-list, a link, not a regular file, too large,
            unreadable or not UTF-8.
    """
    rules = lab.submission
    _refuse_strangers(folder, lab)
    files: dict[str, bytes] = {}
    left = rules.max_bytes
    for name in sorted(rules.files):
        files[name] = _read_file(folder, name, left, rules, read)
        left -= len(files[name])
    return Submission(folder, files, digest(files))


def digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 (hex) over names, sizes and contents in the order of the names."""
    whole = hashlib.sha256()
    for name, content in sorted(files.items()):
        whole.update(f"{name}\0{len(content)}\0".encode(errors="surrogateescape") + content)
    return whole.hexdigest()


def parse_values(text: str, name: str) -> dict[str, Any]:
    """Chart values from YAML text called `name`; see `Submission.values`."""
    try:
        values = _PlainLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SubmissionError(
            f"{name} is not plain YAML{where}: {error.problem or error.context}; correct it there"
        ) from error
    except yaml.YAMLError as error:
        raise SubmissionError(f"{name} is not YAML: {' '.join(str(error).split())}; correct it") from error
    except RecursionError as error:
        raise SubmissionError(f"{name} is not YAML that can be read: it is nested too deeply; correct it") from error
    except (ValueError, OverflowError) as error:
        raise SubmissionError(f"{name} is not YAML that can be read: {error}; correct it") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SubmissionError(
            f"{name} holds a {type(values).__name__} at line 1, column 1, where chart values are a mapping; "
            "write `key: value` lines"
        )
    if found := next(_foreign(values), None):
        raise SubmissionError(f"{name} holds {found}, which no chart value can be; put it in quotes")
    return values


def _foreign(value: object, at: str = "") -> Iterator[str]:
    """What JSON, as which values travel, does not have: its kind, and the keys that lead to it."""
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from _foreign(key, f"the key {key!s}")
            yield from _foreign(inside, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list | tuple):
        for place, inside in enumerate(value):
            yield from _foreign(inside, f"{at}[{place}]")
    elif isinstance(value, int) and value.bit_length() > INTEGER_BITS:
        yield f"a whole number of more than {INTEGER_BITS} bits at {at}"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{value} at {at}"
    elif not isinstance(value, str | int | float | None):
        yield f"a {type(value).__name__} at {at}"


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases, a few of which stand for more values than fit in memory, and without double keys.

    What an escape made that is half a character is refused: no JSON can have it. So is a value that its tag denies.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs leave it untyped
            raise yaml.MarkedYAMLError(problem="an alias, where the value is to be written out", problem_mark=mark)
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.ScalarNode) and (half := re.search("[\ud800-\udfff]", node.value)):
            said = f"{half[0]!a}, which is half a character"
            raise yaml.MarkedYAMLError(problem=said, problem_mark=node.start_mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        try:
            return super().construct_object(node, deep)
        except (LookupError, AttributeError, OverflowError) as error:
            said = f"{str(node.value)[:40]!a}, which is no {node.tag.rpartition(':')[2]}"
            raise yaml.MarkedYAMLError(problem=said, problem_mark=node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        # "!!map [a]" comes here with a list, and is refused below.
        keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        for key in (key for key in keys if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE):
            meant = self.construct_object(key)  # 1 and 0x1 are one key, and the first would go unseen
            if meant in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} a second time", problem_mark=key.start_mark)
            seen.add(meant)
        return super().construct_mapping(node, deep)


def _refuse_strangers(folder: Path, lab: Lab) -> None:
    if folder.is_symlink():
        raise SubmissionError(f"the submission {folder} is a link; give the folder itself")
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "is not there"
        raise SubmissionError(f"the submission {folder} {found}; `gpulab start {lab.name}` makes one to begin with")
    allowed = lab.submission.files
    folders = {str(parent) for name in allowed for parent in PurePosixPath(name).parents}
    for place, names, more in os.walk(folder, onerror=_refuse_unreadable):
        for path in (Path(place, name) for name in sorted(names + more)):
            name = path.relative_to(folder).as_posix()
            try:
                mode = path.lstat().st_mode
            except OSError as error:  # of a folder that may be listed and not entered
                _refuse_unreadable(error)
            if stat.S_ISLNK(mode):
                raise SubmissionError(f"{_told(name)} in {folder} is a link; put the file itself there")
            if name not in allowed and not (name in folders and stat.S_ISDIR(mode)):
                raise SubmissionError(
                    f"{_told(name)} in {folder} is no part of a submission for {lab.name}, which is: "
                    f"{', '.join(allowed)}; move it elsewhere"
                )


def _told(name: str) -> str:
    """A file's name, in Python's notation where it has something else than signs to be read."""
    return name if name.isprintable() else ascii(name)


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise SubmissionError(f"{error.filename} cannot be read ({error.strerror}); give yourself the right to") from error


def _read_file(folder: Path, name: str, left: int, rules: SubmissionRules, read: Callable[[int, int], bytes]) -> bytes:
    try:
        content = _content(folder / name, left + 1, read)
    except FileNotFoundError as error:
        raise SubmissionError(f"{name} is missing in {folder}; the starter of the lab has one") from error
    except OSError as error:
        raise SubmissionError(
            f"{name} in {folder} cannot be read ({error.strerror}); give yourself the right to"
        ) from error
    if content is None:
        raise SubmissionError(f"{name} in {folder} is not a regular file; put a plain file there")
    if len(content) > left:
        raise SubmissionError(
            f"the submission {folder} is larger than the {rules.max_bytes} bytes allowed, "
            f"seen while reading {name}; make it smaller"
        )
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise SubmissionError(f"{name} in {folder} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    return content


def _content(path: Path, limit: int, read: Callable[[int, int], bytes]) -> bytes | None:
    """The first `limit` bytes of a file, or None when it is not a regular one."""
    # O_NOFOLLOW: it may have become a link since it was listed. O_NONBLOCK: opening a pipe must not wait.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket cannot be opened at all
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        content = b""
        while len(content) < limit and (piece := read(handle, limit - len(content))):
            content += piece
        return content
    finally:
        os.close(handle)
