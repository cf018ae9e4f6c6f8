"""What one process measures of every model: timed alone, by the gate's engine, and beside another revision."""

from __future__ import annotations

import contextlib
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.slow_models import CPU_MODELS, GPU_MODELS, LEAST_ELEMENTS, MOST_ELEMENTS, PASSES, Busy, Make
from pytest_nnopt.baseline.schema import ProcessRecord, RatioRecord
from pytest_nnopt.measurement.allocator import keep_freed_memory
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.measurement.exclusive import exclusive
from pytest_nnopt.session.records import record_process
from pytest_nnopt.session.revisions import record_revisions
from pytest_nnopt.torch_backend.compiling import CompileStep, compile_copy, copy_side
from pytest_nnopt.torch_backend.isolation import isolated_compilation, probe_instruction_sets
from pytest_nnopt.torch_backend.pair import PairRequest, build_side
from pytest_nnopt.torch_backend.revisions import REVISIONS_PLAN, Maker, place_revisions, time_revisions
from pytest_nnopt.torch_backend.side import ExecutionMode, Side
from pytest_nnopt.torch_backend.threads import thread_count
from pytest_nnopt.torch_backend.timing import Timed, time_sides, timed_call

if TYPE_CHECKING:
    from benchmarks.quality.lanes import Lane

_ItemT = TypeVar("_ItemT")
_ResultT = TypeVar("_ResultT")

CLOSE_LIMITS = {"cpu": 0.02, "cuda": 0.01}
"""What the comparison with a stored baseline is held to besides, by device: a slowdown is found by a limit below it.
Processes are measured for it, the closest of the limits that they are judged by."""

SLOWDOWNS = {"cpu": (0.02, 0.05, 0.10, 0.20), "cuda": (0.01, 0.02, 0.05, 0.10)}
ALONE_SECONDS, ALONE_ROUNDS = 1.0, 500
_GRAIN = {"cpu": 1, "cuda": 2**15}
"""Elements of extra work are multiples of it: on a GPU odd sizes cost more than larger even ones."""

_CLEAR_COST = 0.4
"""Extra work is calibrated where it costs this much or more, so that noise hardly matters."""

Elements = dict[str, dict[str, int]]
"""By model and slowdown: the elements that cause it."""


@dataclass(frozen=True)
class Measured:
    """What one process measured of one model.

    Attributes:
        device: ``cpu`` or ``cuda``.
        model: name of the model.
        slowdown: what its extra work was calibrated to cost; 0 for none.
        is_stressed: whether a busy neighbour ran beside it.
        record: what the gate's engine measured.
        beside: its candidate over the unchanged one's, measured side by side; None where that was not done.
        alone: seconds per call of the compiled model, timed by itself, round by round.
        seconds: wall time of the gate's sample.
        beside_seconds: wall time of building, compiling and measuring two revisions, the compiler's cache being warm.
        start_seconds: wall time from the process's start until the first model could be measured.
    """

    device: str
    model: str
    slowdown: float
    is_stressed: bool
    record: ProcessRecord
    beside: RatioRecord | None
    alone: tuple[float, ...]
    seconds: float
    beside_seconds: float
    start_seconds: float

    def to_json(self, *, with_rounds: bool) -> dict[str, Any]:
        """Return it as JSON takes it; without the rounds it is small enough to be kept."""
        beside = None if self.beside is None else self.beside.model_dump(mode="json")
        kept = {**vars(self), "record": self.record.model_dump(mode="json", exclude_defaults=True), "beside": beside}
        return kept if with_rounds else {**kept, "alone": ()}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Measured:
        """Read what ``to_json`` returned."""
        beside = None if fields["beside"] is None else RatioRecord.model_validate(fields["beside"])
        record = ProcessRecord.model_validate(fields["record"])
        return cls(**{**fields, "record": record, "beside": beside, "alone": tuple(fields["alone"])})


@dataclass(frozen=True)
class Order:
    """What a process is to measure; with the comparison of two revisions, or without it."""

    slowdown: float
    is_stressed: bool
    seed: int
    with_base: bool


def models_for(device: torch.device) -> Mapping[str, Make]:
    """Return the models that are measured on a device."""
    return GPU_MODELS if device.type == "cuda" else CPU_MODELS


