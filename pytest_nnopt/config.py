"""What users may ask for: settings of a run and of a case, merged from four places.

Order of precedence: built-in < ``[tool.nnopt]`` in pyproject.toml < command line < marker (the closest wins per
argument). Everything is validated here, before anything is compiled or measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from pytest_nnopt.environment import Match
from pytest_nnopt.errors import ConfigError
from pytest_nnopt.model import CheckName
from pytest_nnopt.profiles import read_profiles, with_profile
from pytest_nnopt.units import parse_fraction, parse_seconds
from pytest_nnopt.untrusted import parse_toml, read_bounded, require_plain
from pytest_nnopt.urls import parse_history_url, redacted

_LARGEST_FILE_BYTES = 2**22


def parse_device(value: str) -> str:
    """Accept ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: anything else.
    """
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", value):
        raise ConfigError(f"{value!r} is no device; write 'cpu', 'cuda' or 'cuda:N'")
    return value


def _readable(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Adapt a parser of ours to pydantic, which expects ValueError."""

    def validate(value: Any) -> Any:
        if value is None:
            return None
        try:
            return parse(value)
        except (ConfigError, TypeError, OverflowError) as error:
            raise ValueError(str(error)) from None

    return validate


Fraction = Annotated[float, BeforeValidator(_readable(parse_fraction))]
Seconds = Annotated[float, BeforeValidator(_readable(parse_seconds))]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
FallbackStep = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", "eager"]
Device = Annotated[str, BeforeValidator(_readable(parse_device))]
HistoryUrl = Annotated[str, BeforeValidator(_readable(parse_history_url)), PlainSerializer(redacted)]
SampleKind = Literal["perturbed", "large", "small", "zeros", "non_contiguous", "channels_last", "batch"]
GENERATED: tuple[SampleKind, ...] = get_args(SampleKind)
"""The inputs that can be made from a case's own; those that the compiler need not compile again for come first."""


_SectionT = TypeVar("_SectionT", bound="_Section")


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
        strict=True,
        defer_build=True,
    )


class CompileConfig(_Section):
    """How the candidate is compiled: the arguments of ``torch.compile``, and what to try when they do not serve."""

    mode: CompileMode | None = None
    """Preset of ``torch.compile``."""
    backend: str | Callable[..., Any] = "inductor"
    """Name of a registered backend, or a callable backend."""
    fullgraph: bool = False
    """Raise an error instead of breaking the graph."""
    dynamic: bool | None = None
    """Compile for symbolic shapes (true), for the given shapes (false), or as torch decides (none)."""
    options: dict[str, Any] | None = None
    """Options of the backend; torch does not allow them beside ``mode``."""
    fallback: Annotated[tuple[FallbackStep, ...], Field(strict=False)] = ()
    """Modes to try in order when compilation fails; given in a test's marker, a fallback is allowed there."""

    @model_validator(mode="after")
    def _options_exclude_mode(self) -> CompileConfig:
        if self.mode is not None and self.options is not None:
            raise ValueError("mode and options cannot both be given; a mode is a preset of options")
        return self


class ToleranceConfig(_Section):
    """How far the candidate's numbers may be from the reference's."""

    rtol: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Relative tolerance, element by element; none selects the comparison with a float64 run."""
    atol: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Absolute tolerance, element by element; none selects the comparison with a float64 run."""
    factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    """How many times the reference's own error against float64 the candidate's may be, before the floor."""
    equal_nan: bool = True
    """Whether NaN in the same place on both sides is agreement."""
    strides: bool = False
    """Whether memory layout must agree too."""
    samples: Annotated[tuple[SampleKind, ...], Field(strict=False)] = ()
    """Inputs made from the case's own that are compared too, such as ``["perturbed", "zeros"]``."""


