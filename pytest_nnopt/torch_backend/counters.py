"""What the compiler did, as exact figures: graphs, breaks, recompiles, kernels.

:class:`CompileObserver` listens while compiling happens anyway, so looking costs next to nothing. No dispatch mode
surrounds the model: under ``FlopCounterMode`` and its kin a compiled module silently runs eagerly.

What differs between torch releases from 2.4 on is confined to the functions at the end of this module. What a release
cannot tell is None, or absent from the counters; it is never 0.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import linecache
import logging
import operator
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torch._dynamo.utils as dynamo_utils
import torch.fx
from torch._inductor import metrics as inductor_metrics

from pytest_nnopt.model import CompileFacts, CompileStatus, GraphBreak, Recompile

_METRICS_KEPT = 65_536
_CACHE_COUNTERS = {
    "fx_cache_hits": ("inductor", "fxgraph_cache_hit"),
    "fx_cache_misses": ("inductor", "fxgraph_cache_miss"),
    "fx_cache_bypasses": ("inductor", "fxgraph_cache_bypass"),
    "autograd_cache_hits": ("aot_autograd", "autograd_cache_hit"),
    "autograd_cache_misses": ("aot_autograd", "autograd_cache_miss"),
    "autograd_cache_bypasses": ("aot_autograd", "autograd_cache_bypass"),
}


def collect_facts(run: Callable[[], object]) -> CompileFacts:
    """Run something that compiles, and return what the compiler did meanwhile."""
    with CompileObserver() as observer:
        run()
        return observer.facts()


class CompileObserver:
    """Context manager that listens to the compiler and turns what it heard into facts.

    Resetting dynamo while it listens loses what was heard before.
    """

    def __init__(self) -> None:
        self._heard = _Heard()
        self._start = _Start.now()
        self._taps = contextlib.ExitStack()

    def __enter__(self) -> CompileObserver:
        self._start = _Start.now()
        with contextlib.ExitStack() as stack:
            stack.enter_context(_unlimited_compilation_metrics())
            stack.enter_context(_counting_bytes())
            for tap in _taps(self._heard):
                stack.enter_context(tap)
            self._taps = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._taps.close()

    def facts(self) -> CompileFacts:
        """Return what has been heard so far; to be asked before leaving the context.

        The status tells only whether anything was compiled at all.
        """
        counted = self._start.counted_since()
        entries = dynamo_utils.get_compilation_metrics()[self._start.metrics :]
        reasons = dynamo_utils.graph_break_reasons[self._start.breaks :]
        graphs = counted["stats"]["unique_graphs"]
        eager_frames = counted["frames"]["total"] - counted["frames"]["ok"]
        codes = self._heard.codes
        return CompileFacts(
            status=CompileStatus.COMPILED if graphs else CompileStatus.NOTHING_COMPILED,
            graphs=graphs,
            graph_breaks=tuple(_graph_break(reason.reason, reason.user_stack) for reason in reasons),
            recompiles=tuple(_recompile(entry) for entry in entries if entry.cache_size),
            eager_frames=eager_frames,
            eager_reasons=_eager_reasons(counted, entries) if eager_frames else (),
            cudagraph_skips=tuple(self._heard.cudagraph_skips),
            graph_ops=dict(sorted(self._heard.graph_ops.items())),
            kernels=_generated_kernels(codes) if codes else None,
            external_kernels=_external_kernels(codes) if codes else None,
            counters=_figures(counted, entries) | self._inductor_figures(),
        )

    def _inductor_figures(self) -> dict[str, int]:
        """Figures that exist only where inductor generated code, as other backends leave them untouched."""
        if not self._heard.codes:
            return {}
        figures = {
            "generated_kernels": sum(_generated_kernels(self._heard.codes).values()),
            "external_kernels": sum(_external_kernels(self._heard.codes).values()),
        }
        if nodes := inductor_metrics.ir_nodes_pre_fusion - self._start.inductor_nodes:
            figures["nodes_before_fusion"] = nodes
        if self._heard.fused_nodes:
            figures["fused_nodes"] = sum(self._heard.fused_nodes)
        if accessed := inductor_metrics.num_bytes_accessed - self._start.bytes_accessed:
            figures["bytes_accessed"] = accessed
        return figures


class _Heard:
    """What the taps collect while compiling goes on."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.graph_ops: Counter[str] = Counter()
        self.cudagraph_skips: list[GraphBreak] = []
        self.fused_nodes: list[int] = []

    def graph(self, _output_graph: object, graph: torch.fx.GraphModule, *_args: object, **_kwargs: object) -> None:
        self.graph_ops.update(_op_name(node) for node in graph.graph.nodes if node.op.startswith("call_"))

    def module(self, _key: str, path: str, *_args: object, **_kwargs: object) -> None:
        """Keep the code of a module that inductor loads, unless it holds a single Triton kernel."""
        code = Path(path).read_text()
        if "AsyncCompile()" in code:
            self.codes.append(code)

    def scheduler(self, scheduler: Any) -> None:
        self.fused_nodes.append(sum(len(node.get_nodes()) - 1 for node in scheduler.nodes))

    def cudagraph_skip(self, message: object) -> None:
        self.cudagraph_skips.append(_cudagraph_skip(str(message)))


