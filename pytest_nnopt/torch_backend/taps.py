"""Where the observer of the compiler listens: the parts of torch that are not public and that move between releases.

A part that a release lacks is not tapped, and what it would have told stays unknown.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch._dynamo.utils as dynamo_utils
import torch.fx

_METRICS_KEPT = 65_536
_SKIP = "log_cudagraph_skip_and_bump_counter"
_PADDING_CHOICES = "set_cached_should_pad", "set_cached_padding_plan"
"""What keeps the result of timing with and without padding; it goes by the second name in releases to come."""


class Listener(Protocol):
    """What is told while compiling goes on; each method takes what the tapped function takes."""

    codes: list[str]

    def graph(self, _output_graph: object, graph: torch.fx.GraphModule, *_args: object, **_kwargs: object) -> None:
        """Hear of a captured graph before the backend compiles it."""

    def module(self, _key: str, path: str, *_args: object, **_kwargs: object) -> None:
        """Hear of a Python module that inductor loads; asked on torch 2.4 alone, which keeps its code nowhere else."""

    def scheduler(self, scheduler: Any) -> None:
        """Hear of inductor's scheduler once it has fused."""

    def cudagraph_skip(self, message: object) -> None:
        """Hear why a graph was not recorded as a CUDA graph."""

    def padding_choice(self, *_args: object, **_kwargs: object) -> None:
        """Hear that it was timed whether a matrix product is faster with its operands padded."""


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let a listener hear what the compiler does in the body, and make torch count all of it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_unlimited_compilation_metrics())
        stack.enter_context(_counting_bytes())
        for tap in _taps(listener):
            stack.enter_context(tap)
        yield


def tells_cudagraph_skips() -> bool:
    """Whether this release counts and explains the graphs that it does not record, so that none means none."""
    from torch._inductor import cudagraph_utils

    return hasattr(cudagraph_utils, _SKIP)


def _taps(listener: Listener) -> Iterator[contextlib.AbstractContextManager[None]]:
    from torch._dynamo.output_graph import OutputGraph
    from torch._inductor.codecache import PyCodeCache
    from torch._inductor.fx_passes import pad_mm
    from torch._inductor.graph import GraphLowering
    from torch._inductor.scheduler import Scheduler

    yield _before(OutputGraph, "call_user_compiler", listener.graph)
    yield _before(Scheduler, "codegen", listener.scheduler)
    if hasattr(GraphLowering, "save_output_code"):
        yield _replaced(GraphLowering, "save_output_code", staticmethod(listener.codes.append))
    else:  # torch 2.4
        yield _before(PyCodeCache, "load_by_key_path", listener.module)
    for name in _PADDING_CHOICES:
        yield _before(pad_mm, name, listener.padding_choice)
    for module in _modules_with(_SKIP):
        yield _before(module, _SKIP, listener.cudagraph_skip)


def _before(owner: Any, name: str, listener: Callable[..., None]) -> contextlib.AbstractContextManager[None]:
    """Let ``listener`` see the arguments of every call of ``owner.name``; a release without it is left alone."""
    original = getattr(owner, name, None)
    if original is None:
        return contextlib.nullcontext()

    def told(*args: Any, **kwargs: Any) -> Any:
        listener(*args, **kwargs)
        return original(*args, **kwargs)

    return _replaced(owner, name, told)


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