class SpeedupConfig(_Section):
    """How much faster than eager the candidate must be."""

    min: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Smallest accepted ratio of eager to candidate time."""


DEFAULT_LATENCY_LIMITS: Mapping[str, float] = MappingProxyType({"cpu": 0.10, "cuda": 0.05})


class LimitsConfig(_Section):
    """How much worse than its baseline a case may become."""

    latency: Fraction | None = None
    """Tolerated slowdown against the baseline; none means 10 % on CPU and 5 % on a GPU."""
    device_time: Fraction = 0.02
    """Tolerated growth of the kernels' own time on a GPU."""
    memory: Fraction = 0.02
    """Tolerated growth of peak and steady memory, and of the bytes that generated code accesses."""
    compile_time: Fraction = 10.0
    """Tolerated growth of cold compile time, like ``"300%"``. The default is wide: it varies on a shared machine,
    and the first C++ compile on a new one also precompiles torch's headers, which takes several times as long."""
    compile_work: Fraction = 0.10
    """Tolerated growth of the compiler's work, which repeats where its time does not."""
    graph_breaks: Annotated[int, Field(ge=0)] | None = None
    """Most graph breaks allowed; none compares with the baseline alone."""
    recompiles: Annotated[int, Field(ge=0)] | None = None
    """Most recompilations allowed; none compares with the baseline alone."""
    error_growth: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 4.0
    """How many times the error it had in the baseline a candidate may have, though it is within its tolerance."""
    eager_frames: Annotated[int, Field(ge=0)] | None = None
    """Most frames allowed that run uncompiled; none compares with the baseline, and without one allows none."""

    def latency_on(self, device: str) -> float:
        """Return the tolerated slowdown on a type of device; one without a default of its own has the CPU's."""
        default = DEFAULT_LATENCY_LIMITS.get(device, DEFAULT_LATENCY_LIMITS["cpu"])
        return default if self.latency is None else self.latency


class RanksConfig(_Section):
    """On how many processes a model runs that needs several, and how they talk to each other."""

    count: Annotated[int, Field(ge=1, le=64)] | None = None
    """How many ranks run the test, each with an initialised process group; none runs it in one process without one."""
    backend: Literal["gloo", "nccl"] | None = None
    """Backend of ``torch.distributed``; none takes gloo for tensors on the CPU and nccl for those on a GPU."""
    timeout: Annotated[Seconds, Field(gt=0)] = 300.0
    """How long a rank waits for another one in the model's communication, in seconds or like ``"5min"``."""


class MatchConfig(_Section):
    """How alike the environment of a baseline must be before figures of a kind are compared with it."""

    times: Annotated[Match, Field(strict=False)] = Match.EXACT
    """Of times relative to eager's: speedup, latency and device time."""
    memory: Annotated[Match, Field(strict=False)] = Match.COMPATIBLE
    """Of bytes, which repeat wherever the same code is generated."""
    numerics: Annotated[Match, Field(strict=False)] = Match.COMPATIBLE
    """Of the reference's numbers, which a float64 run gives everywhere."""
    compile: Annotated[Match, Field(strict=False)] = Match.COMPATIBLE
    """Of the compilation's counters."""


class CaseConfig(_Section):
    """Everything that can differ between cases."""

    compile: CompileConfig = CompileConfig()
    tolerance: ToleranceConfig = ToleranceConfig()
    speedup: SpeedupConfig = SpeedupConfig()
    limits: LimitsConfig = LimitsConfig()
    ranks: RanksConfig = RanksConfig()
    is_fallback_allowed: bool = False
    """Whether this case's own marker declared the fallback chain."""


