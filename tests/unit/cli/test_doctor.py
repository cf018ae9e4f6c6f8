"""A diagnosis from what the processes of an A/A run found; how well this machine measures decides nothing here."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.cli import doctor
from pytest_nnopt.cli.doctor import describe, diagnose
from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.measurement.machine import ConcernKind, HostReading
from pytest_nnopt.measurement.surroundings import Neighbour, Surroundings
from pytest_nnopt.session import identical
from pytest_nnopt.session.identical import IdenticalRun, measure_identical, run_identical
from tests.builders import make_environment, make_process

if TYPE_CHECKING:
    from conftest import Nnopt  # type: ignore[import-not-found]

HOST = HostReading(0.0, 0.0, usable_cores=2, governors=frozenset({"performance"}), thermal_stops=3)
AROUND = Surroundings(2, (2600.0, 2600.0), None, None, 0.25, (Neighbour(12, "python3", 0.5),))
QUIET = (0.001, -0.001, 0.002, -0.002)


class Terminal(io.StringIO):
    """A terminal that keeps what it is told."""

    def isatty(self) -> bool:
        return True


def make_run(log_ratio: float, gpu: dict[str, int | None] | None = None, **concerns: Any) -> IdenticalRun:
    process = make_process(log_ratio).model_copy(update={"concerns": concerns})
    return IdenticalRun(environment=dict(make_environment().fields), process=process, gpu=gpu or {})


def test_a_quiet_machine_is_fit_and_told_what_it_can_find() -> None:
    diagnosis = diagnose([make_run(x) for x in QUIET], HOST, AROUND)
    assert diagnosis.is_fit
    *state, apart, varies, detectable, advice = describe(diagnosis)
    assert state == [
        "cpu-amd-epyc-2c-torch2.13",
        "  usable cores: 2",
        "  threads: 2",
        "  quota: none",
        "  governor: performance",
        "  thermal stops: 3 since boot",
        "  clocks: 2600 MHz",
        "  temperature: unknown: there is no sensor",
        "  other load: 25.0 % of the 2 usable cores; of one core: python3 (12) 50.0 %",
        "A/A run of 4 processes, identical code on both sides",
    ]
    assert apart.startswith("  seems +0.00 % apart [-")
    assert varies == "  one process varies by 0.18 % from the next, by 0.10 % in itself"
    assert "limit 10.0 %, baseline of 10 processes: " in detectable
    assert advice.startswith("fit to find slowdowns of ")


def test_more_noise_leaves_more_unseen() -> None:
    quiet, noisy = (diagnose([make_run(factor * x) for x in QUIET], HOST, AROUND).noise for factor in (1, 50))
    assert noisy.detectable_last > quiet.detectable_last >= quiet.limit == 0.10
    assert quiet.detectable_first > quiet.detectable_last


def test_identical_code_that_seems_to_differ_is_unfit() -> None:
    diagnosis = diagnose([make_run(0.2 + x) for x in QUIET], HOST, AROUND)
    assert diagnosis.noise.is_biased
    assert not diagnosis.is_fit
    assert describe(diagnosis)[-1].startswith("not fit: identical code seems to differ")


def test_concerns_are_counted_with_what_to_do() -> None:
    runs = [
        make_run(0.0),
        make_run(0.0, load="others are busy; stop them"),
        make_run(0.0, load="others are busy; stop them"),
    ]
    diagnosis = diagnose(runs, HostReading(0.0, 0.0, 2, quota_cores=1.5), AROUND)
    lines = describe(diagnosis)
    assert "  concern, in 2 of 3 processes: others are busy; stop them" in lines
    assert "  quota: 1.5 cores" in lines
    assert "  governor: unknown: the kernel does not tell, as in most VMs" in lines
    assert "  thermal stops: unknown" in lines
    assert lines[-1].startswith("not fit as it is")


def test_a_gpu_is_described_and_held_to_its_own_limit() -> None:
    fields = {**make_environment().fields, "device": "cuda", "gpu": "NVIDIA H200"}
    runs = [
        make_run(
            x, {"clock_mhz": 1980, "event_reasons": 0x44, "foreign_processes": None, "thermal_nanoseconds": 2_000_000}
        ).model_copy(update={"environment": fields})
        for x in QUIET
    ]
    diagnosis = diagnose(runs, HOST, AROUND)
    assert diagnosis.environment == "nvidia-h200-torch2.13"
    assert diagnosis.noise.limit == 0.05
    told = {name: value for name, value in diagnosis.facts.items() if "GPU" in name}
    assert told == {
        "GPU clock": "1980 MHz",
        "GPU clocks held down by": "the power limit, heat (hardware)",
        "GPU slowed by heat": "2 ms since its driver started",
        "other processes on the GPU": "unknown",
    }
    free = [make_run(x, {"event_reasons": 0}).model_copy(update={"environment": fields}) for x in QUIET]
    assert diagnose(free, HOST, AROUND).facts["GPU clocks held down by"] == "nothing"


def test_one_process_says_nothing_of_the_next() -> None:
    assert "varies by unknown of one process from the next" in "\n".join(
        describe(diagnose([make_run(0.0)], HOST, AROUND))
    )


@pytest.mark.parametrize(
    ("kind", "is_fit", "words"),
    [
        (ConcernKind.GPU_HELD, True, "fit to find slowdowns of "),
        (ConcernKind.LOAD, False, "not fit as it is: see the concerns above; the gate still runs, and asks for more"),
        (ConcernKind.GPU_SHARED, False, "not fit: see the concerns above; the gate judges no times where half of its"),
    ],
)
def test_a_concern_counts_by_what_it_does_to_the_gate(kind: ConcernKind, is_fit: bool, words: str) -> None:
    diagnosis = diagnose([make_run(x, None, **{kind.value: "a reason"}) for x in QUIET], HOST, AROUND)
    assert diagnosis.is_fit is is_fit
    *_, concern, _, _, _, _, advice = describe(diagnosis)
    assert concern == "  concern, in 4 of 4 processes: a reason"
    assert advice.startswith(words)


@pytest.mark.parametrize(
    ("load", "strict", "status"), [({}, True, 0), ({"load": "busy"}, True, 1), ({"load": "busy"}, False, 0)]
)
def test_the_status_says_it_where_that_is_asked(
    load: dict[str, Any], strict: bool, status: int, nnopt: Nnopt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "run_identical", lambda seed, device: make_run(QUIET[seed], **load))
    said = nnopt("doctor", "--json", *(["--strict"] if strict else []))
    assert said.status == status
    assert said.err == ""
    assert said.json()["is_fit"] is not bool(load)
    assert said.json()["noise"]["processes"] == 4


def test_who_waits_at_a_terminal_is_told_how_far_it_is(nnopt: Nnopt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "run_identical", lambda seed, device: make_run(QUIET[seed]))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    nnopt("doctor", "--processes=2")
    assert "process 2 of 2" in terminal.getvalue()


def test_an_impossible_device_is_refused(nnopt: Nnopt) -> None:
    assert "is no device; write 'cpu', 'cuda' or 'cuda:N'" in nnopt("doctor", "--device=tpu").err


def test_identical_code_is_measured_as_a_case_is() -> None:
    run = measure_identical(0, "cpu")
    assert run.environment["device"] == "cpu"
    assert set(run.process.seconds) == {"reference", "candidate", "yardstick"}
    assert run.process.candidate_to_reference.blocks >= 10
    assert run.gpu == {}


def test_a_process_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(MeasurementError, match="the A/A run failed with status 1:"):
        run_identical(0, None)


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identical, "_PROCESS_SECONDS", 0.01)
    with pytest.raises(MeasurementError, match="the A/A run took more than 0 s"):
        run_identical(0, "cpu")