@dataclass(frozen=True, slots=True)
class _Start:
    """Where torch's own running counts stood when listening began."""

    counters: Mapping[str, Counter[str]]
    metrics: int
    breaks: int
    inductor_nodes: int
    bytes_accessed: int

    @classmethod
    def now(cls) -> _Start:
        return cls(
            counters={group: Counter(counts) for group, counts in dynamo_utils.counters.items()},
            metrics=len(dynamo_utils.get_compilation_metrics()),
            breaks=len(dynamo_utils.graph_break_reasons),
            inductor_nodes=inductor_metrics.ir_nodes_pre_fusion,
            bytes_accessed=inductor_metrics.num_bytes_accessed,
        )

    def counted_since(self) -> Mapping[str, Counter[str]]:
        """Return dynamo's counters without what they held at the start; a group nobody counted in is empty."""
        since: dict[str, Counter[str]] = {"stats": Counter(), "frames": Counter(), "inductor": Counter()}
        for group, counts in dynamo_utils.counters.items():
            since[group] = Counter(counts)
            since[group].subtract(self.counters.get(group, {}))
        return since


def _figures(counted: Mapping[str, Counter[str]], entries: Sequence[Any]) -> dict[str, int]:
    figures = {
        "calls_captured": counted["stats"]["calls_captured"],
        "frames": counted["frames"]["total"],
        "cudagraph_skips": counted["inductor"]["cudagraph_skips"],
    }
    guards = [entry.guard_count for entry in entries if entry.guard_count is not None]
    if guards:
        figures["guards"] = sum(guards)
    for name, (group, key) in _CACHE_COUNTERS.items():
        if counts := counted.get(group, Counter[str]())[key]:
            figures[name] = counts
    return figures


def _graph_break(reason: str, user_stack: Sequence[Any]) -> GraphBreak:
    words = _break_words(reason)
    if not user_stack:
        return GraphBreak(words)
    frame = user_stack[-1]
    return GraphBreak(words, file=frame.filename, line=frame.lineno, code=(frame.line or "").strip() or None)


def _break_words(reason: str) -> str:
    """Name the break in words; dynamo keeps only an internal name for a branch on a tensor's value."""
    line = meaningful_line(reason)
    return "Data-dependent branching" if line.startswith("generic_jump") else line


_SKIP_PLACE = re.compile(r'File "(?P<file>.+?)", line (?P<line>\d+), in .*\n\s*(?P<code>.*)')


def _cudagraph_skip(message: str) -> GraphBreak:
    """Read ``skipping cudagraphs due to mutated inputs (1 instances). Found from : <traceback entry>``."""
    reason = meaningful_line(message.partition(". Found from")[0])
    place = _SKIP_PLACE.search(message)
    if place is None:
        return GraphBreak(reason)
    return GraphBreak(reason, file=place["file"], line=int(place["line"]), code=place["code"].strip() or None)


def _recompile(entry: Any) -> Recompile:
    return Recompile(
        function=entry.co_name,
        reason=_guard(getattr(entry, "recompile_reason", None)),
        file=entry.co_filename,
        line=entry.co_firstlineno,
    )


def _guard(reason: str | None) -> str | None:
    """Strip the number of the compiled entry whose guard failed: ``0/1: tensor 'x' size mismatch``."""
    return None if reason is None else re.sub(r"^\d+/\d+(_\d+)?: ", "", meaningful_line(reason))


def _eager_reasons(counted: Mapping[str, Counter[str]], entries: Sequence[Any]) -> tuple[GraphBreak, ...]:
    """Return why frames run eagerly; on torch 2.4 a frame at the recompile limit leaves only a counter."""
    failures = tuple(_failure(entry) for entry in entries if entry.fail_type is not None)
    unimplemented = +counted.get("unimplemented", Counter[str]())
    return failures or tuple(GraphBreak(meaningful_line(reason)) for reason in unimplemented)


def _failure(entry: Any) -> GraphBreak:
    file, line = entry.fail_user_frame_filename, entry.fail_user_frame_lineno
    code = linecache.getline(file, line).strip() if file and line else ""
    return GraphBreak(meaningful_line(entry.fail_reason or entry.fail_type), file=file, line=line, code=code or None)


