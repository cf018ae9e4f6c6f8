"""Where a shared history is: the URLs that are understood, and how they are shown without what is secret in them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pytest_nnopt.errors import ConfigError

OBJECT_SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "az")
DATABASE_SCHEMES = ("postgresql", "sqlite")

_EXAMPLES = "'s3://bucket/prefix', 'gs://…', 'abfs://…', 'file:///folder', 'postgresql://user@host/database' or 'sqlite:///file.db'"


def parse_history_url(value: str) -> str:
    """Accept the URL of a shared history.

    Only kinds of stores are accepted that are known to work as one; others, such as ``http``, and chains of them would
    be opened by the libraries behind, too.

    Raises:
        ConfigError: it is of no such kind, or names no place; what is secret in it is not repeated.
    """
    if not isinstance(value, str):
        raise ConfigError(f"the history must be a URL like {_EXAMPLES}")
    scheme, found, rest = value.partition("://")
    if not found or scheme not in (*OBJECT_SCHEMES, *DATABASE_SCHEMES):
        raise ConfigError(f"{redacted(value)!r} is no URL of a history; write one like {_EXAMPLES}")
    if "::" in value or any(not character.isprintable() for character in value):
        raise ConfigError(f"{redacted(value)!r} is no plain URL; write one like {_EXAMPLES}")
    if not rest.strip("/") or (scheme == "file" and not rest.startswith("/")):
        raise ConfigError(f"{redacted(value)!r} names no place; write one like {_EXAMPLES}")
    if scheme in OBJECT_SCHEMES and re.search(r"[?#]", rest):
        raise ConfigError(f"{redacted(value)!r} has parameters, which a history in an object store does not take")
    try:
        _ = urlsplit(value).port
    except ValueError as error:
        raise ConfigError(f"{redacted(value)!r} is no plain URL: {error}") from None
    return value


def redacted(url: str) -> str:
    """Return a URL without user, password and parameters, fit for logs."""
    without_user = re.sub(r"^([a-z0-9+]*:)?(//)?.*@", r"\1\2", url, flags=re.DOTALL)
    return re.sub(r"[?#].*", "", without_user, flags=re.DOTALL)


def without_secrets(text: str) -> str:
    """Return a message without user and password of any URL in it."""
    return re.sub(r"//[^/\s]*@", "//", text)
