"""What holds for every case of a run: its settings, its baselines, and what it asks."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_nnopt.baseline.anchor import anchor_of
from pytest_nnopt.baseline.compilation import CompileLevel, foreign_compilation
from pytest_nnopt.baseline.elsewhere import Elsewhere, level_elsewhere
from pytest_nnopt.baseline.level import comparable_recordings, level_of, levels_of, unused_recordings
from pytest_nnopt.baseline.numbers import VALUE_FIELDS, NumericsLevel, foreign_numerics
from pytest_nnopt.baseline.schema import Evidence
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.config import CaseConfig, Settings, load_settings, read_pyproject, resolve_case
from pytest_nnopt.environment import Match, fields_to_match
from pytest_nnopt.errors import ConfigError, CrowdedError
from pytest_nnopt.history.baselines import SharedBaselines
from pytest_nnopt.model import CheckName
from pytest_nnopt.session.budget import Budget
from pytest_nnopt.session.progress import NoProgress, Progress
from pytest_nnopt.session.sharing import Sharing, is_added, open_shared_history
from pytest_nnopt.statistics.family import plan_for_suite
from pytest_nnopt.statistics.prior import (
    DEFAULT_CPU_PRIOR,
    DEFAULT_GPU_PRIOR,
    DEFAULT_YARDSTICK_PRIOR,
    VariancePrior,
    pool_variances,
    sample_variance,
)
from pytest_nnopt.statistics.sequential import SequentialPlan
from pytest_nnopt.verdict import Question, even_estimates
from pytest_nnopt.verdict.absolute import absolute_estimates

if TYPE_CHECKING:
    from pytest_nnopt.baseline.imported import ImportedTime
    from pytest_nnopt.baseline.schema import CaseBaseline, Recording
    from pytest_nnopt.baseline.source import BaselineSource
    from pytest_nnopt.environment import Environment
    from pytest_nnopt.results import CaseResult
    from pytest_nnopt.session.base import Base
    from pytest_nnopt.session.case import CaseRun
    from pytest_nnopt.session.processes import Launch
    from pytest_nnopt.session.revisions import GuestRole
    from pytest_nnopt.session.standby import Standby
    from pytest_nnopt.session.worker import WorkerRole
    from pytest_nnopt.torch_backend.team import Team

_PROCESSES_OF_A_MISSING_BASELINE = 3
"""Processes recorded by a run whose purpose was to compare: enough to start from, few enough not to hold it up."""

Markers = Mapping[str, Sequence[Mapping[str, Any]]]
"""Section name to the keyword arguments of each marker of that section, closest to the test first."""


class Purpose(str, Enum):
    """What a run does with baselines."""

    CHECK = "check"
    COMPARE = "compare"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class _Priors:
    """What is believed about the variance between processes: of times over eager's, and over the fixed workload's."""

    relative: VariancePrior
    absolute: VariancePrior


@dataclass(frozen=True, slots=True)
class _Variances:
    """What each level of an environment varies by between processes, with its degrees of freedom; see ``_Priors``."""

    relative: list[tuple[float, int] | None] = field(default_factory=list)
    absolute: list[tuple[float, int] | None] = field(default_factory=list)


@dataclass
class Gate:
    """The gate of one run.

    Attributes:
        settings: run-wide settings.
        store: the baseline directory.
        shared: the last runs in the shared history, where they take the directory's place.
        sharing: adds this run to the shared history; None where it is not added.
        purpose: what the run does with baselines.
        launch: how to start measuring processes; None measures in this process alone.
        worker: makes this run a measuring process; None for an ordinary run.
        base: the revision to compare with; None where baselines are stored ones.
        run_beside: runs the base's test of a node id in this process, which measures it together with the head's case.
        configs: the configuration of each test that uses ``model_pair``, by node id.
        earlier: what the last attempt at a case in this run came to, by case id; a rerun adds to its evidence.
        root: pytest's rootdir, below which repros of failures are written; None writes none.
        replay: folder of a repro, whose inputs and parameters take the place of the test's own.
        is_update_of_new: whether an update leaves cases alone that have a baseline.
        reason: the user's words for accepting a worse figure.
        progress: follows the measuring.
        team: the ranks that run this test together, seen from this one; None where it runs in one process.
        crowded: why cases cannot run on a GPU here; None where they can.
        standby: keeps a measuring process for the test that runs now or next; None where none is started.
        suite_size: how many cases are decided on together, those of other shards included; 0 where only these are.
    """

    settings: Settings
    store: BaselineStore
    purpose: Purpose
    shared: SharedBaselines | None = None
    sharing: Sharing | None = None
    launch: Launch | None = None
    worker: WorkerRole | GuestRole | None = None
    base: Base | None = None
    run_beside: Callable[[str, WorkerRole, CaseRun], None] | None = None
    configs: dict[str, CaseConfig] = field(default_factory=dict)
    earlier: dict[str, CaseResult] = field(default_factory=dict)
    is_update_of_new: bool = False
    reason: str | None = None
    root: Path | None = None
    replay: Path | None = None
    progress: Progress = field(default_factory=NoProgress)
    team: Team | None = None
    crowded: str | None = None
    standby: Standby | None = None
    suite_size: int = 0
    _upcoming: str | None = None
    _variables: dict[str, str] = field(default_factory=dict)
    _variances: dict[str, _Variances] = field(default_factory=dict)
    _priors: dict[str, _Priors] = field(default_factory=dict)
    _spent_seconds: float = 0.0

    @property
    def variables(self) -> Mapping[str, str] | None:
        """The environment before the fixtures of the running test; None where no test has begun."""
        return self._variables or None

    @property
    def source(self) -> BaselineSource:
        """Where the levels to compare with are."""
        return self.store if self.shared is None else self.shared

    @contextlib.contextmanager
    def spending(self, now: Callable[[], float] = time.monotonic, *, is_recording: bool = False) -> Iterator[Budget]:
        """Give a case's timing the time that it may take, and charge the suite for what it took.

        A recording takes what its processes take, as long as the suite's budget lasts.
        """
        settings = self.settings
        of_case = math.inf if is_recording else settings.budget
        start = now()
        try:
            yield Budget.of(of_case, settings.suite_budget, self._spent_seconds)
        finally:
            self._spent_seconds += now() - start

    def prepare(self, markers: Mapping[str, Markers]) -> None:
        """Check what the tests ask for and what is stored about them, before anything is measured.

        Args:
            markers: the markers of each test by node id.

        Raises:
            ConfigError: a marker is wrong; every wrong one is named.
            BaselineError: a stored baseline cannot be relied upon.
        """
        if self.settings.device is not None:
            self.require_room(self.settings.device)
        problems = []
        for test_id, sections in markers.items():
            try:
                self.configs[test_id] = resolve_case(self.settings, sections, test_id)
            except ConfigError as error:
                problems.append(str(error))
                continue
            if self.base is not None and self.configs[test_id].ranks.count is not None:
                problems.append(f"{test_id}: nnopt_ranks does not work with --nnopt-against; compare with a baseline")
        if problems:
            raise ConfigError("\n".join(problems))
        if self.purpose is not Purpose.CHECK and self.worker is None:
            self.source.verify(markers, learn=self._learn)

    def require_room(self, device: str) -> None:
        """Refuse to run on a GPU that other processes of this run use as well.

        Raises:
            CrowdedError: there are more processes than GPUs.
        """
        if self.crowded is not None and device.startswith("cuda"):
            raise CrowdedError(self.crowded)

    def begin_test(self, test_id: str, upcoming: str | None, variables: Mapping[str, str]) -> None:
        """Have a measuring process on its way for a test that begins, as far as it is known to be timed on a GPU.

        Args:
            test_id: node id of the test, which need not have a case.
            upcoming: that of the test after it; None where it is the last.
            variables: the environment before the test's fixtures change it.
        """
        self._upcoming, self._variables = upcoming, dict(variables)
        if self.standby is not None:
            self.standby.dismiss(unless_for=(test_id, upcoming))
        self._stand_by(test_id, self.settings.device)

    def look_to_next_test(self, device: str) -> None:
        """Have a measuring process on its way for the next test, which is thought to compute where this one does."""
        self._stand_by(self._upcoming, device)

    def _stand_by(self, test_id: str | None, device: str | None) -> None:
        """Have a measuring process on its way for a test where its cases will be timed on a GPU.

        There every process compiles anew, so that importing is not hidden behind anything else, and the host has cores
        to spare.
        """
        is_on_gpu = device is not None and device.startswith("cuda") and self.crowded is None
        if self.standby is not None and is_on_gpu and test_id in self.configs and self._is_timed(self.configs[test_id]):
            self.standby.call(test_id, self._variables)

    def _is_timed(self, config: CaseConfig) -> bool:
        """Whether times of a case are taken in processes that a standby can be one of."""
        if self.base is not None or config.ranks.count is not None:
            return False
        is_declared = config.speedup.min is not None and self.settings.is_asked(CheckName.SPEEDUP)
        is_stored = any(map(self.settings.is_asked, (CheckName.LATENCY, CheckName.DEVICE_TIME)))
        return is_declared or (is_stored and self.purpose is not Purpose.CHECK)

    def all_at_rest(self) -> contextlib.AbstractContextManager[None]:
        """Have nothing that this run has started import meanwhile."""
        return contextlib.nullcontext() if self.standby is None else self.standby.at_rest()

    def question(self, case_id: str, test_id: str, environment: Environment) -> Question:
        """Say what a case is asked in this run and what it is compared with.

        Raises:
            BaselineError: the case's baseline cannot be relied upon.
        """
        level, missing_reason = self.level(case_id, environment)
        is_updating = self._is_updating(level)
        times = self._elsewhere("times", case_id, environment, level)
        priors = self._priors_of(environment)
        return Question(
            case_id=case_id,
            config=self.configs[test_id],
            device=str(environment.fields["device"]),
            asked=frozenset(name for name in CheckName if self.settings.is_asked(name)),
            prior=priors.relative,
            absolute_prior=priors.absolute,
            recorded_processes=self._recorded_processes(level),
            plan=self._plan(),
            is_comparing=self.purpose is Purpose.COMPARE,
            is_updating=is_updating,
            baseline=level if times is None else self._times_alone(times.evidence),
            missing_reason=missing_reason,
            unused=unused_recordings(self.source, case_id, environment) if missing_reason else "",
            is_recording_missing=self._is_recording_missing,
            foreign_times=times,
            foreign_memory=self._elsewhere("memory", case_id, environment, level),
            anchor=self._anchor(case_id, environment),
            imported=self._imported(case_id) if level is None and times is None else None,
            foreign_compilation=self._foreign_compilation(case_id, environment, level),
            foreign_numerics=self._foreign_numerics(case_id, environment, level),
        )

    def _times_alone(self, evidence: Evidence) -> Evidence:
        """Return the times of another environment, and the model's work where the same operators count there."""
        is_alike = self.settings.matching.times is not Match.ANY
        return Evidence(timing=evidence.timing, work=evidence.work if is_alike else None)

    @property
    def _is_recording_missing(self) -> bool:
        """Whether what is missing is recorded, and there is somewhere to record it."""
        return self.settings.missing == "record" and (self.shared is None or self.sharing is not None)

    def _is_updating(self, level: Evidence | None) -> bool:
        return self.purpose is Purpose.UPDATE and not (self.is_update_of_new and level is not None)

    def _anchor(self, case_id: str, environment: Environment) -> Recording | None:
        """Return the best level that was accepted, where it is not the present one."""
        if self.purpose is Purpose.CHECK:
            return None
        return anchor_of(self.source.read(environment.name, case_id), environment.digest)

    def _imported(self, case_id: str) -> ImportedTime | None:
        """Return what another tool recorded of a case."""
        return None if self.purpose is Purpose.CHECK else self.store.imported().get(case_id)

    def _required(self, kind: str, environment: Environment) -> tuple[str, ...]:
        """Return the fields in which another environment must agree to serve for figures of a kind."""
        return fields_to_match(kind, getattr(self.settings.matching, kind), str(environment.fields["device"]))

    def _elsewhere(self, kind: str, case_id: str, environment: Environment, level: Evidence | None) -> Elsewhere | None:
        """Return a level of another environment to compare figures of a kind with, where this one has none."""
        match = getattr(self.settings.matching, kind)
        part = "timing" if kind == "times" else kind
        is_wanted = level is None if kind == "times" else level is None or not getattr(level, part)
        if self.purpose is not Purpose.COMPARE or match is Match.EXACT or not is_wanted:
            return None
        required = self._required(kind, environment)
        return level_elsewhere(self.source, case_id, environment, required, lambda evidence: getattr(evidence, part))

    def _foreign_compilation(
        self, case_id: str, environment: Environment, level: Evidence | None
    ) -> CompileLevel | None:
        """Return a compilation of another environment to compare with where this one has none."""
        match = self.settings.matching.compile
        has_own = level is not None and level.compile is not None
        if self.purpose is not Purpose.COMPARE or has_own or match is Match.EXACT:
            return None
        return foreign_compilation(self.source, case_id, environment, self._required("compile", environment))

    def _foreign_numerics(self, case_id: str, environment: Environment, level: Evidence | None) -> NumericsLevel | None:
        """Return numbers of another environment to compare with where this one has none."""
        match = self.settings.matching.numerics
        if self.purpose is not Purpose.COMPARE or (level is not None and level.numerics) or match is Match.EXACT:
            return None
        required = VALUE_FIELDS if match is Match.COMPATIBLE else self._required("numerics", environment)
        return foreign_numerics(self.source, case_id, environment, required)

    def _plan(self) -> SequentialPlan:
        """Return what the timing of a case may cost in errors, so that the whole suite keeps its rate, too."""
        plan = SequentialPlan(false_alarms=self.settings.false_alarms)
        suite_size = max(1, len(self.configs), self.suite_size)
        return plan_for_suite(plan, suite_size, suite_false_alarms=self.settings.suite_false_alarms)

    def _recorded_processes(self, level: Evidence | None) -> int:
        if self._is_updating(level):
            return self.settings.processes
        is_recording = self.purpose is Purpose.COMPARE and level is None and self._is_recording_missing
        return min(self.settings.processes, _PROCESSES_OF_A_MISSING_BASELINE) if is_recording else 0

    def level(self, case_id: str, environment: Environment) -> tuple[Evidence | None, str]:
        """Return the accepted level of a case in an environment, or None and why there is none.

        Raises:
            BaselineError: the case's baseline cannot be relied upon.
        """
        if self.purpose is Purpose.CHECK:
            return None, ""
        recordings, missing_reason = comparable_recordings(self.source, case_id, environment)
        return level_of(recordings), missing_reason

    def recorded(self, case_id: str, environment: Environment) -> tuple[tuple[Recording, ...], Environment | None]:
        """Return the recordings of a case that may be compared with, and the fingerprint that they were made under.

        Where none may be compared with, the fingerprint is that of the newest recording in a like environment.

        Raises:
            BaselineError: the case's baseline cannot be relied upon.
        """
        baseline = None if self.purpose is Purpose.CHECK else self.source.read(environment.name, case_id)
        if baseline is None:
            return (), None
        usable = tuple(recording for recording in baseline.recordings if recording.environment == environment.digest)
        newest = (usable or baseline.recordings)[-1]
        return usable, self.source.fingerprint(environment.name, newest.environment)

    def _priors_of(self, environment: Environment) -> _Priors:
        """Return what all baselines of an environment teach about the variance between processes."""
        if environment.name not in self._priors:
            fallback = DEFAULT_CPU_PRIOR if environment.fields["device"] == "cpu" else DEFAULT_GPU_PRIOR
            seen = self._variances.get(environment.name, _Variances())
            self._priors[environment.name] = _Priors(
                pool_variances(seen.relative, fallback=fallback),
                pool_variances(seen.absolute, fallback=DEFAULT_YARDSTICK_PRIOR),
            )
        return self._priors[environment.name]

    def _learn(self, environment_name: str, baseline: CaseBaseline) -> None:
        """Keep what a baseline teaches about the variance between processes."""
        seen = self._variances.setdefault(environment_name, _Variances())
        for level in levels_of(baseline):
            seen.relative.append(sample_variance(even_estimates(level.timing)))
            seen.absolute.append(sample_variance(absolute_estimates(level.timing)))


