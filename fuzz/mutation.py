"""Change JSON as JSON: a byte changed at random hardly ever gets past a schema."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

_VALUES = (
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    -(2**64),
    10**40,
    0.0,
    -0.0,
    1e-320,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    "",
    "x" * 5000,
    "\x1b[2J\u202e",
    "::error::x",
    "##[error]x",
    "<script>alert(1)</script>",
    "../../..",
    "\0",
    "\ud800",
    "--option",
    "2026-01-02T03:04:05Z",
    "0001-01-01T00:00:00+14:00",
    "00000000",
    "failed",
    "no_baseline",
    [],
    {},
    [[]],
    {"": {}},
)


def mutate_json(content: bytes, seed: int) -> bytes | None:
    """Return JSON with one or a few places of it changed; None where it is not JSON."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return None
    draw = random.Random(seed)
    holder = [values]
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        _change(holder, draw)
    return json.dumps(holder[0]).encode()


def mutate_lines(content: bytes, seed: int) -> bytes | None:
    """Return lines of JSON with one of them changed, doubled or left out."""
    draw = random.Random(seed)
    lines = content.splitlines(keepends=True)
    if not lines:
        return None
    place = draw.randrange(len(lines))
    changed = mutate_json(lines[place], seed)
    lines[place : place + 1] = draw.choice(([], [lines[place]] * 2, [(changed or b"{}") + b"\n"]))
    return b"".join(lines)


def _change(holder: list[Any], draw: random.Random) -> None:
    """Walk down to a place at random, and change what is there."""
    part: Any = holder
    key: Any = 0
    while isinstance(part[key], (dict, list)) and part[key] and draw.random() < 0.85:
        part = part[key]
        key = draw.choice(sorted(part) if isinstance(part, dict) else range(len(part)))
    kind = draw.randrange(6)
    if kind == 0 and part is not holder:
        del part[key]
    elif kind == 1 and isinstance(part, list) and part is not holder:
        part.insert(key, copy.deepcopy(part[key]))
    elif kind == 2 and isinstance(part, dict):
        part[draw.choice(("", "x", "extra", "\x1b", "schema", "case", "\ud800"))] = part.pop(key)
    elif kind == 3 and isinstance(part[key], (int, float)) and not isinstance(part[key], bool):
        part[key] = part[key] * draw.choice((-1, 0, 1e-9, 1e9, 10**20))
    else:
        part[key] = copy.deepcopy(draw.choice(_VALUES))