def eager_side(make: Make, elements: int, device: torch.device) -> Side:
    """Return the eager side of a model with so much extra work."""
    torch.manual_seed(0)
    model, x = make()
    mode = ExecutionMode.capture(is_training_step=False)
    return build_side(
        PairRequest(Busy(model, elements, PASSES[device.type]).eval(), (x,), {}, mode=mode), device=str(device)
    )


def time_alone(side: Side, device: torch.device) -> tuple[float, ...]:
    """Time calls of one side by itself, round after round, for about ``ALONE_SECONDS``."""
    run = timed_call(side)

    def time_calls(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / calls

    with side.mode.active():
        time_calls(3)
        calls = max(1, round(ALONE_SECONDS / ALONE_ROUNDS / time_calls(1)))
        rounds: list[float] = []
        began = time.perf_counter()
        while len(rounds) < 5 or (len(rounds) < ALONE_ROUNDS and time.perf_counter() - began < ALONE_SECONDS):
            rounds.append(time_calls(calls))
    return tuple(rounds)


def measure_here(order: Order, elements: Elements, device: torch.device) -> Iterator[Measured]:
    """Measure every model in this process."""
    began = time.perf_counter()
    makes = models_for(device)
    eager = {name: eager_side(make, LEAST_ELEMENTS[device.type], device) for name, make in makes.items()}
    changed = {name: eager_side(make, elements[name][str(order.slowdown)], device) for name, make in makes.items()}
    candidates = {name: compile_copy(side, CompileStep()) for name, side in changed.items()}
    start_seconds = time.perf_counter() - began
    alone = {name: time_alone(candidate, device) for name, candidate in candidates.items()}
    keep_freed_memory()
    for name, candidate in candidates.items():
        start = time.perf_counter()
        timed = time_sides([eager[name]], [candidate], device, Plan(seed=order.seed), limit=CLOSE_LIMITS[device.type])
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        beside = _measure_beside(changed[name], eager[name], device, order.seed) if order.with_base else None
        yield Measured(
            device.type,
            name,
            order.slowdown,
            order.is_stressed,
            record_process(timed),
            beside,
            alone[name],
            seconds,
            time.perf_counter() - start,
            start_seconds,
        )


def _measure_beside(head: Side, base: Side, device: torch.device, seed: int) -> RatioRecord:
    """Measure two versions as ``--nnopt-against`` does in one process; both belong to the same modules here."""
    makers = [_maker(side) for side in (head, base)]
    placed = place_revisions(makers[0], makers[1], device, random.Random(seed))
    timed = time_revisions(placed, makers[0], makers[1], device, replace(REVISIONS_PLAN, seed=seed))
    base_record = record_revisions(timed).base
    assert base_record is not None
    return base_record.candidate


def _maker(side: Side) -> Maker:
    return Maker(lambda: copy_side(side), lambda: compile_copy(side, CompileStep()), contextlib.nullcontext)


def calibrate(make: Make, device: torch.device) -> dict[str, int]:
    """Return how many elements cost a model the slowdowns, from the cost of many against the least."""
    least = LEAST_ELEMENTS[device.type]
    plain = compile_copy(eager_side(make, least, device), CompileStep())

    def cost_of(elements: int) -> float:
        slow = compile_copy(eager_side(make, elements, device), CompileStep())
        return _cost(time_sides([plain], [slow], device, Plan(), limit=0.0), plain, device)

    elements, cost = 4 * least, 0.0
    while cost < _CLEAR_COST and elements < MOST_ELEMENTS[device.type]:
        elements *= 4
        cost = cost_of(elements)
    found = {"0.0": least}
    for slowdown in SLOWDOWNS[device.type]:
        more = max(1, round((elements - least) * slowdown / cost))
        if device.type == "cuda":  # kernels' time repeats well enough to correct by it
            more = round(more * min(4.0, max(0.25, slowdown / max(cost_of(_rounded(least + more, device)), 1e-6))))
        found[str(slowdown)] = _rounded(least + more, device)
    return found


def _rounded(elements: int, device: torch.device) -> int:
    grain = _GRAIN[device.type]
    return max(1, round(elements / grain)) * grain


def _cost(timed: Timed, plain: Side, device: torch.device) -> float:
    """Return by how much the candidate is slower than the reference: in its own kernels' time on a GPU."""
    if timed.device is None:
        record = record_process(timed)
        return math.expm1(record.candidate_to_reference.log_ratio)
    before = time_sides([plain], [plain], device, Plan(), limit=0.0).device
    assert before is not None
    return timed.device.seconds_per_call / before.seconds_per_call - 1


def run_child(lane: Lane, task: str, request: Mapping[str, Any]) -> Any:
    """Run a task in a process of its own on a lane and return what it prints."""
    command = [sys.executable, "-m", "benchmarks.gate_quality", "--child", task]
    place = {"device": lane.torch_device.type, "gpu": lane.device if lane.is_gpu else None}
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env=lane.environment(),
        preexec_fn=lane.enter,  # a lane is entered before any thread of the child starts
        input=json.dumps({**place, **request}),
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def as_child(task: str, request: Mapping[str, Any]) -> Any:
    """Do a task that ``run_child`` asks for; on a GPU once no other process is at work there."""
    device = torch.device(request["device"])
    if device.type == "cpu":
        probe_instruction_sets()
    cache_dir = None if request["cache_dir"] is None else Path(request["cache_dir"])
    turn = exclusive(request["gpu"]) if request["gpu"] else contextlib.nullcontext()
    with turn, thread_count(None), torch.no_grad(), isolated_compilation(cache_dir=cache_dir):
        if task == "calibrate":
            return calibrate(models_for(device)[request["model"]], device)
        order = Order(**request["order"])
        found = measure_here(order, request["elements"], device)
        return [measured.to_json(with_rounds=True) for measured in found]


def calibrate_all(lanes: Sequence[Lane]) -> Elements:
    """Return the elements that cause the slowdowns of each model."""

    def calibrate_on(lane: Lane, model: str) -> tuple[str, dict[str, int]]:
        return model, run_child(lane, "calibrate", {"cache_dir": None, "model": model})

    names = list(models_for(lanes[0].torch_device))
    return dict(_spread("calibrating", calibrate_on, lanes, names))


def collect(
    lanes: Sequence[Lane],
    orders: Sequence[Order],
    elements: Elements,
    *,
    seconds: float,
    keep: Callable[[Sequence[dict[str, Any]]], None],
) -> None:
    """Measure as ordered, one process at a time on each lane; after so many seconds none is started any more.

    Processes share compiled code on a CPU and compile anew on a GPU, as the gate's own do. Where several lanes share a
    GPU, one process works on it while those of the others only import, since what they compile runs there, too.

    Args:
        lanes: where to measure.
        orders: what to measure.
        elements: of the extra work.
        seconds: after which none is started.
        keep: is given what each process measured as soon as it has ended.
    """
    with tempfile.TemporaryDirectory() as folder:

        def measure_on(lane: Lane, order: Order) -> None:
            cache_dir = None if lane.is_gpu else folder
            request = {"cache_dir": cache_dir, "order": vars(order), "elements": elements}
            with lane.busy_neighbour() if order.is_stressed else contextlib.nullcontext():
                keep(run_child(lane, "measure", request))

        _spread("measuring", measure_on, lanes, orders, seconds)


def _spread(
    what: str,
    work: Callable[[Lane, _ItemT], _ResultT],
    lanes: Sequence[Lane],
    items: Sequence[_ItemT],
    seconds: float = math.inf,
) -> list[_ResultT]:
    """Let lanes take items in turn until there are none left or so many seconds have passed; show how far they are."""
    queue: SimpleQueue[_ItemT] = SimpleQueue()
    for item in items:
        queue.put(item)
    results: list[_ResultT] = []
    deadline = time.monotonic() + seconds

    def take(lane: Lane) -> None:
        with contextlib.suppress(Empty):
            while time.monotonic() < deadline:
                results.append(work(lane, queue.get_nowait()))
                progress.advance(task)

    with Progress(console=Console(stderr=True)) as progress, ThreadPoolExecutor(len(lanes)) as pool:
        task = progress.add_task(what, total=len(items))
        for worker in [pool.submit(take, lane) for lane in lanes]:
            worker.result()
    return results
