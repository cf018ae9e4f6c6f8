"""Real servers on the loopback interface, each in a process of its own and gone when the block ends."""

from __future__ import annotations

import contextlib
import math
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path

_PATIENCE_SECONDS = 60.0


def find_postgresql() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian keeps them out of the search path."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return Path(found).parent if found else folders[-1] if folders else None


@contextlib.contextmanager
def postgresql_server(programs: Path) -> Generator[str, None, None]:
    """Run a PostgreSQL server with a cluster of its own, and give the URL of an empty database in it."""
    user, port = _server_user(), _free_port()
    with tempfile.TemporaryDirectory(prefix="nnopt-pg-") as folder:
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        cluster = Path(folder) / "cluster"
        subprocess.run(
            [programs / "initdb", "-D", cluster, "-U", "nnopt", "--auth=trust", "--no-sync", "-E", "UTF8"],
            check=True,
            user=user,
            cwd=folder,
            capture_output=True,
        )
        settings = ("listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", "fsync=off")
        arguments = [word for setting in settings for word in ("-c", setting)]
        with _running([str(programs / "postgres"), "-D", str(cluster), *arguments], port, user=user, folder=folder):
            url = f"postgresql://nnopt@127.0.0.1:{port}/postgres"
            _wait_for_database(url)
            yield url


@contextlib.contextmanager
def s3_server() -> Generator[str, None, None]:
    """Run an S3 server that keeps its objects in memory, and give its endpoint."""
    port = _free_port()
    with _running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        yield f"http://127.0.0.1:{port}"


class FrayedCable:
    """A cable between clients and a server on loopback, which breaks in the middle of what goes through it.

    Attributes:
        endpoint: where its clients connect to.
        broken_after: bytes of a connection's requests, and of its answers, that still come through; None while whole.
    """

    def __init__(self, port: int) -> None:
        self.broken_after: tuple[int, int] | None = None
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def carry(self) -> None:
        """Carry connections until it is closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry_one, args=(client, self.broken_after), daemon=True).start()

    def _carry_one(self, client: socket.socket, broken_after: tuple[int, int] | None) -> None:
        """Carry one connection until an end closes it, or so many bytes have gone through."""
        with client, socket.create_connection(("127.0.0.1", self._port)) as server, contextlib.suppress(OSError):
            left = dict(zip((client, server), broken_after or (math.inf, math.inf), strict=True))
            while min(left.values()) > 0:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    (server if source is client else client).sendall(data[: int(min(left[source], len(data)))])
                    left[source] = left[source] - len(data) if data else 0

    def close(self) -> None:
        """Take it away."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextlib.contextmanager
def frayed_cable(endpoint: str) -> Generator[FrayedCable, None, None]:
    """Lay a cable to a server."""
    cable = FrayedCable(int(endpoint.rpartition(":")[2]))
    threading.Thread(target=cable.carry, daemon=True).start()
    try:
        yield cable
    finally:
        cable.close()


def _wait_for_database(url: str) -> None:
    """Wait until the server answers questions; it listens before that."""
    import psycopg

    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@contextlib.contextmanager
def _running(
    command: Sequence[str], port: int, *, user: str | None = None, folder: str | None = None
) -> Generator[None, None, None]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, user=user, cwd=folder)
        try:
            _wait_for_port(process, port)
            yield
        finally:
            process.send_signal(signal.SIGINT)  # PostgreSQL waits for its clients when it is told to terminate
            process.wait(_PATIENCE_SECONDS)


def _wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not start to listen")


def _server_user() -> str | None:
    """Return the user to run a server as that refuses to run as root; None stands for this one."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
