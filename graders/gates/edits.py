"""A case as edits of the reference: text that is found there once, and what stands in its place.

Place: tables that `proof` reads have edits, and its cases the files that they come to. Limits: a file is edited or
kept; one that is new, or that has little in common with the reference's, is put into the case's folder.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec

from graders.provenance import contents

_LONGEST = 60


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where `file` of the reference says `old`, which it does once, the case says `new`."""

    file: str
    old: Annotated[str, msgspec.Meta(min_length=1)]
    new: str


def edited(files: Mapping[str, bytes], edits: Sequence[Edit]) -> dict[str, bytes]:
    """The files of the reference after edits that fit it."""
    result = dict(files)
    # From the last to the first, so that nothing moves that is still to be found.
    for edit in sorted(edits, key=lambda edit: _span(files, edit), reverse=True):
        begin, end = _span(files, edit)
        whole = result[edit.file]
        result[edit.file] = whole[:begin] + edit.new.encode() + whole[end:]
    return result


def misfits(edits: Sequence[Edit], reference: Path, own: Collection[str]) -> Iterator[str]:
    """Why edits do not fit the reference, or the files that a case has of its `own`: what to say after its name."""
    files = contents(reference)
    fitting: dict[str, list[Edit]] = {}
    for edit in edits:
        count = files.get(edit.file, b"").count(edit.old.encode())
        if edit.file not in files:
            yield f"edits {edit.file}, and the files of {reference} are: {', '.join(sorted(files))}; name one of them"
        elif edit.file in own:
            yield f"edits {edit.file}, and its folder has a {edit.file} of its own; keep one of them"
        elif count != 1:
            found = f"{count} times in {reference / edit.file}"
            todo = "take in more of what is around it, to be found once" if count else "copy it from there as it is"
            yield f"edits {edit.file} where it says {_shown(edit)}, which is found {found}; {todo}"
        else:
            fitting.setdefault(edit.file, []).append(edit)
    for file, those in fitting.items():
        ordered = sorted(those, key=lambda edit: _span(files, edit))
        for one, other in pairwise(ordered):
            if _span(files, one)[1] > _span(files, other)[0]:
                both = f"{_shown(one)} and {_shown(other)}"
                yield f"edits {file} where it says {both}, which overlap; make one edit of them"


def _span(files: Mapping[str, bytes], edit: Edit) -> tuple[int, int]:
    """Where the text that an edit replaces begins and ends."""
    old = edit.old.encode()
    begin = files[edit.file].index(old)
    return begin, begin + len(old)


def _shown(edit: Edit) -> str:
    return repr(edit.old) if len(edit.old) <= _LONGEST else f"{edit.old[: _LONGEST - 3]!r}..."
