from __future__ import annotations

import os

import pytest
import torch

from pytest_nnopt.torch_backend.yardstick import YARDSTICK_VERSION, make_yardstick

CPU = torch.device("cpu")


def test_every_call_gives_the_same_values() -> None:
    yardstick = make_yardstick(CPU)
    first = yardstick()
    assert isinstance(first, torch.Tensor)
    values = first.clone()
    for _ in range(5):
        assert torch.equal(yardstick(), values)  # type: ignore[arg-type]


def test_values_keep_their_size() -> None:
    # the third power of a rotation that is its own inverse is the rotation, whose columns have length 1
    result = make_yardstick(CPU)()
    assert isinstance(result, torch.Tensor)
    assert torch.linalg.vector_norm(result, dim=0).allclose(torch.ones(result.shape[0], dtype=result.dtype))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_callers_mode_changes_nothing(mode: type[torch.no_grad]) -> None:
    with mode():
        yardstick = make_yardstick(CPU)
        inside = yardstick()
    outside = yardstick()
    assert isinstance(inside, torch.Tensor)
    assert isinstance(outside, torch.Tensor)
    assert not inside.requires_grad
    assert not inside.is_inference()
    assert torch.equal(inside, outside)


def test_autocast_changes_nothing() -> None:
    yardstick = make_yardstick(CPU)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = yardstick()
    assert isinstance(result, torch.Tensor)
    assert result.dtype is torch.float64


def test_work_and_version_change_together() -> None:
    yardstick = make_yardstick(CPU)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # counts from a process's first use on, and tests may share one
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], with_flops=True) as profiler:
        yardstick()
    work = {event.key: (event.count, event.flops) for event in profiler.key_averages()}
    assert (YARDSTICK_VERSION, work["aten::mm"], work["aten::copy_"][0]) == (1, (2, 2 * 2 * 128**3), 1)


@pytest.mark.gpu
def test_gpu_gives_the_same_values_every_time() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    yardstick = make_yardstick(torch.device("cuda", 0))
    first = yardstick()
    assert isinstance(first, torch.Tensor)
    values = first.clone()
    assert values.isfinite().all()
    assert torch.equal(yardstick(), values)  # type: ignore[arg-type]
