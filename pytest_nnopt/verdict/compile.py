"""The check of compile health: what was asked for, compiled whole, and no worse than the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.compilation import generated_code
from pytest_nnopt.model import Check, CheckName, CompileFacts, CompileStatus, Outcome
from pytest_nnopt.verdict.choices import advise_recording, is_beyond_chance, processes_to_tell
from pytest_nnopt.verdict.counters import BYTES, code_figures, describe_places, judged_figures
from pytest_nnopt.verdict.question import without_baseline

if TYPE_CHECKING:
    from pytest_nnopt.baseline.compilation import CompileLevel
    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.verdict.counters import Figure
    from pytest_nnopt.verdict.question import Question

_SHOWN_LINES = 5
_LIMITS = {"graph breaks": "graph_breaks", "recompiles": "recompiles", "eager frames": "eager_frames"}
"""Figures for which a marker can declare the most allowed, with its argument."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    """What is wrong with a compilation, what is behind it, and what to do; None where the summary says that, too."""

    summary: str
    details: tuple[str, ...] = ()
    remedy: str | None = None


def check_compile(question: Question, facts: CompileFacts, timing: Sequence[ProcessRecord] = ()) -> Check:
    """Ask whether the candidate is what was asked for, compiled whole, and no worse than the baseline.

    Args:
        question: what is asked, and against what.
        facts: how the candidate was compiled.
        timing: processes of this run; on a GPU each compiled anew.
    """
    figures = judged_figures(
        facts,
        question.compilation,
        bytes_tolerance=question.config.limits.memory,
        further=generated_code(timing),
    )
    trouble = _trouble_with(question, facts, figures)
    value = None if facts.graph_breaks is None else float(len(facts.graph_breaks))
    if trouble is not None:
        found = (trouble.summary, value)
        return Check(CheckName.COMPILE, Outcome.FAILED, *found, details=trouble.details, remedy=trouble.remedy)
    if facts.status is CompileStatus.OWN_CANDIDATE:
        return Check(CheckName.COMPILE, Outcome.SKIPPED, "the test's own candidate is not compiled by torch.compile")
    if is_nothing_compiled(facts):
        reason = "nothing is compiled: the test's fallback chain ended at eager, as its marker allows"
        return Check(CheckName.COMPILE, Outcome.SKIPPED, reason, details=_attempts(facts))
    passed = _no_worse(question, facts, figures, value)
    unanswered = filter(
        None, (_compile_without_baseline(question), _uncounted(question, facts), _left_to_chance(question, figures))
    )
    return max(unanswered, key=lambda check: check.outcome.severity, default=passed)


def _no_worse(question: Question, facts: CompileFacts, figures: Sequence[Figure], value: float | None) -> Check:
    """Return the check of a healthy compilation, improved where a figure fell against the baseline."""
    better = [figure.change for figure in figures if figure.has_fallen and not _may_be_chance(question, figure)]
    parts = [_describe_compilation(facts), _foreign_level(question.compilation)]
    if better:
        remedy = "" if question.base else "; make it the new level with pytest --nnopt-update"
        parts.append(f"better than {question.level_name}: {', '.join(better)}{remedy}")
    outcome = Outcome.IMPROVED if better else Outcome.PASSED
    return Check(CheckName.COMPILE, outcome, "; ".join(filter(None, parts)), value, details=_attempts(facts))


def is_nothing_compiled(facts: CompileFacts) -> bool:
    """Whether what was to be compiled is not, so that the answers to all other questions say nothing."""
    has_ended_eager = facts.status is CompileStatus.FELL_BACK and facts.used == "eager"
    return has_ended_eager or facts.status in (CompileStatus.FAILED, CompileStatus.NOTHING_COMPILED)


def _compile_without_baseline(question: Question) -> Check | None:
    """Return the answer where there should be a recorded compilation and is none, None where there is or need not."""
    if not question.is_comparing or question.compilation is not None:
        return None
    if question.baseline is None or question.foreign_times is not None:
        return without_baseline(question, CheckName.COMPILE, None)
    remedy = "" if question.base else "; record it with pytest --nnopt-update"
    return Check(CheckName.COMPILE, Outcome.NO_BASELINE, f"{question.level_name} holds no compilation{remedy}")


def _uncounted(question: Question, facts: CompileFacts) -> Check | None:
    """Return the answer where a limit is declared for what could not be counted, None where all limits were checked."""
    limits = question.config.limits
    counted = (
        ("graph breaks", facts.graph_breaks, limits.graph_breaks),
        ("recompiles", facts.recompiles, limits.recompiles),
        ("eager frames", facts.eager_frames, limits.eager_frames),
    )
    unknown = [f"{name} (limit {limit})" for name, found, limit in counted if found is None and limit is not None]
    if not unknown:
        return None
    reason = f"this version of torch cannot tell how many {' and '.join(unknown)} there are"
    return Check(CheckName.COMPILE, Outcome.INCONCLUSIVE, reason, details=_attempts(facts))


def wanted_compilations(question: Question, timing: Sequence[ProcessRecord]) -> int:
    """Return how many processes would leave nothing to chance, where all so far generated other code than before.

    0 where that is settled, or no number would. The run's own compilation, which is not at hand, is taken to be like
    theirs: where it is not, nothing has moved.
    """
    compilations = generated_code(timing)
    if not compilations or not question.asked & {CheckName.COMPILE, CheckName.MEMORY}:
        return 0
    figures = code_figures(compilations, question.compilation, question.config.limits.memory)
    moved = (figure for figure in figures if figure.has_moved and _may_be_chance(question, figure, besides=1))
    enough = max((_enough(question, figure) or 0 for figure in moved), default=0)
    return enough + len(timing) - len(compilations) if enough else 0


def _enough(question: Question, figure: Figure) -> int | None:
    """Return how many processes, with the run's own compilation, would tell a moved figure from chance."""
    _, before = figure.compilations
    return processes_to_tell(before if question.base is None else None, question.plan, own=1)