class Settings(_Section):
    """Everything that holds for a whole run: ``[tool.nnopt]`` and the command line."""

    baseline_dir: Annotated[Path, Field(strict=False)] = Path("baselines")
    """Where baselines live, relative to pytest's rootdir."""
    baseline_from: Literal["files", "history"] = "files"
    """What the gate compares with: the files in ``baseline_dir``, or the last runs in the shared history."""
    history: Annotated[HistoryUrl | None, Field(repr=False)] = None
    """The shared history that runs are added to, such as ``"s3://bucket/prefix"``, ``"file:///folder"`` or
    ``"postgresql://user@host/database"``; none keeps no history."""
    history_append: Literal["ci", "always", "never"] = "ci"
    """Which runs with ``--nnopt-baseline`` or ``--nnopt-update`` are added to it: a CI service's, all, or none."""
    history_branch: Annotated[str, Field(min_length=1, max_length=400)] = "main"
    """The branch whose runs in the history make a level."""
    history_runs: Annotated[int, Field(ge=1, le=100)] = 10
    """How many of its last sound runs make a level."""
    history_timeout: Seconds = 30.0
    """How long the history may take to answer."""
    missing: Literal["fail", "record"] = "fail"
    """What a missing baseline does."""
    diagnose: Literal["never", "fail"] = "fail"
    """Whether wrong numbers are traced to their cause by further compilations."""
    only: Annotated[tuple[Annotated[CheckName, Field(strict=False)], ...], Field(strict=False, min_length=1)] | None = (
        None
    )
    """The checks to run; none runs all."""
    device: Device | None = None
    """Where models and inputs are moved; none leaves them where the test put them."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Threads that torch computes with in every case; none means half of the usable cores, or of a container's quota,
    so that whatever else runs on the machine does not hold up every parallel region."""
    cold_cache: bool = False
    """Whether a GPU's L2 cache is overwritten before every timed call, as other work would between two calls."""
    budget: Seconds = 60.0
    """How long the timing of one case may take to be decided, in seconds or like ``"2min"``; a recording takes what
    its processes take."""
    suite_budget: Seconds | None = None
    """How long the timing of all cases together may take, in each of pytest-xdist's workers; what comes later is timed
    in two processes at most."""
    false_alarms: Annotated[Fraction, Field(gt=0, lt=0.5)] = 0.01
    """How often the latency or speedup of unchanged code may fail a case; ``device_time`` has a tenth of that
    on top, and each figure that the compiler chooses by timing a fifth, as has a way to launch a kernel."""
    suite_false_alarms: Annotated[Fraction, Field(gt=0, lt=0.5)] = 0.05
    """How often these may fail at least one unchanged case of the suite."""
    effect: Fraction | None = None
    """Tolerated slowdown of every case whose marker does not declare one; the same as ``limits.latency``."""
    processes: Annotated[int, Field(ge=1, le=100)] = 10
    """How many processes ``--nnopt-update`` measures for a baseline; up to twice as many where noise asks for it."""
    profiles: dict[str, dict[str, Any]] = {}
    """Named sets of compile options, which ``nnopt_compile(profile="...")`` asks for."""
    profile_file: Annotated[Path, Field(strict=False)] | None = None
    """A TOML or YAML file with further profiles, relative to pyproject.toml: a table of options for each name."""
    compile: dict[str, Any] = {}
    """Project-wide defaults of ``nnopt_compile``."""
    tolerance: dict[str, Any] = {}
    """Project-wide defaults of ``nnopt_tolerance``."""
    speedup: dict[str, Any] = {}
    """Project-wide defaults of ``nnopt_speedup``."""
    limits: dict[str, Any] = {}
    """Project-wide defaults of ``nnopt_limits``."""
    ranks: dict[str, Any] = {}
    """Project-wide defaults of ``nnopt_ranks``."""
    match: dict[str, Any] = {}
    """By kind of figure, how alike the environment of a baseline must be: ``exact``, ``compatible`` or ``any``."""

    @model_validator(mode="after")
    def _case_defaults_are_valid(self) -> Settings:
        for name, options in self.profiles.items():
            validate_section(CompileConfig, options, f"profile {name!r}")
        for name, section in CASE_SECTIONS.items():
            validate_section(section, self.defaults(name), f"[tool.nnopt.{name}]")
        validate_section(MatchConfig, self.match, "[tool.nnopt.match]")
        return self

    @model_validator(mode="after")
    def _history_is_somewhere(self) -> Settings:
        if self.baseline_from == "history" and self.history is None:
            raise ValueError("baseline_from = 'history' needs to know where that is; give its URL as history")
        return self

    @property
    def matching(self) -> MatchConfig:
        """How alike environments must be."""
        return MatchConfig(**self.match)

    def defaults(self, section: str) -> dict[str, Any]:
        """Return the project-wide defaults of a section of ``CASE_SECTIONS``, with the profile that they name.

        Raises:
            ConfigError: there is no such profile.
        """
        values: dict[str, Any] = getattr(self, section)
        return with_profile(values, self.profiles, "[tool.nnopt.compile]") if section == "compile" else dict(values)

    def is_asked(self, check: CheckName) -> bool:
        """Whether the run is to answer this question."""
        return self.only is None or check in self.only


CASE_SECTIONS: Mapping[str, type[_Section]] = {
    "compile": CompileConfig,
    "tolerance": ToleranceConfig,
    "speedup": SpeedupConfig,
    "limits": LimitsConfig,
    "ranks": RanksConfig,
}


