"""How entries are named in an object store, so that listing names answers what a database's index would."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timezone

from pytest_nnopt.history.schema import Label

_LONGEST_FOLDER = 180
_PLAIN = re.compile(r"[A-Za-z0-9_.,\-\[\]=@+]")
_ESCAPE = "~"
_CUT = "~~"
"""Before the digest of an id that is too long to be spelt out."""

_NAME = re.compile(
    r"(?P<moment>\d{8}T\d{12})Z"
    r"_(?P<run>[0-9a-f]{16})"
    r"_(?P<environment>[0-9a-f]{8})"
    r"_(?P<branch>[0-9a-f]{8}|-)"
    r"_(?P<sound>[sx])(?P<level>[la])"
    r"_(?P<revision>[0-9a-f]{1,12}|-)"
    r"_(?P<processes>0|[1-9]\d{0,5})"
    r"_(?P<ratio>[pm]\d{1,9}|-)"
    r"\.json",
    re.ASCII,
)
_MOMENT = "%Y%m%dT%H%M%S%f"


def case_folder(case_id: str) -> str:
    """Return the folder of a case: its id with everything unusual escaped, cut to a length that every store takes."""
    folder = "".join(_escaped(character) for character in case_id)
    folder = re.sub(r"^\.", f"{_ESCAPE}2e", folder)
    if len(folder) <= _LONGEST_FOLDER:
        return folder
    digest = hashlib.sha256(case_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{folder[:_LONGEST_FOLDER].rstrip(_ESCAPE)}{_CUT}{digest}"


def case_of_folder(folder: str) -> str | None:
    """Return the id of a case by its folder; None where the folder does not spell it out or is none of a case."""
    if _CUT in folder:
        return None
    spelt = re.sub(f"{_ESCAPE}([0-9a-f]{{2}})", lambda match: chr(int(match[1], 16)), folder)
    try:
        case_id = spelt.encode("latin-1").decode("utf-8", "surrogatepass")
    except UnicodeError:
        return None
    return case_id if case_folder(case_id) == folder else None


def month_of(label: Label) -> str:
    """Return the folder below the case's in which an entry is; folders are listed from the newest one."""
    return f"{label.recorded:%Y-%m}"


def entry_name(label: Label) -> str:
    """Return the name of an entry; names sort by time."""
    ratio = "-" if label.log_ratio is None else f"{'m' if label.log_ratio < 0 else 'p'}{abs(label.log_ratio)}"
    parts = (
        f"{label.recorded:{_MOMENT}}Z",
        label.run,
        label.environment,
        label.branch_key,
        ("s" if label.is_sound else "x") + ("l" if label.is_new_level else "a"),
        label.revision or "-",
        str(label.processes),
        ratio,
    )
    return "_".join(parts) + ".json"


def label_of_name(case_id: str, name: str) -> Label | None:
    """Read an entry's name; None where it is none."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        moment = datetime.strptime(match["moment"], _MOMENT).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    ratio = match["ratio"]
    return Label(
        case=case_id,
        recorded=moment,
        run=match["run"],
        environment=match["environment"],
        branch_key=match["branch"],
        is_sound=match["sound"] == "s",
        is_new_level=match["level"] == "l",
        revision=None if match["revision"] == "-" else match["revision"],
        processes=int(match["processes"]),
        log_ratio=None if ratio == "-" else int(ratio[1:]) * (-1 if ratio[0] == "m" else 1),
    )


def _escaped(character: str) -> str:
    if _PLAIN.fullmatch(character):
        return character
    return "".join(f"{_ESCAPE}{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
