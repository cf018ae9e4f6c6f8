"""The recorded form of evidence: what baselines and results files hold, validated when it comes from outside.

Every number is finite, every key known, and a version says which schema a file follows. Nothing is ever unpickled.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from pytest_nnopt.environment import FieldValue

SCHEMA_VERSION = 1

Finite = Annotated[float, Field(allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=1e-30, le=1e30)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]  # beyond any measurement, and a sum of them is still finite
Duration = Annotated[float, Field(ge=1e-15, le=1e9)]  # so is a ratio of two
Count = Annotated[int, Field(ge=0, le=2**63)]  # beyond any count, and what is computed from it is still finite
Integer = Annotated[int, Field(ge=-(2**63), le=2**63)]
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=timezone.utc), datetime(2200, 1, 1, tzinfo=timezone.utc)
Moment = Annotated[AwareDatetime, Field(ge=EARLIEST, lt=LATEST)]  # what every calendar and plot can show
LONGEST_CASE_ID = 4096
CaseId = Annotated[str, Field(max_length=LONGEST_CASE_ID)]
LogRatio = Annotated[float, Field(ge=-50, le=50)]  # beyond any two times, and its exponential is still finite
Variance = Annotated[float, Field(ge=0, le=50**2)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
Revision = Annotated[str, Field(pattern=r"^[^-\s][^\s]{0,199}$")]  # never read as an option by whoever hands it to git
Reason = Annotated[str, Field(min_length=1, max_length=1000)]


class Record(BaseModel):
    """A frozen value that comes from or goes to a file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False)


class RatioRecord(Record):
    """One process's estimate of a log-ratio of times.

    Attributes:
        log_ratio: natural logarithm of numerator over denominator.
        variance: variance of that estimate within the process.
        blocks: blocks it was made from.
        drift: by how much the second half of the blocks lies above the first.
    """

    log_ratio: LogRatio
    variance: Variance
    blocks: Annotated[int, Field(ge=1, le=2**63)]
    drift: LogRatio | None = None


class ProcessRecord(Record):
    """What one process measured of a case, in brief.

    Attributes:
        seconds: median seconds per call by variant.
        candidate_to_reference: candidate's time over the reference's.
        candidate_to_yardstick: candidate's time over the fixed workload's, where that was measured.
        warmup_seconds: time before the first kept block.
        is_steady: whether warm-up ended because times settled.
        dropped_blocks: blocks thrown away because the machine was disturbed.
        disturbances: disturbed blocks by reason: those thrown away, and those kept once enough had been.
        wall_seconds: one call of the candidate by the host's clock until the GPU is done; None on a CPU.
        waiting: the variants of which a GPU waits for its host, by name; none on a CPU.
        host_loop_seconds: a fixed loop of the interpreter on the core that launched; None on a CPU, where both sides
            left the pace to the GPU, and where there was no core to choose.
        kernels: the candidate's kernels by name; empty on a CPU.
        code: figures of the code generated here, by name; empty where it was loaded, as on a CPU, or is not known.
        concerns: what on the machine spoke against timing: a sentence by kind.
        base: what was measured of the base beside it; None unless two revisions were compared.
    """

    seconds: dict[str, Duration]
    candidate_to_reference: RatioRecord
    candidate_to_yardstick: RatioRecord | None = None
    warmup_seconds: Seconds
    is_steady: bool
    dropped_blocks: Count = 0
    disturbances: dict[str, Count] = {}
    wall_seconds: Duration | None = None
    waiting: tuple[str, ...] = ()
    host_loop_seconds: Duration | None = None
    kernels: dict[str, KernelRecord] = {}
    code: dict[str, Count] = {}
    concerns: dict[str, str] = {}
    base: BaseRecord | None = None

    @property
    def device_seconds(self) -> float | None:
        """The kernels' own time per call; None on a CPU."""
        return sum(kernel.seconds for kernel in self.kernels.values()) if self.kernels else None

    @property
    def launches(self) -> float | None:
        """Kernels launched per call; None on a CPU."""
        return sum(kernel.count for kernel in self.kernels.values()) if self.kernels else None


class BaseRecord(Record):
    """What was measured of the base, another revision's pair of the same case, beside a process of the head.

    Attributes:
        candidate: head's candidate time over the base's.
        reference: head's reference time over the base's.
        process: the base's own figures.
        inputs: how the head's inputs differ from the base's in shape and type.
        parameters: how its parameters and buffers differ in shape and type.
    """

    candidate: RatioRecord
    reference: RatioRecord
    process: ProcessRecord
    inputs: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()


class KernelRecord(Record):
    """One kernel of the candidate on a GPU.

    Attributes:
        count: launches per call.
        seconds: its own time per call, all launches together.
        launch: how it is launched, in words: equal text means equal launches. None of a copy, or where it is unknown.
    """

    count: Annotated[float, Field(gt=0, le=1e9)]
    seconds: Seconds
    launch: Annotated[str, Field(max_length=400)] | None = None


