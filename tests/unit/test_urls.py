from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nnopt.errors import ConfigError
from pytest_nnopt.urls import parse_history_url, redacted, without_secrets


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/prefix",
        "gs://bucket",
        "abfs://container@account/x",
        "file:///srv/history",
        "postgresql://me:pw@host:5432/db?sslmode=require",
        "sqlite:///history.db",
    ],
)
def test_urls_of_stores_are_taken_as_they_are(url: str) -> None:
    assert parse_history_url(url) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "is no URL of a history"),
        ("/srv/history", "is no URL of a history"),
        ("http://example.org/x", "is no URL of a history"),
        ("simplecache::s3://bucket/x", "is no URL of a history"),
        ("s3://bucket::http://x", "is no plain URL"),
        ("s3://bucket/\n", "is no plain URL"),
        ("s3://", "names no place"),
        ("file://relative", "names no place"),
        ("s3://bucket/x?key=1", "has parameters"),
        ("postgresql://host:port/x", "is no plain URL"),
        ("mysql://host/x", "write one like 's3://bucket/prefix'"),
    ],
)
def test_everything_else_is_refused(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse_history_url(url)


def test_only_text_is_a_url() -> None:
    with pytest.raises(ConfigError, match="must be a URL"):
        parse_history_url(5)  # type: ignore[arg-type]  # what a TOML file may hold


@given(st.text(max_size=30))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert parse_history_url(text) == text


@given(st.sampled_from(["postgresql", "mysql", "s3"]), st.from_regex(r"[a-z]+:hidden[!-~]*", fullmatch=True))
def test_secrets_are_never_shown(scheme: str, user: str) -> None:
    url = f"{scheme}://{user}@host/db?password=hidden"
    assert "hidden" not in redacted(url)
    with pytest.raises(ConfigError) as caught:
        parse_history_url(url.replace("host", "host\n"))
    assert "hidden" not in str(caught.value)


def test_a_message_loses_the_secrets_of_its_urls() -> None:
    assert without_secrets("no postgresql://me:pw@host/db here") == "no postgresql://host/db here"