def chosen_otherwise(question: Question, facts: CompileFacts, timing: Sequence[ProcessRecord]) -> list[str]:
    """Name the kinds of kernels of which this run's own code has more or fewer than the recorded, perhaps by chance.

    Whatever else was measured of that code, such as its memory, may differ for the same reason.
    """
    compilations = [facts.counters, *generated_code(timing)]
    return [
        figure.own_change
        for figure in code_figures(compilations, question.compilation, bytes_tolerance=0.0)
        if figure.name != BYTES and figure.is_known and figure.now != figure.before
        if figure.is_by_chance and (not figure.has_moved or _may_be_chance(question, figure))
    ]


def _left_to_chance(question: Question, figures: Sequence[Figure]) -> Check | None:
    """Return the answer where more was generated than before, and chance could be why; None where there is none."""
    grown = [figure for figure in figures if figure.has_grown and _may_be_chance(question, figure)]
    if not grown:
        return None
    reason = (
        f"{'; '.join(figure.comparison(question.level_name) for figure in grown)}; "
        "the compiler chose by timing what it generated, which could explain it"
    )
    news = [line for figure in grown for line in _shown(_news(figure))]
    return Check(CheckName.COMPILE, Outcome.INCONCLUSIVE, reason, details=(*news, _how_to_tell(question, grown)))


def _how_to_tell(question: Question, grown: Sequence[Figure]) -> str:
    """Say what would tell from chance that figures of generated code have grown."""
    settled = "leave less to chance, as by a mode without max-autotune or options={'shape_padding': False}"
    settled += ", and record anew" if question.base is None else ", in both revisions"
    return settled if question.device == "cpu" else f"{_what_compiles_anew(question, grown)}; or {settled}"


def _what_compiles_anew(question: Question, grown: Sequence[Figure]) -> str:
    """Say which further compilations would tell, on a GPU, where each process compiles anew."""
    asked = "" if question.wants_timing else ": ask for latency or device_time"
    if question.base is not None and all(figure.compilations[0] == 1 for figure in grown):
        return f"with --nnopt-against-mode=pair further processes compile both revisions anew{asked}"
    unknown = [figure.compilations[1] for figure in grown if _enough(question, figure) is None]
    if unknown:
        return "".join(advise_recording(min(unknown)))
    enough = max(_enough(question, figure) or 0 for figure in grown)
    return f"{enough} processes that all generate more would tell{asked}"


def _may_be_chance(question: Question, figure: Figure, *, besides: int = 0) -> bool:
    """Whether the compiler's choices by timing could be why a figure moved in all compilations that were seen.

    Args:
        question: whose false alarms count.
        figure: what has moved.
        besides: compilations of this run that the figure does not know of.
    """
    now, before = figure.compilations
    if question.takes_no_excuse and now > 1:
        return False
    return figure.is_by_chance and not is_beyond_chance(now + besides, before, question.plan)


