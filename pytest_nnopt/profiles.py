"""Compile profiles: named sets of compile options, kept in pyproject.toml or in a TOML or YAML file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_nnopt.errors import ConfigError
from pytest_nnopt.untrusted import parse_toml, parse_yaml, read_bounded, require_plain

LARGEST_FILE_BYTES = 2**18

PROFILE = "profile"
"""The argument that names a profile."""


def read_profiles(path: Path) -> dict[str, Any]:
    """Read a file of profiles: a table of compile options for each name.

    Raises:
        ConfigError: it cannot be read, is neither TOML nor YAML, or holds something else than tables.
    """
    languages = {".toml": ("TOML", parse_toml), ".yaml": ("YAML", parse_yaml), ".yml": ("YAML", parse_yaml)}
    if path.suffix not in languages:
        raise ConfigError(f"profile_file: {path} must end in .toml, .yaml or .yml")
    try:
        content = read_bounded(path, LARGEST_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"profile_file: {path} cannot be read: {error.strerror or error}") from None
    language, parse = languages[path.suffix]
    try:
        values = parse(content)
        require_plain(values)
    except ImportError:
        raise ConfigError(
            f"profile_file: reading {path} needs PyYAML; install it with pip install 'pytest-nnopt[yaml]', "
            "or write the profiles in TOML"
        ) from None
    except ValueError as error:
        raise ConfigError(f"profile_file: {path} is not {language}: {error}") from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ConfigError(f"profile_file: {path} must hold a table of compile options for each profile's name")
    return values


def with_profile(arguments: Mapping[str, Any], profiles: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, Any]:
    """Replace the name of a profile by its options; what stands beside the name wins over the profile.

    Raises:
        ConfigError: there is no profile of that name; those there are are named.
    """
    if PROFILE not in arguments:
        return dict(arguments)
    name = arguments[PROFILE]
    given = {key: value for key, value in arguments.items() if key != PROFILE}
    if name is None:
        return given
    if name not in profiles:
        known = ", ".join(sorted(profiles)) or "none; declare it in [tool.nnopt.profiles]"
        raise ConfigError(f"{where}: unknown profile {name!r}; known: {known}")
    return _without_the_other(profiles[name], given) | given


def _without_the_other(profile: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the half of ``mode`` and ``options`` that is overridden, since torch takes one of them."""
    other = {"mode": "options", "options": "mode"}
    overridden = {other[key] for key in other if given.get(key) is not None}
    return {key: value for key, value in profile.items() if key not in overridden}
