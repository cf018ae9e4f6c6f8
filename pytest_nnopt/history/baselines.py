"""The last runs on a branch as baselines: the shared history read as ``baseline.store.BaselineStore`` is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.anchor import anchors_with
from pytest_nnopt.baseline.level import with_recording
from pytest_nnopt.baseline.paths import test_of
from pytest_nnopt.baseline.schema import CaseBaseline
from pytest_nnopt.environment import Environment
from pytest_nnopt.history.schema import Selection

if TYPE_CHECKING:
    from pytest_nnopt.history.schema import Entry, Label
    from pytest_nnopt.history.store import HistoryStore

_LOOKED_AT = 1000
"""Newest sound entries of a case that are looked at, of all environments together."""
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class _Known:
    """What the history holds of a case.

    Attributes:
        baselines: by the environment's name.
        environments: fingerprints by digest.
    """

    baselines: dict[str, CaseBaseline] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)


class SharedBaselines:
    """Baselines made of the last sound runs on a branch. Each case is read once.

    A run replays what ``--nnopt-update`` does to a file: its evidence joins the level, and one that an update accepted
    as another level starts a new one. A run that failed never becomes part of a level.

    Args:
        store: the shared history.
        branch: whose runs count.
        runs: how many of them make a level.
    """

    def __init__(self, store: HistoryStore, *, branch: str, runs: int) -> None:
        self._store = store
        self._branch = branch
        self._runs = runs
        self._known: dict[str, _Known] = {}

    @property
    def name(self) -> str:
        """Where the baselines are, in words."""
        return f"the last {self._runs} sound runs on {self._branch!r} in {self._store.name}"

    @property
    def remedy(self) -> str:
        """How a missing baseline comes into being."""
        return (
            f"let {self._branch!r} run pytest --nnopt-baseline --nnopt-missing=record once: it is made of {self.name}, "
            "and one that failed does not count"
        )

    def verify(
        self, test_ids: Iterable[str] | None = None, *, learn: Callable[[str, CaseBaseline], None] | None = None
    ) -> None:
        """Read the history of these tests' cases, or of all, so that it is found sound before anything is measured.

        Args:
            test_ids: the tests; None stands for all.
            learn: is told each environment's baselines as they are read.

        Raises:
            HistoryError: an entry cannot be relied upon, or the store does not answer.
        """
        wanted = None if test_ids is None else set(test_ids)
        cases = [case for case in self._store.cases() if wanted is None or test_of(case, wanted) is not None]
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            for case, known in zip(cases, pool.map(self._load, cases), strict=True):
                self._known[case] = known
                if learn is not None:
                    for name, baseline in known.baselines.items():
                        learn(name, baseline)
        finally:
            pool.shutdown(cancel_futures=True)  # a store that does not answer is not asked for the other cases, too

    def read(self, environment_name: str, case_id: str) -> CaseBaseline | None:
        """Return a case's baseline, or None where no sound run has it.

        Raises:
            HistoryError: an entry cannot be relied upon, or the store does not answer.
        """
        return self._of(case_id).baselines.get(environment_name)

    def read_all(self, environment_name: str) -> list[CaseBaseline]:
        """Return the baselines of an environment that were verified or asked for."""
        found = (self._known[case].baselines.get(environment_name) for case in sorted(self._known))
        return [baseline for baseline in found if baseline is not None]

    def cases(self, environment_name: str) -> list[str]:
        """Name the cases that were verified or asked for and have a baseline in an environment."""
        return [baseline.case for baseline in self.read_all(environment_name)]

    def fingerprint(self, environment_name: str, digest: str) -> Environment | None:
        """Return a recorded fingerprint, or None where it is unknown."""
        found = (known.environments.get(digest) for known in self._known.values())
        return next((one for one in found if one is not None and one.name == environment_name), None)

    def environments(self) -> list[str]:
        """Name the environments of what was verified or asked for."""
        return sorted({name for known in self._known.values() for name in known.baselines})

    def environments_with(self, case_id: str) -> list[str]:
        """Name the environments in which a case has a baseline."""
        return sorted(self._of(case_id).baselines)

    def _of(self, case_id: str) -> _Known:
        if case_id not in self._known:
            self._known[case_id] = self._load(case_id)
        return self._known[case_id]

    def _load(self, case_id: str) -> _Known:
        labels = self._store.labels(case_id, Selection(_LOOKED_AT, branch=self._branch, is_sound=True))
        wanted = {digest: self._wanted(labels, digest) for digest in dict.fromkeys(one.environment for one in labels)}
        entries = self._store.read([label for some in wanted.values() for label in some])
        known = _Known()
        for digest in wanted:
            of_digest = [entry for entry in entries if entry.environment == digest]
            environment = Environment(of_digest[-1].fields)
            known.environments[digest] = environment
            before = known.baselines.get(environment.name)
            known.baselines[environment.name] = _joined(before, _replayed(of_digest, self._runs))
        return known

    def _wanted(self, labels: Sequence[Label], digest: str) -> list[Label]:
        """Return the entries of a level: the newest, and the first ones since it was accepted, for slow drift."""
        same = [label for label in labels if label.environment == digest]
        start = max((index for index, label in enumerate(same) if label.is_new_level), default=0)
        level = same[start:]
        return level if len(level) <= 2 * self._runs else [*level[: self._runs], *level[-self._runs :]]


def _replayed(entries: Sequence[Entry], runs: int) -> CaseBaseline:
    """Join the entries of one environment, oldest first; the first of them are what drift counts from."""
    first = functools.reduce(_with_entry, entries[: max(0, len(entries) - runs)], None)
    newest = functools.reduce(_with_entry, entries[-runs:], None)
    assert newest is not None, "a level is made of one run at least"
    if first is None:
        return newest
    anchors = anchors_with(first, newest.recordings[-1], starts_anew=False)
    return newest.model_copy(update={"anchors": anchors})


def _with_entry(baseline: CaseBaseline | None, entry: Entry) -> CaseBaseline:
    before = () if baseline is None else baseline.recordings
    recordings = with_recording(before, entry.to_recording(), replaces=entry.recording == "replace")
    return CaseBaseline.model_construct(case=entry.case, recordings=recordings, anchors=())


def _joined(before: CaseBaseline | None, other: CaseBaseline) -> CaseBaseline:
    """Bring baselines of two digests together, as a file holds them; the newest recording is the last."""
    if before is None:
        return other
    older, newer = sorted((before, other), key=lambda one: one.recordings[-1].recorded)
    return newer.model_copy(
        update={
            "recordings": (*older.recordings, *newer.recordings),
            "anchors": (*older.anchors, *newer.anchors),
        }
    )
