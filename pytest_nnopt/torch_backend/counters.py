"""What the compiler did, as exact figures: graphs, breaks, recompiles, kernels.

:class:`CompileObserver` listens while compiling happens anyway, so looking costs next to nothing. No dispatch mode
surrounds the model: under ``FlopCounterMode`` and its kin a compiled module silently runs eagerly.

What differs between torch releases from 2.4 on is confined to the modules ``taps`` and ``reasons`` beside this one.
What a release cannot tell is None, or absent from the counters; it is never 0.
"""

from __future__ import annotations

import contextlib
import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torch._dynamo.utils as dynamo_utils
import torch.fx
from torch._inductor import metrics as inductor_metrics

from pytest_nnopt.model import TIMED_CHOICES, CompileFacts, CompileStatus, GraphBreak
from pytest_nnopt.torch_backend.output_code import external_kernels, generated_kernels
from pytest_nnopt.torch_backend.reasons import cudagraph_skip, eager_reasons, graph_break, recompile
from pytest_nnopt.torch_backend.taps import listening, tells_cudagraph_skips

_CACHE_COUNTERS = {
    "fx_cache_hits": ("inductor", "fxgraph_cache_hit"),
    "fx_cache_misses": ("inductor", "fxgraph_cache_miss"),
    "fx_cache_bypasses": ("inductor", "fxgraph_cache_bypass"),
    "autograd_cache_hits": ("aot_autograd", "autograd_cache_hit"),
    "autograd_cache_misses": ("aot_autograd", "autograd_cache_miss"),
    "autograd_cache_bypasses": ("aot_autograd", "autograd_cache_bypass"),
}

_CHOSEN_IMPLEMENTATIONS = "select_algorithm_autotune"
"""How many products were implemented in the way that was the fastest when inductor timed them."""


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
        self._taps.enter_context(listening(self._heard))
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
        eager_frames = _eager_frames(counted)
        codes = self._heard.codes
        return CompileFacts(
            status=CompileStatus.COMPILED if graphs else CompileStatus.NOTHING_COMPILED,
            graphs=graphs,
            graph_breaks=tuple(graph_break(reason.reason, reason.user_stack) for reason in reasons),
            recompiles=tuple(recompile(entry) for entry in entries if entry.cache_size),
            eager_frames=eager_frames,
            eager_reasons=eager_reasons(counted, entries) if eager_frames else (),
            cudagraph_skips=tuple(self._heard.cudagraph_skips),
            graph_ops=dict(sorted(self._heard.graph_ops.items())) if self._heard.graph_ops or not graphs else None,
            kernels=generated_kernels(codes) if codes else None,
            external_kernels=external_kernels(codes) if codes else None,
            counters=_figures(counted, entries) | self._inductor_figures(counted),
        )

    def _inductor_figures(self, counted: Mapping[str, Counter[str]]) -> dict[str, int]:
        """Figures that exist only where inductor generated code, as other backends leave them untouched."""
        if not self._heard.codes:
            return {}
        figures = {
            "generated_kernels": sum(generated_kernels(self._heard.codes).values()),
            "external_kernels": sum(external_kernels(self._heard.codes).values()),
        }
        if nodes := inductor_metrics.ir_nodes_pre_fusion - self._start.inductor_nodes:
            figures["nodes_before_fusion"] = nodes
        if self._heard.fused_nodes:
            figures["fused_nodes"] = sum(self._heard.fused_nodes)
        if chosen := self._heard.padding_choices + counted["inductor"][_CHOSEN_IMPLEMENTATIONS]:
            figures[TIMED_CHOICES] = chosen
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
        self.padding_choices = 0

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
        self.cudagraph_skips.append(cudagraph_skip(str(message)))

    def padding_choice(self, *_args: object, **_kwargs: object) -> None:
        self.padding_choices += 1


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


def _eager_frames(counted: Mapping[str, Counter[str]]) -> int | None:
    """Return how many frames dynamo saw and could not compile; None where graphs exist and no frame was counted."""
    frames = counted["frames"]
    return None if counted["stats"]["unique_graphs"] and not frames["total"] else frames["total"] - frames["ok"]


def _figures(counted: Mapping[str, Counter[str]], entries: Sequence[Any]) -> dict[str, int]:
    figures = {"calls_captured": counted["stats"]["calls_captured"], "frames": counted["frames"]["total"]}
    if tells_cudagraph_skips():
        figures["cudagraph_skips"] = counted["inductor"]["cudagraph_skips"]
    guards = [entry.guard_count for entry in entries if entry.guard_count is not None]
    if guards:
        figures["guards"] = sum(guards)
    for name, (group, key) in _CACHE_COUNTERS.items():
        if counts := counted.get(group, Counter[str]())[key]:
            figures[name] = counts
    return figures


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
