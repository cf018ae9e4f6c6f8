"""One case on several ranks: each builds, compares and times its own part, and all know what came of it together."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_nnopt.errors import PairError
from pytest_nnopt.measurement.exclusive import exclusive
from pytest_nnopt.session.case import CaseRun
from pytest_nnopt.session.joining import (
    join_comparisons_of_ranks,
    join_compile_times,
    join_environments,
    join_facts,
    join_memory,
    join_origins,
    join_processes,
    join_work,
)
from pytest_nnopt.session.records import record_process
from pytest_nnopt.torch_backend.facts import device_key
from pytest_nnopt.torch_backend.pair import device_of
from pytest_nnopt.torch_backend.quiet import torch_kept_quiet
from pytest_nnopt.torch_backend.threads import default_threads

if TYPE_CHECKING:
    import torch

    from pytest_nnopt.baseline.schema import MemoryRecord, OriginRecord, ProcessRecord, WorkRecord
    from pytest_nnopt.config import CaseConfig
    from pytest_nnopt.environment import Environment
    from pytest_nnopt.measurement.engine import Plan
    from pytest_nnopt.model import CompileTime
    from pytest_nnopt.numerics import NumericsComparison
    from pytest_nnopt.torch_backend.compiling import CompiledSide
    from pytest_nnopt.torch_backend.pair import PairRequest
    from pytest_nnopt.torch_backend.team import Team

_ResultT = TypeVar("_ResultT")

BLOCK_SECONDS = 0.02
"""As ``measurement.engine.Plan``'s, but longer: ranks start a timing some ten microseconds apart."""


class RankedRun(CaseRun):
    """The measuring of one case on one rank; what it returns is the same on all of them.

    Every property is asked for on all ranks in the same order, since each gathers what the ranks found.

    Args:
        team: the ranks.
        request: what the test handed over on this rank.
        config: what the case is held against.
        threads: how many threads each rank computes with; None shares out half of the usable cores.
        others: as of ``CaseRun``.
    """

    is_shared = True

    def __init__(
        self, team: Team, request: PairRequest, config: CaseConfig, *, threads: int | None = None, **others: Any
    ) -> None:
        threads = max(1, default_threads() // team.size) if threads is None else threads
        super().__init__(request, config, threads=threads, **others)
        self.team = team

    @cached_property
    def environment(self) -> Environment:
        """The fingerprint of the ranks, which is one, with their number.

        Raises:
            MeasurementError: the ranks differ.
            PairError: two ranks share a GPU.
        """
        keys = self.team.gather(device_key(device_of(self.reference)))
        if "cpu" not in keys and len(set(keys)) < len(keys):
            raise PairError(
                f"{self.team.size} ranks share {len(set(keys))} GPU; each needs one of its own: ask for fewer ranks, "
                "or run with --nnopt-device=cpu"
            )
        return join_environments(self.team.gather(super().environment))

    @cached_property
    def built(self) -> CompiledSide:
        """This rank's candidate, with the facts of all ranks; none where it is missing on any."""
        _ = self.environment  # ranks that do not fit together would wait for each other for ever
        own = super().built
        sides = self.team.gather(own.side is not None)
        facts = join_facts(self.team.gather(own.facts))
        return replace(own, facts=facts, side=own.side if all(sides) else None)

    @cached_property
    def cache_root(self) -> Path:
        """A directory of all ranks, in which each has one of its own."""
        made = self.team.by_lead(lambda: self._scope.enter_context(tempfile.TemporaryDirectory(prefix="nnopt-")))
        return Path(made)

    @cached_property
    def cache_dir(self) -> Path:
        """Where this rank's compiled code is kept."""
        return self._own_place(self.cache_root)

    def prepare_timing(self, cache_dir: Path) -> None:
        """Build both sides, with compiled code kept in this rank's part of ``cache_dir``."""
        super().prepare_timing(self._own_place(cache_dir))

    def by_lead(self, work: Callable[[], _ResultT]) -> _ResultT:
        """Do something on rank 0 alone, and return on every rank what it came to."""
        return self.team.by_lead(work)

    @cached_property
    def numerics(self) -> NumericsComparison | None:
        """How far the candidate's numbers are from the reference's, on every rank."""
        found = [one for one in self.team.gather(super().numerics) if one is not None]
        return join_comparisons_of_ranks(found) if found else None

    @cached_property
    def origin(self) -> OriginRecord:
        """Digests over the inputs and parameters of all ranks."""
        return join_origins(self.team.gather(super().origin))

    def _measure(
        self, plan: Plan, turn: Callable[[], None] | None = None, *, has_kernels: bool = True
    ) -> ProcessRecord:
        """Time both sides on all ranks at once; there are no turns, which two revisions take."""
        assert turn is None
        candidate = self.require_candidate()
        device = device_of(self.reference)
        plan = replace(plan, block_seconds=BLOCK_SECONDS)
        with self._exclusively(device), torch_kept_quiet():
            timed = self._time_sides(candidate, plan, has_kernels=has_kernels, team=self.team)
        return join_processes(self.team.gather(record_process(timed, self.compiled_anew)))

    @cached_property
    def memory(self) -> MemoryRecord | None:
        """Bytes per call of both sides, of the rank that needs most."""
        found = [one for one in self.team.gather(super().memory) if one is not None]
        return join_memory(found) if found else None

    @cached_property
    def compile_time(self) -> CompileTime | None:
        """What compiling the candidate costs, on the rank where it costs most. To be asked for last."""
        found = [one for one in self.team.gather(super().compile_time) if one is not None]
        return join_compile_times(found) if found else None

    @cached_property
    def work(self) -> WorkRecord | None:
        """What one call of the eager side does on all ranks; None where it cannot be counted."""
        found = self.team.gather(super().work)
        known = [one for one in found if one is not None]
        return join_work(known) if len(known) == len(found) else None

    def _own_place(self, cache_dir: Path) -> Path:
        return cache_dir / f"rank{self.team.rank}"

    @contextlib.contextmanager
    def _exclusively(self, device: torch.device) -> Iterator[None]:
        """Have all devices of the team: rank 0 takes them in one order, so that no two teams wait for each other."""
        keys = sorted(set(self.team.gather(device_key(device))))
        with contextlib.ExitStack() as held:
            if self.team.is_lead:
                for key in keys:
                    held.enter_context(exclusive(key))
            self.team.meet()
            yield
            self.team.meet()
