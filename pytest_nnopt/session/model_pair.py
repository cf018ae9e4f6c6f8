"""What a test holds in its hands: the ``model_pair`` factory and the pairs that it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_nnopt.baseline.schema import LONGEST_CASE_ID
from pytest_nnopt.errors import PairError, SeparationError
from pytest_nnopt.report.failure import describe_failures
from pytest_nnopt.report.junit import junit_properties
from pytest_nnopt.results import speedup_of
from pytest_nnopt.session.case import CaseRun
from pytest_nnopt.session.concluding import conclude_case, inspect_case
from pytest_nnopt.session.ranked import RankedRun
from pytest_nnopt.session.repro import replayed
from pytest_nnopt.session.worker import WorkerFinished, WorkerRole
from pytest_nnopt.torch_backend.pair import PairRequest, device_of
from pytest_nnopt.torch_backend.side import ExecutionMode

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from pytest_nnopt.baseline.schema import Evidence
    from pytest_nnopt.model import CompileFacts, Verdict
    from pytest_nnopt.numerics import NumericsComparison
    from pytest_nnopt.results import CaseMessage
    from pytest_nnopt.session.gate import Gate
    from pytest_nnopt.session.revisions import GuestRole


class ModelPair:
    """An eager and an optimised version of one model with inputs of their own.

    Everything is built and measured when it is first asked for, and once.
    """

    def __init__(self, case_id: str, run: CaseRun, gate: Gate, test_id: str) -> None:
        self.case_id = case_id
        self._run = run
        self._gate = gate
        self._test_id = test_id

    @property
    def eager(self) -> Callable[..., Any]:
        """The reference: the pair's own copy of the model, not compiled."""
        return self._run.reference.function

    @property
    def compiled(self) -> Callable[..., Any]:
        """The candidate: a compiled copy of the model, or the test's own candidate.

        Raises:
            PairError: there is none, because compilation failed.
        """
        return self._run.require_candidate().function

    @property
    def compilation(self) -> CompileFacts:
        """How the candidate was compiled: graphs, graph breaks, recompilations, fallbacks."""
        return self._run.built.facts

    @property
    def numerics(self) -> NumericsComparison:
        """How far the candidate's numbers are from the reference's.

        Raises:
            PairError: there is no candidate, because compilation failed.
        """
        comparison = self._run.numerics
        if comparison is None:
            raise PairError("there is no compiled model whose numbers could be compared")
        return comparison

    @cached_property
    def speedup(self) -> float:
        """Eager time over candidate time, interleaved in this process: above 1 the candidate is faster.

        Raises:
            PairError: there is no candidate, because compilation failed.
        """
        with self._gate.all_at_rest():
            speedup = speedup_of(self._run.timing or (self._run.measure_ratio(),))
        assert speedup is not None
        return speedup

    @property
    def verdict(self) -> Verdict:
        """The verdict on the pair; asking for it measures everything that the run wants to know."""
        return self.message.result.verdict

    @cached_property
    def message(self) -> CaseMessage:
        """The verdict with its evidence, as it goes to the report."""
        return conclude_case(self._run, self._gate, self.case_id, self._test_id)

    @property
    def is_concluded(self) -> bool:
        """Whether the verdict has been made."""
        return "message" in vars(self)

    def close(self) -> None:
        """Free what the pair holds."""
        self._run.close()


