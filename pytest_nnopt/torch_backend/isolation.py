"""A compiler without memory: what one case compiled can neither help nor harm the next one."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch._dynamo
import torch._dynamo.utils
from torch._inductor import metrics, utils

from pytest_nnopt.files import temporary_directory

_MACHINE_CODE = "triton"
"""Where Triton keeps its own, in a directory for compiled code."""


@contextlib.contextmanager
def isolated_compilation(*, cache_dir: Path | None = None) -> Iterator[None]:
    """Run the body with an empty compiler: nothing compiled, nothing cached, every counter at zero.

    Args:
        cache_dir: keep compiled code there and reuse what it holds, for a warm compile; by default a new directory
            that is removed afterwards, for a cold one. A directory filled on another machine is not safe to reuse:
            the cache does not know the instruction set its code was made for.
    """
    with contextlib.ExitStack() as stack:
        if cache_dir is None:
            cache_dir = stack.enter_context(temporary_directory("nnopt-inductor-"))
        stack.enter_context(_cached_in(cache_dir))
        reset_compiler()
        try:
            yield
        finally:
            reset_compiler()


@functools.cache
def probe_instruction_sets() -> tuple[str, ...]:
    """Let inductor find out which vector instructions it can use here, and return their names.

    It compiles and loads a small program for each set, once in a process. Done outside ``isolated_compilation`` these
    seconds are part of no cold compile, and what is compiled stays in inductor's ordinary cache. Where it cannot be
    done, the case's own compilation says why.
    """
    with contextlib.suppress(Exception), warnings_not_raised():
        from torch._inductor import cpu_vec_isa

        return tuple(map(str, cpu_vec_isa.valid_vec_isa_list()))
    return ()


def known_instruction_sets() -> tuple[str, ...]:
    """Return what ``probe_instruction_sets`` has found out in this process; nothing where it was not asked."""
    return probe_instruction_sets() if probe_instruction_sets.cache_info().currsize else ()


def trust_instruction_sets(names: Sequence[str]) -> None:
    """Take over what another process of this run has found out: loading a program for each set takes time.

    Where inductor would ask of other sets, it is left to find out for itself.
    """
    with contextlib.suppress(Exception), warnings_not_raised():
        from torch._inductor import config, cpu_vec_isa

        with config.patch({"cpp.vec_isa_ok": True}):
            found = tuple(map(str, cpu_vec_isa.valid_vec_isa_list()))
        if found != tuple(names):
            beliefs = [type(one).__bool__ for one in cpu_vec_isa.supported_vec_isa_list]
            for known in (cpu_vec_isa.valid_vec_isa_list, *beliefs):
                getattr(known, "cache_clear", lambda: None)()


def load_compiler() -> None:
    """Import what compiling imports on first use, most of it. Compiling itself would wake every GPU there is.

    Where something cannot be imported, the case's own compilation says why.
    """
    with contextlib.suppress(Exception), warnings_not_raised():
        importlib.import_module("torch._inductor.compile_fx")


@functools.cache
def rehearse_compilation(device: str) -> None:
    """Have the compiler compile something for a device, so that what it loads and sets up on first use is there; once.

    That takes seconds, which would else be part of the first model's cold compile, whichever model that is, and in a
    measuring process it can be done while that waits. A product of two matrices needs no code of its own, on a CPU no
    C++ compiler; on a GPU a small kernel needs what all kernels do. It is kept in inductor's ordinary cache, so that a
    process that is killed meanwhile leaves no directory behind.
    """
    if torch.device(device).type != "cpu":
        _start_compiling_processes()
    with (
        contextlib.suppress(Exception),
        warnings_not_raised(),
        isolated_compilation(cache_dir=default_cache_dir()),
        graph_caches_off(),
        torch.no_grad(),
    ):
        square = torch.ones(2, 2, device=device)
        simplest = torch.mm if square.device.type == "cpu" else torch.add
        torch.compile(simplest, backend="inductor")(square, square)


def _start_compiling_processes() -> None:
    """Start the processes in which torch compiles kernels for a GPU, where it would: they import while this one does.

    Of a torch that cannot be asked to, they start with the first kernel.
    """
    with contextlib.suppress(Exception), warnings_not_raised():
        from torch._inductor.async_compile import maybe_warm_pool

        maybe_warm_pool()


def reset_compiler() -> None:
    """Forget all compiled code and what was counted about it; the caches on disk stay.

    ``torch._dynamo.reset`` alone leaves the counters, inductor's metrics and the compilation metrics standing.
    """
    with warnings_not_raised():
        torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    torch._dynamo.utils.clear_compilation_metrics()
    metrics.reset()


@contextlib.contextmanager
def warnings_not_raised() -> Iterator[None]:
    """Show warnings even where filters make them errors, and those about torch's own inside not at all.

    Raised inside the compiler, a warning would pass for its failure to compile.

    Most come from its imports, which happen on first use, for instance in ``torch._dynamo.reset`` where there is a GPU.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.filterwarnings("ignore", module=r"torch(\.|$)")
        yield


@contextlib.contextmanager
def graph_caches_off() -> Iterator[None]:
    """Let the compiler do all of its own work again; on torch 2.4 one cache is off by default, the other unknown."""
    import torch._functorch.config as functorch_config
    import torch._inductor.config as inductor_config

    caches = ((inductor_config, "fx_graph_cache"), (functorch_config, "enable_autograd_cache"))
    with contextlib.ExitStack() as stack:
        for config, name in caches:
            if hasattr(config, name):
                stack.enter_context(config.patch({name: False}))
        yield


def default_cache_dir() -> Path:
    """Return the directory in which inductor keeps compiled code when nothing else is asked for."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    found = Path(cache_dir())
    if before is None:  # asking sets it, and a later TMPDIR would be ignored
        os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)
    return found


@contextlib.contextmanager
def _cached_in(directory: Path) -> Iterator[None]:
    """Point inductor and Triton at ``directory``, and drop what they hold in memory on the way in and out.

    Does what ``torch._inductor.utils.fresh_cache`` does (``fresh_inductor_cache`` on torch 2.4), which can neither
    keep its directory nor remove it when the body raises.
    """
    directory.mkdir(parents=True, exist_ok=True)
    settings = {"TORCHINDUCTOR_CACHE_DIR": str(directory), "TRITON_CACHE_DIR": str(directory / _MACHINE_CODE)}
    before = {name: os.environ.get(name) for name in settings}
    _clear_caches_in_memory()
    os.environ.update(settings)
    try:
        yield
    finally:
        _clear_caches_in_memory()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def share_machine_code(directory: Path, other: Path) -> None:
    """Let a compilation cached in ``directory`` use what Triton made of the same sources for one cached in ``other``.

    Machine code depends on nothing but its source and options. What Triton itself chose by timing stays behind: it is
    chosen anew, as inductor chooses how to launch its kernels. What cannot be copied, Triton makes again.

    Args:
        directory: where code will be kept.
        other: where some is; it must outlive what is compiled, as copies refer to it.
    """
    with contextlib.suppress(OSError):
        shutil.copytree(
            other / _MACHINE_CODE, directory / _MACHINE_CODE, ignore=shutil.ignore_patterns("*.autotune.json")
        )


def _clear_caches_in_memory() -> None:
    clear = getattr(utils, "clear_caches", None) or utils.clear_inductor_caches
    clear()