def read_pyproject(path: Path) -> dict[str, Any]:
    """Return the table ``[tool.nnopt]`` of a pyproject.toml, empty where there is none.

    Raises:
        ConfigError: the file is not TOML, or the entry is no table of plain values.
    """
    if not path.is_file():
        return {}
    try:
        tools = parse_toml(read_bounded(path, _LARGEST_FILE_BYTES)).get("tool", {})
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    table = tools.get("nnopt", {}) if isinstance(tools, dict) else tools
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: [tool.nnopt] must be a table")
    try:
        require_plain(table)
    except ValueError as error:
        raise ConfigError(f"{path}: [tool.nnopt]: {error}") from None
    return _with_profile_file(table, path.parent)


def _with_profile_file(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Add the profiles of the file that a table names; a wrong name of it is left to validation.

    Raises:
        ConfigError: the file cannot be read, or a profile is in both places.
    """
    name, profiles = table.get("profile_file"), table.get("profiles", {})
    if not isinstance(name, str) or not isinstance(profiles, dict):
        return dict(table)
    read = read_profiles(folder / name)
    doubled = sorted(read.keys() & profiles.keys())
    if doubled:
        raise ConfigError(f"profile {doubled[0]!r} is in {name} and in [tool.nnopt.profiles]; keep one of them")
    return {**table, "profiles": {**profiles, **read}}


def load_settings(pyproject: Mapping[str, Any], command_line: Mapping[str, Any]) -> Settings:
    """Merge the two sources of run-wide settings; on the command line, None means not given.

    Raises:
        ConfigError: a key is unknown or a value impossible; the message names both.
    """
    validate_section(Settings, pyproject, "[tool.nnopt]")
    given = {key: value for key, value in command_line.items() if value is not None}
    return validate_section(Settings, {**pyproject, **given}, "command line")


def resolve_case(settings: Settings, markers: Mapping[str, Sequence[Mapping[str, Any]]], where: str) -> CaseConfig:
    """Merge project-wide defaults with a test's markers.

    Args:
        settings: run-wide settings with the project's defaults.
        markers: section name to the keyword arguments of each marker of that section, closest to the test first.
        where: names the test in an error.

    Raises:
        ConfigError: an argument is unknown or impossible; the message names test, marker and argument.
    """
    compiles = [with_profile(one, settings.profiles, f"{where}: nnopt_compile") for one in markers.get("compile", ())]
    layers: Mapping[str, Sequence[Mapping[str, Any]]] = {**markers, "compile": compiles}
    sections: dict[str, _Section] = {}
    for name, section in CASE_SECTIONS.items():
        merged = settings.defaults(name)
        if name == "limits" and settings.effect is not None:
            merged["latency"] = settings.effect
        for arguments in reversed(layers.get(name, ())):
            merged.update(arguments)
        if name == "compile":
            merged = _drop_the_overridden_half(merged, compiles)
        sections[name] = validate_section(section, merged, f"{where}: nnopt_{name}")
    is_allowed = any("fallback" in arguments for arguments in compiles)
    return CaseConfig(**sections, is_fallback_allowed=is_allowed)  # type: ignore[arg-type]  # built from CASE_SECTIONS


def _drop_the_overridden_half(merged: dict[str, Any], markers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Let a closer ``mode`` replace a farther ``options`` and the reverse, since torch takes one of them."""
    for arguments in markers:
        given = [key for key in ("mode", "options") if arguments.get(key) is not None]
        if len(given) == 1:
            other = "options" if given == ["mode"] else "mode"
            return {key: value for key, value in merged.items() if key != other}
        if given:
            break
    return merged


def validate_section(section: type[_SectionT], values: Mapping[str, Any], where: str) -> _SectionT:
    """Build a section from a user's values.

    Raises:
        ConfigError: a key is unknown or a value impossible; every wrong one is named, with ``where``.
    """
    try:
        return section(**values)
    except ValidationError as error:
        firsts = {detail["loc"][:1]: detail for detail in reversed(error.errors())}
        lines = [_describe(section, detail, where) for detail in reversed(firsts.values())]
        raise ConfigError("\n".join(lines)) from None


def _describe(section: type[_Section], detail: Mapping[str, Any], where: str) -> str:
    """Say in a user's words which argument pydantic refused and what it would take."""
    name = ".".join(str(part) for part in detail["loc"][:1])
    if detail["type"] == "extra_forbidden":
        return f"{where}: unknown argument {name!r}; known: {', '.join(section.model_fields)}"
    message = str(detail["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    if not name:
        return f"{where}: {message}"
    return (
        f"{where}: {name}={detail['input']!r} {message}"
        if message.startswith("must be")
        else f"{where}: {name}: {message}"
    )
