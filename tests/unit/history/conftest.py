"""Stores of every kind, each empty: a folder, an S3 bucket, SQLite and PostgreSQL, the last two on real servers."""

from __future__ import annotations

import uuid
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.servers import find_postgresql, postgresql_server, s3_server

KINDS = ("file", "s3", "sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgresql() -> Generator[str, None, None]:
    """URL of a PostgreSQL server's database."""
    pytest.importorskip("psycopg")
    programs = find_postgresql()
    if programs is None:
        pytest.skip("PostgreSQL's server is not installed; apt-get install postgresql")
    with postgresql_server(programs) as url:
        yield url


@pytest.fixture(scope="session")
def s3_endpoint() -> Generator[str, None, None]:
    """Endpoint of an S3 server."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def empty_database(postgresql: str) -> str:
    """URL of a database of its own."""
    import psycopg

    name = f"nnopt_{uuid.uuid4().hex}"
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgresql.rpartition("/")[0] + f"/{name}"


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a bucket of its own; the client finds server and credentials as users give them."""
    import boto3

    variables = {"AWS_ENDPOINT_URL": s3_endpoint, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in {**variables, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    name = f"nnopt-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}/team"


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty history of each kind."""
    if request.param == "file":
        return f"file://{tmp_path}/history"
    if request.param == "sqlite":
        pytest.importorskip("sqlalchemy")
        return f"sqlite:///{tmp_path}/history.db"
    found: str = request.getfixturevalue("bucket" if request.param == "s3" else "empty_database")
    return found