def _trouble_with(question: Question, facts: CompileFacts, figures: Sequence[Figure]) -> _Trouble | None:
    """Return what is wrong with a compilation; None where nothing is."""
    if facts.status is CompileStatus.FAILED:
        remedy = "mend the error above; or name modes to try after it with @pytest.mark.nnopt_compile(fallback=[...])"
        return _Trouble("the candidate could not be compiled", _attempts(facts), remedy)
    if facts.status is CompileStatus.NOTHING_COMPILED:
        reason = f": {facts.explanation}" if facts.explanation else ""
        what = f"nothing was compiled, so eager would be compared with eager{reason}"
        places = describe_places("run eagerly", facts.eager_reasons)
        advice = "mend what is listed above, or hand over a part of the model that can be compiled"
        return _Trouble(what, places, advice if places else None)
    if facts.status is CompileStatus.FELL_BACK and not question.config.is_fallback_allowed:
        remedy = (
            "mend the error above; or allow the fallback for this test with @pytest.mark.nnopt_compile(fallback=...)"
        )
        return _Trouble(f"the candidate fell back to {facts.used}", _attempts(facts), remedy)
    return _counted_trouble(question, figures)


def _counted_trouble(question: Question, figures: Sequence[Figure]) -> _Trouble | None:
    level, limits = question.compilation, question.config.limits
    problems: list[str] = []
    beyond: list[Figure] = []
    for figure in figures:
        if _may_be_chance(question, figure):
            continue
        limit = getattr(limits, _LIMITS[figure.name]) if figure.name in _LIMITS else None
        problem = _problem_of(figure, limit, None if level is None else question.level_name)
        if problem is not None:
            problems += [problem, *_shown(_news(figure))]
            beyond.append(figure)
    if not problems:
        return None
    summary, *details = [*problems, *filter(None, [_foreign_level(level)])]
    return _Trouble(summary, tuple(details), _remedy(question, beyond))


def _remedy(question: Question, beyond: Sequence[Figure]) -> str:
    """Say what can be declared or accepted, by how each of the figures beyond a limit came to be judged."""
    limits = question.config.limits
    declarable = [f"{_LIMITS[figure.name]}={figure.now}" for figure in beyond if figure.name in _LIMITS]
    declarable += ["memory=..." for figure in beyond if figure.name == BYTES]
    accepted = [f for f in beyond if f.name not in _LIMITS or getattr(limits, _LIMITS[f.name]) is None]
    ways = [f"allow it with @pytest.mark.nnopt_limits({', '.join(declarable)})"] if declarable else []
    if accepted and question.base is not None:
        ways.append("merge it all the same: later runs compare with what is merged")
    elif accepted and question.compilation is not None:
        ways.append("accept it as the new level with pytest --nnopt-update --nnopt-reason TEXT")
    return f"mend what is listed above; or, if it is intended, {', or '.join(ways)}"


def _problem_of(figure: Figure, limit: int | None, level: str | None) -> str | None:
    """Say what is wrong with a figure: it is above its declared limit, or else above that of the level, if any."""
    if limit is not None:
        is_beyond = figure.now is not None and figure.now > limit
        return f"{figure.counted}, the limit is {limit}" if is_beyond else None
    if level is not None and figure.has_grown:
        return figure.comparison(level)
    if figure.name == "eager frames" and figure.now and level is None:
        words = "frame runs eagerly because it" if figure.now == 1 else "frames run eagerly because they"
        return f"{figure.now} {words} could not be compiled"
    return None


def _news(figure: Figure) -> list[str]:
    """Return what is behind a figure and new against the baseline, or all of it where that is not known."""
    return [f"new: {line}" for line in figure.new] or list(figure.found)


def _foreign_level(level: CompileLevel | None) -> str:
    """Say that figures were compared with those of another environment, and which could not be; else nothing."""
    if level is None or level.environment is None:
        return ""
    compared = f"compared with the baseline of {level.environment!r}"
    if not level.code_differences:
        return compared
    return f"{compared}; generated code is not, as it depends on what differs ({'; '.join(level.code_differences)})"


def _shown(lines: list[str]) -> list[str]:
    if len(lines) <= _SHOWN_LINES:
        return lines
    return [*lines[:_SHOWN_LINES], f"and {len(lines) - _SHOWN_LINES} more"]


def _attempts(facts: CompileFacts) -> tuple[str, ...]:
    return tuple(f"{attempt.description}: {attempt.error}" for attempt in facts.attempts if attempt.error is not None)


def _describe_compilation(facts: CompileFacts) -> str:
    counts = (
        ("graph", facts.graphs),
        ("graph break", None if facts.graph_breaks is None else len(facts.graph_breaks)),
        ("recompile", None if facts.recompiles is None else len(facts.recompiles)),
    )
    parts = [f"{'unknown' if count is None else count} {name}{'' if count == 1 else 's'}" for name, count in counts]
    used = f" (fell back to {facts.used}, as the marker allows)" if facts.status is CompileStatus.FELL_BACK else ""
    return ", ".join(parts) + used