class LeafRecord(Record):
    """The numerics of one compared leaf, in brief.

    Attributes:
        dtype: name of the element type.
        shape: extent of each dimension.
        candidate_nrmse: candidate's root-mean-square error over the truth's root mean square.
        candidate_max: candidate's largest error over the truth's largest magnitude.
        reference_nrmse: the same for the reference.
        reference_max: the same for the reference.
        norm: root mean square of the truth.
        sample: a few of the truth's values at seeded positions.
    """

    dtype: str
    shape: tuple[Count, ...]
    candidate_nrmse: NotNegative | None = None
    candidate_max: NotNegative | None = None
    reference_nrmse: NotNegative | None = None
    reference_max: NotNegative | None = None
    norm: NotNegative | None = None
    sample: tuple[Finite, ...] = ()


class OriginRecord(Record):
    """What the numbers of a case come from, as digests: whether other outputs come from other inputs or other code.

    Attributes:
        inputs: over the values of all input tensors.
        parameters: over the values of parameters and buffers.
        structure: over their names, shapes and dtypes.
    """

    inputs: Digest
    parameters: Digest
    structure: Digest


class GraphBreakRecord(Record):
    """Where a graph was broken and why; see ``model.GraphBreak``."""

    reason: str
    file: str | None = None
    line: Integer | None = None
    code: str | None = None


class RecompileRecord(Record):
    """A frame that was compiled again and why; see ``model.Recompile``."""

    function: str
    reason: str | None = None
    file: str | None = None
    line: Integer | None = None
    code: str | None = None


class CompileRecord(Record):
    """Exact figures of the compilation; None means unknown, never zero.

    See ``model.CompileFacts`` for the figures and lists, ``model.CompileTime`` for what compiling costs.
    """

    status: str
    used: str | None = None
    graphs: Count | None = None
    graph_breaks: Count | None = None
    recompiles: Count | None = None
    eager_frames: Count | None = None
    cold_seconds: Seconds | None = None
    warm_seconds: Seconds | None = None
    work_calls: Count | None = None
    work_conditions: str | None = None
    breaks: tuple[GraphBreakRecord, ...] = ()
    recompiled: tuple[RecompileRecord, ...] = ()
    eager_reasons: tuple[GraphBreakRecord, ...] = ()
    skips: tuple[GraphBreakRecord, ...] = ()
    kernels: dict[str, Count] | None = None
    external_kernels: dict[str, Count] | None = None
    graph_ops: dict[str, Count] | None = None
    counters: dict[str, Integer] = {}


class MemoryRecord(Record):
    """Bytes per call of both sides; None means unknown.

    Attributes:
        candidate_peak_bytes: the most that one call holds beyond what was held before it.
        candidate_steady_bytes: what stays allocated from one call to the next.
        candidate_saved_bytes: what the forward pass of a training step keeps for its backward pass.
        candidate_gradient_bytes: gradients after a training step.
        reference_peak_bytes: as of the candidate, like the others.
    """

    candidate_peak_bytes: Count | None = None
    candidate_steady_bytes: Count | None = None
    candidate_saved_bytes: Count | None = None
    candidate_gradient_bytes: Count | None = None
    reference_peak_bytes: Count | None = None
    reference_steady_bytes: Count | None = None
    reference_saved_bytes: Count | None = None
    reference_gradient_bytes: Count | None = None


class WorkRecord(Record):
    """What one call of the reference does: if it is the same, what it costs tells the machine's state.

    Attributes:
        operators: how often each operator runs.
        elements: elements of all tensors that they take and return.
    """

    operators: dict[str, Count]
    elements: Count


class Evidence(Record):
    """Everything that was measured of a case; a part that was not measured is absent."""

    timing: tuple[ProcessRecord, ...] = ()
    numerics: dict[str, LeafRecord] = {}
    origin: OriginRecord | None = None
    compile: CompileRecord | None = None
    memory: MemoryRecord | None = None
    work: WorkRecord | None = None


class Recording(Record):
    """Evidence as accepted at one moment.

    Attributes:
        recorded: when, with time zone.
        environment: digest of the environment, a key of ``environment.json``.
        revision: commit of the measured code, where there is one.
        reason: why a figure worse than the accepted one was accepted; None where none was.
        evidence: what was measured.
    """

    recorded: Moment
    environment: Digest
    revision: Revision | None = None
    reason: Reason | None = None
    evidence: Evidence


class CaseBaseline(Record):
    """The file of one case: its recordings, oldest first.

    Attributes:
        schema_version: which schema the file follows, written as ``schema``.
        case: id of the case.
        recordings: accepted evidence; the last one is the level to compare with, together with earlier ones that
            agreed with it.
        anchors: of each environment whose level has moved since, the best level that was accepted, times and memory
            alone: against it the sum of many small steps shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=True)

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    case: CaseId
    recordings: Annotated[tuple[Recording, ...], Field(min_length=1)]
    anchors: tuple[Recording, ...] = ()


class EnvironmentFile(Record):
    """The file ``environment.json`` of an environment's directory: full fingerprints by digest."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=True)

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    fingerprints: dict[Digest, dict[str, FieldValue]] = {}
