"""``nnopt config``: the settings in effect, and where each came from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pytest_nnopt.cli.output import AsJson, print_json, print_table
from pytest_nnopt.config import CASE_SECTIONS, MatchConfig, Settings, load_settings, read_pyproject, resolve_case
from pytest_nnopt.profiles import PROFILE

if TYPE_CHECKING:
    from pydantic import BaseModel

_INTRODUCTION = """# Configuration

Order: built-in < `[tool.nnopt]` in pyproject.toml < command line < marker; the closest marker wins for each argument.
`nnopt config` prints what is in effect and where it came from. This page is made by `nnopt config --markdown`.

A profile names a set of compile options, in pyproject.toml or in the file that `profile_file` names; what a marker says
beside it wins. An unknown profile is a usage error. A file in YAML needs the extra `yaml`.

```toml
[tool.nnopt.profiles.serving]
mode = "max-autotune"
fullgraph = true
fallback = ["default"]
```

```python
@pytest.mark.nnopt_compile(profile="serving")
```"""
_BUILT_IN = "built-in"
_PYPROJECT = "pyproject.toml"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting in effect.

    Attributes:
        name: as in ``[tool.nnopt]``, with its table in front.
        value: as JSON holds it.
        source: what it came from.
    """

    name: str
    value: object
    source: str


def config(
    profile: Annotated[str | None, typer.Option(help="Show what holds in a test that asks for this profile.")] = None,
    root: Annotated[Path, typer.Option(help="The project's root, where pyproject.toml is.")] = Path(),
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="Describe every setting that there is.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the settings in effect and where each came from; options and markers come on top."""
    if markdown:
        typer.echo(describe_settings(), nl=False)
        return
    settings = list(effective_settings(read_pyproject(root / "pyproject.toml"), profile))
    if as_json:
        print_json([asdict(setting) for setting in settings])
    else:
        print_table([{"setting": s.name, "value": _in_words(s.value), "from": s.source} for s in settings])


def effective_settings(table: Mapping[str, Any], profile: str | None) -> Iterator[Setting]:
    """Merge the project's table with the built-in values, and with a profile as a test's marker would.

    Raises:
        ConfigError: a key is unknown, a value impossible, or there is no such profile.
    """
    settings = load_settings(table, {})
    values = settings.model_dump(mode="json")
    for name in Settings.model_fields:
        if name not in CASE_SECTIONS:
            yield Setting(name, values[name], _PYPROJECT if name in table else _BUILT_IN)
    markers = {} if profile is None else {"compile": [{PROFILE: profile}]}
    case = resolve_case(settings, markers, "nnopt config")
    for section in CASE_SECTIONS:
        sources = _sources(settings, section, profile)
        for name, value in getattr(case, section).model_dump(mode="json").items():
            yield Setting(f"{section}.{name}", value, sources.get(name, _BUILT_IN))


def describe_settings() -> str:
    """Return a page in Markdown about every setting, made from the declarations that validate them."""
    parts = [_INTRODUCTION, *_describe_section("[tool.nnopt]", Settings)]
    for name, section in CASE_SECTIONS.items():
        parts += _describe_section(f"[tool.nnopt.{name}], marker nnopt_{name}", section)
    parts += _describe_section("[tool.nnopt.match]", MatchConfig)
    return "\n".join(parts) + "\n"


def _describe_section(title: str, section: type[BaseModel]) -> list[str]:
    defaults = section().model_dump(mode="json")
    rows = [
        f"| `{name}` | {_as_code(defaults[name])} | {' '.join(str(field.description).split())} |"
        for name, field in section.model_fields.items()
    ]
    return [f"\n## {title}\n", "| setting | default | meaning |", "|---|---|---|", *rows]


def _as_code(value: object) -> str:
    return "-" if value in (None, [], {}) else f"`{json.dumps(value)}`"


def _sources(settings: Settings, section: str, profile: str | None) -> dict[str, str]:
    """Say of every setting of a section that is not built in what it came from, the last word winning."""
    declared: Mapping[str, Any] = getattr(settings, section)
    sources: dict[str, str] = {}
    if section == "compile":
        sources |= _of_profile(settings, declared.get(PROFILE))
    sources |= dict.fromkeys((name for name in declared if name != PROFILE), _PYPROJECT)
    if section == "limits" and settings.effect is not None:
        sources["latency"] = f"{_PYPROJECT}, effect"
    return sources | (_of_profile(settings, profile) if section == "compile" else {})


def _of_profile(settings: Settings, name: str | None) -> dict[str, str]:
    return {} if name is None else dict.fromkeys(settings.profiles[name], f"profile {name}")


def _in_words(value: object) -> str | None:
    return None if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
