from __future__ import annotations

import fcntl
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.session.protocol import Build, Channel, Measure, Ready, Refused, Sample, Stop
from tests.builders import make_process

MESSAGES = [
    Build(cache_dir="/cache"),
    Ready(environment={"device": "cpu"}),
    Measure(seed=3),
    Sample(process=make_process(0.1)),
    Refused(reason="größer\nals gedacht"),
    Stop(),
]


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    """A channel and the bare socket at its other end."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.type)
def test_a_message_arrives_as_it_was_sent(message: Any) -> None:
    here, there = map(Channel, socket.socketpair())
    here.send(message)
    assert there.receive(timeout_seconds=1) == message
    here.close()
    there.close()


def test_messages_arrive_in_order(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(b'{"type": "stop"}\n{"type": "measure", "seed": 1}\n')
    assert [channel.receive(), channel.receive()] == [Stop(), Measure(seed=1)]


def test_the_end_of_the_line_is_none(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.close()
    assert channel.receive() is None


def test_a_message_that_was_cut_short_is_none(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(b'{"type": "st')
    other.close()
    assert channel.receive() is None


def test_silence_is_an_error(ends: tuple[Channel, socket.socket]) -> None:
    with pytest.raises(MeasurementError, match="no answer within 0 s"):
        ends[0].receive(timeout_seconds=0.01)


def test_one_that_has_ended_is_gone_although_its_end_of_the_line_lives_on(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, other = ends
    other.sendall(b'{"type": "stop"}\n{"type": "st')
    assert channel.receive(timeout_seconds=60, is_gone=lambda: True) == Stop()
    assert channel.receive(timeout_seconds=60, is_gone=lambda: True) is None
    assert channel.receive(is_gone=lambda: True) is None


def test_a_line_of_any_number_is_heard() -> None:
    ours, theirs = socket.socketpair()
    high = fcntl.fcntl(ours, fcntl.F_DUPFD, 1100)
    ours.close()
    channel = Channel(socket.socket(fileno=high))
    theirs.sendall(b'{"type": "stop"}\n')
    assert channel.receive(timeout_seconds=1) == Stop()
    channel.close()
    theirs.close()


def test_what_one_said_last_is_heard_after_its_end(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends

    def ends_with_a_word() -> bool:
        other.sendall(b'{"type": "stop"}\n')
        return True

    assert channel.receive(timeout_seconds=60, is_gone=ends_with_a_word) == Stop()


def test_one_that_is_there_and_silent_is_waited_for_no_longer_than_that(ends: tuple[Channel, socket.socket]) -> None:
    with pytest.raises(MeasurementError, match="no answer within 1 s"):
        ends[0].receive(timeout_seconds=0.6, is_gone=lambda: False)


def test_sending_to_nobody_is_an_error(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.close()
    with pytest.raises(MeasurementError, match="the other side of the measuring process is gone"):
        channel.send(Stop())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"stop",
        b"{}",
        b'{"type": "dance"}',
        b'{"type": "measure"}',
        b'{"type": "stop", "now": true}',
        b'{"type": "sample", "process": {"log_ratio": NaN}}',
        b"\xff",
    ],
)
def test_what_is_no_message_is_an_error(ends: tuple[Channel, socket.socket], line: bytes) -> None:
    channel, other = ends
    other.sendall(line + b"\n")
    with pytest.raises(MeasurementError, match="not a message"):
        channel.receive()


def test_a_line_without_end_is_an_error(ends: tuple[Channel, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_nnopt.session.protocol._LONGEST_LINE_BYTES", 1000)
    channel, other = ends
    other.sendall(b"x" * 2000)
    with pytest.raises(MeasurementError, match="not a message: it has more than 1000 bytes"):
        channel.receive()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100).map(lambda line: line.replace(b"\n", b"")))
def test_any_line_is_a_message_or_an_error(ends: tuple[Channel, socket.socket], line: bytes) -> None:
    channel, other = ends
    other.sendall(line + b"\n")
    with pytest.raises(MeasurementError, match="not a message"):
        channel.receive()
    other.sendall(b'{"type": "stop"}\n')
    assert channel.receive() == Stop()