def meaningful_line(message: str) -> str:
    """Return the first line, with the next ones behind it while it only announces them (``backend='x' raised:``)."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    announcements = list(itertools.takewhile(lambda line: line.endswith(":"), lines))
    return " ".join(lines[: len(announcements) + 1])


def _op_name(node: torch.fx.Node) -> str:
    """Name a graph node as people write it: ``linear``, ``Tensor.item``, ``operator.add``.

    On torch 2.4 a module of torch's own is one node, named by its class: ``Linear``.
    """
    target = node.target
    if node.op == "call_method":
        return f"Tensor.{target}"
    if isinstance(target, str):
        owner = node.graph.owning_module
        return target if owner is None else type(owner.get_submodule(target)).__name__
    name = getattr(target, "__name__", str(target))
    return f"operator.{name}" if getattr(target, "__module__", None) == operator.add.__module__ else name


_KERNEL = re.compile(r"^(\w+) = async_compile\.\w+\(.*?'''(.*?)'''", re.MULTILINE | re.DOTALL)
_EXTERNAL_CALL = re.compile(r"(?:\bextern_kernels\.|\btorch\.ops\.|(?<![\w.])(?=aten\.))([\w.]+)\(")


def _generated_kernels(codes: Sequence[str]) -> dict[str, int]:
    """Count the kernels in inductor's output code by name and content.

    A kernel is named by what it fuses and a hash of its source, as in ``cpp_fused_relu-3f9a1c04``: its running number
    is left out, so a kernel added before it changes nothing.
    """
    kernels = (match.groups() for code in codes for match in _KERNEL.finditer(code))
    return dict(sorted(Counter(_kernel_key(name, source) for name, source in kernels).items()))


def _kernel_key(name: str, source: str) -> str:
    digest = hashlib.sha256(source.replace(name, "kernel").encode()).hexdigest()
    return f"{re.sub(r'_[0-9]+$', '', name)}-{digest[:8]}"


def _external_kernels(codes: Sequence[str]) -> dict[str, int]:
    """Count the calls in inductor's output code that leave it for a library, by name."""
    calls = (match[1] for code in codes for match in _EXTERNAL_CALL.finditer(code))
    return dict(sorted(Counter(calls).items()))


# What follows touches the parts of torch that are not public and that move between releases.


def _taps(heard: _Heard) -> Iterator[contextlib.AbstractContextManager[None]]:
    from torch._dynamo.output_graph import OutputGraph
    from torch._inductor.codecache import PyCodeCache
    from torch._inductor.graph import GraphLowering
    from torch._inductor.scheduler import Scheduler

    yield _before(OutputGraph, "call_user_compiler", heard.graph)
    yield _before(Scheduler, "codegen", heard.scheduler)
    if hasattr(GraphLowering, "save_output_code"):
        yield _replaced(GraphLowering, "save_output_code", staticmethod(heard.codes.append))
    else:  # torch 2.4
        yield _before(PyCodeCache, "load_by_key_path", heard.module)
    for module in _modules_with("log_cudagraph_skip_and_bump_counter"):
        yield _before(module, "log_cudagraph_skip_and_bump_counter", heard.cudagraph_skip)


def _before(owner: Any, name: str, listener: Callable[..., None]) -> contextlib.AbstractContextManager[None]:
    """Let ``listener`` see the arguments of every call of ``owner.name``; a release without it is left alone."""
    original = getattr(owner, name, None)
    if original is None:
        return contextlib.nullcontext()

    def listening(*args: Any, **kwargs: Any) -> Any:
        listener(*args, **kwargs)
        return original(*args, **kwargs)

    return _replaced(owner, name, listening)


@contextlib.contextmanager
def _replaced(owner: Any, name: str, replacement: object) -> Iterator[None]:
    original = vars(owner)[name]
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _modules_with(function: str) -> list[Any]:
    """Return the inductor modules that hold ``function`` under its own name, having imported it."""
    return [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("torch._inductor.") and function in vars(module)
    ]


@contextlib.contextmanager
def _unlimited_compilation_metrics() -> Iterator[None]:
    """Keep every entry of the compilation metrics; torch drops all but the last 64, and a storm has more."""
    kept = dynamo_utils._compilation_metrics.maxlen or dynamo_utils.DEFAULT_COMPILATION_METRICS_LIMIT
    dynamo_utils.set_compilation_metrics_limit(_METRICS_KEPT)
    try:
        yield
    finally:
        dynamo_utils.set_compilation_metrics_limit(kept)


def _counting_bytes() -> contextlib.AbstractContextManager[None]:
    """Make inductor count the bytes its kernels access, which recent releases do only when they would log them."""
    from torch._inductor import compile_fx

    if not hasattr(compile_fx, "inductor_metrics_log"):
        return contextlib.nullcontext()
    return _replaced(compile_fx, "inductor_metrics_log", logging.Logger("nnopt.inductor_metrics", logging.INFO))