def open_gate(
    root: Path,
    command_line: Mapping[str, Any],
    purpose: str,
    *,
    launch: Launch | None = None,
    worker: WorkerRole | GuestRole | None = None,
    is_update_of_new: bool = False,
    reason: str | None = None,
) -> Gate:
    """Open the gate of a run.

    Args:
        root: directory of the project, where its pyproject.toml is.
        command_line: settings given there; None means not given.
        purpose: value of a ``Purpose``.
        launch: how to start measuring processes.
        worker: makes the run a measuring process.
        is_update_of_new: whether an update leaves cases alone that have a baseline.
        reason: the user's words for accepting a worse figure.

    Raises:
        ConfigError: a setting is unknown or impossible.
        HistoryError: what the shared history needs is not installed.
    """
    settings = load_settings(read_pyproject(root / "pyproject.toml"), command_line)
    is_update = purpose == Purpose.UPDATE.value
    history = None if purpose == Purpose.CHECK.value or worker is not None else open_shared_history(settings)
    shared = None
    if history is not None and settings.baseline_from == "history":
        shared = SharedBaselines(history, branch=settings.history_branch, runs=settings.history_runs)
    is_shared = history is not None and is_added(settings, is_update=is_update)
    return Gate(
        settings,
        BaselineStore(root / settings.baseline_dir),
        Purpose(purpose),
        shared=shared,
        sharing=Sharing(history, root, makes_levels=shared is not None) if history is not None and is_shared else None,
        launch=launch,
        worker=worker,
        is_update_of_new=is_update_of_new,
        reason=reason,
    )