class ModelPairFactory:
    """The value of the fixture ``model_pair``: makes the pairs of one test.

    Args:
        test_id: node id of the test.
        gate: the run's gate.
    """

    def __init__(self, test_id: str, gate: Gate) -> None:
        self._test_id = test_id
        self._gate = gate
        self._pairs: dict[str, ModelPair] = {}

    def __call__(
        self,
        model: Callable[..., Any],
        *args: Any,
        candidate: Callable[..., Any] | None = None,
        loss: Callable[[Any], torch.Tensor] | None = None,
        name: str | None = None,
        samples: Sequence[Any] | str | Callable[[torch.Generator], Iterable[Any]] = (),
        kwargs: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> ModelPair:
        """Make a pair of ``model`` and its optimised version; see the fixture ``model_pair``.

        Raises:
            PairError: what was handed over makes no pair; the message says why.
        """
        case_id = self._case_id(name)
        worker = self._gate.worker
        if worker is None:
            self._conclude_open_pairs()
        request = PairRequest(
            model=model,
            args=args,
            kwargs={**keywords, **(kwargs or {})},
            candidate=candidate,
            loss=loss,
            samples=samples,
            mode=ExecutionMode.capture(is_training_step=loss is not None),
        )
        config, seed = self._gate.configs[self._test_id], 0
        if self._gate.replay is not None:
            request, config, seed = replayed(self._gate.replay, case_id, request, config)
        settings = self._gate.settings
        options: dict[str, Any] = {"device": settings.device, "threads": settings.threads, "seed": seed}
        options["has_cold_cache"] = settings.cold_cache
        team = self._gate.team
        run = CaseRun(request, config, **options) if team is None else RankedRun(team, request, config, **options)
        pair = ModelPair(case_id, run, self._gate, self._test_id)
        self._pairs[case_id] = pair
        if worker is not None and worker.case_id == case_id:
            self._serve(worker, run, case_id)
        self._gate.require_room(str(device_of(run.reference)))  # builds it, and a wrong model shows on the user's line
        return pair

    def conclude(self) -> str | None:
        """Measure and judge what the test left open; return why the test fails, or None.

        Raises:
            NnoptError: something could not be measured as asked.
        """
        if self._gate.worker is not None:
            return None  # a measuring process measures one case and judges none
        if not self._pairs:
            return "the test asks for model_pair but never calls it, so nothing was measured"
        verdicts = [pair.verdict for pair in self._pairs.values()]
        if self._gate.team is not None:
            return None  # the run that started the ranks fails the test
        return describe_failures(verdicts)

    def messages(self) -> list[str]:
        """Return what is known of each concluded case, as JSON text."""
        return [pair.message.model_dump_json() for pair in self._concluded()]

    def properties(self) -> list[tuple[str, str]]:
        """Return short figures of each concluded case for JUnit's properties."""
        return [item for pair in self._concluded() for item in junit_properties(pair.message.result)]

    def close(self) -> None:
        """Free what the pairs hold."""
        for pair in self._pairs.values():
            pair.close()

    def _concluded(self) -> list[ModelPair]:
        return [pair for pair in self._pairs.values() if pair.is_concluded]

    def _serve(self, worker: WorkerRole | GuestRole, run: CaseRun, case_id: str) -> None:
        """Measure the case as a measuring process does, beside the base's where both are to be measured.

        Raises:
            WorkerFinished: always, at the end.
        """
        if isinstance(worker, WorkerRole) and worker.base is not None:
            if not worker.is_base:
                assert self._gate.run_beside is not None
                self._gate.run_beside(self._test_id, worker, run)
                raise WorkerFinished
            self._prove(worker, run)

        def inspect(cache_dir: Path) -> Evidence:
            run.cache_dir = cache_dir
            return inspect_case(run, self._gate, case_id, self._test_id)

        worker.serve(run, inspect)

    def _prove(self, worker: WorkerRole, run: CaseRun) -> None:
        from pytest_nnopt.session.revisions import prove_base

        try:
            prove_base(worker, run)
        except SeparationError as error:
            worker.refuse_when_asked(str(error))
            raise WorkerFinished from error

    def _case_id(self, name: str | None) -> str:
        case_id = self._test_id if name is None else f"{self._test_id}#{name}"
        if case_id in self._pairs:
            raise PairError(
                f"{case_id!r} is made twice; where a test makes several pairs, each has a name: "
                "model_pair(..., name='b')"
            )
        if len(case_id) > LONGEST_CASE_ID:
            raise PairError(
                f"{case_id[:100]!r}… has {len(case_id)} characters, and {LONGEST_CASE_ID} are the most; give the "
                "test's parameters shorter ids: pytest.param(..., id='short')"
            )
        return case_id

    def _conclude_open_pairs(self) -> None:
        """Finish the pairs made before, since a new one starts with an empty compiler."""
        for pair in self._pairs.values():
            _ = pair.message
            pair.close()
