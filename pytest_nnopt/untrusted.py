"""Reading what others may have written: no file fills the memory, no nesting the stack, and nothing is evaluated."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 11):  # pragma: no branch
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

if TYPE_CHECKING:
    import yaml

MOST_LEVELS = 32
"""Tables and lists within each other; no configuration has nearly as many."""

MOST_YAML_NODES = 20_000
"""Values of a YAML file with every alias written out."""

_USUAL_BYTES = 2**16
_LARGEST_INTEGER = 2**63
_TOO_DEEP = f"it is nested more than {MOST_LEVELS} levels deep"


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: it cannot be read, or is larger than it may be.
    """
    with path.open("rb") as file:
        content = file.read(min(_USUAL_BYTES, most_bytes + 1))  # what is asked for is allocated, be it there or not
        if len(content) == _USUAL_BYTES:
            content += file.read(most_bytes + 1 - _USUAL_BYTES)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes} bytes")
    return content


def parse_json(content: bytes, *, is_finite: bool = True) -> Any:
    """Return what JSON stands for.

    Args:
        content: text in UTF-8.
        is_finite: whether ``NaN`` and ``Infinity``, which are no JSON, are refused.

    Raises:
        ValueError: it is none, holds a number that is not finite or half a character, or is nested too deeply.
    """
    try:
        values = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant if is_finite else None)
        if b"\\ud" in content.lower():
            json.dumps(values, ensure_ascii=False).encode()  # half of a pair cannot be encoded
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return values


def parse_toml(content: bytes) -> dict[str, Any]:
    """Return what TOML stands for.

    Raises:
        ValueError: it is none. What is in it may be nested deeply all the same, by dotted names.
    """
    try:
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def parse_yaml(content: bytes) -> Any:
    """Return what YAML stands for.

    Raises:
        ImportError: PyYAML is not installed.
        ValueError: it is none, is nested too deeply, or its aliases multiply to more than they may.
    """
    import yaml  # an extra

    try:
        node = yaml.compose(content.decode("utf-8"), Loader=yaml.SafeLoader)
        if node is None:
            return None
        _count_nodes(node, {})
        return yaml.SafeLoader("").construct_document(node)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except (yaml.YAMLError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def require_plain(values: Any) -> None:
    """Refuse what no setting needs, without descending by recursion: deep nesting, dates, bytes, sets, huge numbers.

    Raises:
        ValueError: there is such a thing.
    """
    level = [values]
    for _ in range(MOST_LEVELS):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _inside(value: Any) -> list[Any]:
    """Return what a plain value holds."""
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list):
        return value
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise ValueError("it holds a whole number of more than 64 bits")
    if isinstance(value, str):
        value.encode()  # half of a pair cannot be
    if value is None or isinstance(value, (str, int, float)):
        return []
    raise ValueError(f"it holds a {type(value).__name__}, which no setting is")


def _count_nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for with every alias written out, each node looked at once.

    Raises:
        ValueError: it holds itself, or stands for too many.
    """
    key = id(node)
    if key in known:
        if known[key] == 0:
            raise ValueError("an alias in it stands for a value that holds the alias")
        return known[key]
    known[key] = 0
    inner = node.value if isinstance(node.value, list) else []
    nodes = [each for item in inner for each in (item if isinstance(item, tuple) else (item,))]
    known[key] = 1 + sum(_count_nodes(each, known) for each in nodes)
    if known[key] > MOST_YAML_NODES:
        raise ValueError(f"it stands for more than {MOST_YAML_NODES} values; write fewer aliases")
    return known[key]


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no measurement")
