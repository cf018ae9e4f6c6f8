"""The compiler's own words, read: where and why it broke a graph, compiled again, skipped a CUDA graph or gave up.

What is kept as a reason is the same in every process and wherever its line has moved to: addresses and line numbers are
left out of it. Explanations and hints are notes beside it, for people.
"""

from __future__ import annotations

import itertools
import linecache
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_nnopt.model import GraphBreak, Recompile

_MOST_HINTS = 2
_LONGEST_NOTE = 320
_IDLE_HINTS = ("report an issue", "file an issue", "graph break is fundamental")
"""What dynamo advises where it knows nothing that a user could do."""
_JUMP_NOTES = ("hint: compute both ways and choose with torch.where, or branch with torch.cond",)
"""What dynamo leaves unsaid where Python branches on a tensor's value."""


def meaningful_line(message: str) -> str:
    """Return the first line, with the next ones behind it while it only announces them (``backend='x' raised:``)."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    announcements = list(itertools.takewhile(lambda line: line.endswith(":"), lines))
    return " ".join(lines[: len(announcements) + 1])


def graph_break(reason: str, user_stack: Sequence[Any]) -> GraphBreak:
    """Read one of dynamo's graph break reasons, which have the user's frames beside them, innermost last."""
    is_jump = reason.startswith("generic_jump")  # dynamo's internal name for a branch on a tensor's value
    words = "Data-dependent branching" if is_jump else _without_addresses(meaningful_line(reason))
    notes = _JUMP_NOTES if is_jump else read_notes(reason)
    if not user_stack:
        return GraphBreak(words, notes=notes)
    frame = user_stack[-1]
    return GraphBreak(words, frame.filename, frame.lineno, (frame.line or "").strip() or None, notes)


def read_notes(message: str) -> tuple[str, ...]:
    """Return what dynamo explains and advises below the first line of a message, as releases since 2.7 do."""
    explanation, hints = ([note.strip() for note in _labelled(message, label)] for label in ("Explanation", "Hint"))
    useful = [f"hint: {hint}" for hint in hints if not any(idle in hint for idle in _IDLE_HINTS)]
    return tuple(_without_addresses(_cut(note)) for note in (*explanation[:1], *useful[:_MOST_HINTS]))


def _labelled(message: str, label: str) -> list[str]:
    return re.findall(rf"^ *{label}: (.+)$", message, re.MULTILINE)


def _cut(note: str) -> str:
    return note if len(note) <= _LONGEST_NOTE else note[: _LONGEST_NOTE - 2] + " …"


_SKIP_PLACE = re.compile(r'File "(?P<file>.+?)", line (?P<line>\d+), in .*\n\s*(?P<code>.*)')


def cudagraph_skip(message: str) -> GraphBreak:
    """Read ``skipping cudagraphs due to mutated inputs (1 instances). Found from : <traceback entry>``."""
    reason = meaningful_line(message.partition(". Found from")[0])
    place = _SKIP_PLACE.search(message)
    if place is None:
        return GraphBreak(reason)
    return GraphBreak(reason, file=place["file"], line=int(place["line"]), code=place["code"].strip() or None)


_GUARD = re.compile(
    r"(?:\d+/\d+(?:_\d+)?: )?"  # the compiled entry whose guard failed
    r"(?P<guard>.*?)"
    r"(?:\s+# (?:(?P<code>.*?)\s+# )?\S*:\d+ in \S+)?"  # the line that made the guard, of which torch clips the file
    r"(?:\s*\(HINT: (?P<hint>.*)\))?\s*"
)
_FRAME = re.compile(r'^ *File "(?P<file>.+?)", line (?P<line>\d+), in .*$', re.MULTILINE)


def recompile(entry: Any) -> Recompile:
    """Read an entry of the compilation metrics whose frame had been compiled before; torch 2.4 keeps no reason."""
    reason, function = getattr(entry, "recompile_reason", None), _function_name(entry.co_name)
    if reason is None:
        return Recompile(function, None, entry.co_filename, entry.co_firstlineno)
    match = _GUARD.fullmatch(meaningful_line(reason))
    assert match is not None  # each of its parts may be empty
    notes = () if match["hint"] is None else (_cut(f"hint: {match['hint']}"),)
    frames = list(_FRAME.finditer(reason))
    file, line = (frames[-1]["file"], int(frames[-1]["line"])) if frames else (entry.co_filename, entry.co_firstlineno)
    return Recompile(function, _without_addresses(match["guard"]), file, line, match["code"], notes)


def _function_name(name: str) -> str:
    """Name a function as its author did; what dynamo makes of the rest behind a graph break has a line in its name."""
    return re.sub(r"^torch_dynamo_resume_in_(.+)_at_\d+$", r"\1 after its graph break", name)


def _without_addresses(text: str) -> str:
    """Leave out what differs between processes: ``___check_obj_id(k, 139640141028688)``, ``<f at 0x7f01>``."""
    return re.sub(r"(___check_\w+_id\(.*?, )\d+(?=\))|0x[0-9a-f]+", lambda match: f"{match[1] or ''}…", text)


def eager_reasons(counted: Mapping[str, Counter[str]], entries: Sequence[Any]) -> tuple[GraphBreak, ...]:
    """Return why frames run eagerly; on torch 2.4 a frame at the recompile limit leaves only a counter."""
    failures = tuple(_failure(entry) for entry in entries if entry.fail_type is not None)
    unimplemented = +counted.get("unimplemented", Counter[str]())
    return failures or tuple(GraphBreak(_without_addresses(meaningful_line(reason))) for reason in unimplemented)


def _failure(entry: Any) -> GraphBreak:
    file, line = entry.fail_user_frame_filename, entry.fail_user_frame_lineno
    code = linecache.getline(file, line).strip() if file and line else ""
    message = entry.fail_reason or entry.fail_type
    return GraphBreak(_without_addresses(meaningful_line(message)), file, line, code or None, read_notes(message))
