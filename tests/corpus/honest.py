"""Planted cases that differ by rounding alone: they must pass."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pytest_nnopt.torch_backend.side import ExecutionMode
from tests.corpus.planted import Corpus, Pair, blocked_matmul, functions, tf32, training

HONEST = Corpus(is_error=False)


@HONEST
def matmul_reassociated_over_K_4096() -> Pair:
    return functions(torch.matmul, blocked_matmul, torch.randn(64, 4096), torch.randn(4096, 64))


@HONEST
def matmul_of_positive_numbers_reassociated() -> Pair:
    return functions(torch.matmul, blocked_matmul, torch.rand(64, 2048), torch.rand(2048, 64))


@HONEST
def matmul_with_a_large_common_offset() -> Pair:
    return functions(torch.matmul, blocked_matmul, torch.randn(64, 512) + 1000, torch.randn(512, 64))


@HONEST
def float64_matmul_reassociated() -> Pair:
    a, b = torch.randn(64, 1024).double(), torch.randn(1024, 64).double()
    return functions(torch.matmul, blocked_matmul, a, b)


@HONEST
def sum_of_a_million_in_blocks() -> Pair:
    x = torch.randn(4, 1_000_000)
    return functions(lambda x: x.sum(-1), lambda x: x.view(4, 1000, 1000).sum(1).sum(-1), x)


@HONEST
def mean_near_zero_of_a_million_as_one_element() -> Pair:
    x = torch.randn(1_000_000)
    return functions(lambda x: x.mean(), lambda x: x.view(1000, 1000).mean(0).mean(), x)


@HONEST
def sum_in_reverse_order() -> Pair:
    return functions(lambda x: x.sum(0), lambda x: x.flip(0).cumsum(0)[-1], torch.randn(512, 256))


@HONEST
def variance_in_one_pass() -> Pair:
    x = torch.randn(256, 1024)
    return functions(lambda x: x.var(-1, unbiased=False), lambda x: (x * x).mean(-1) - x.mean(-1) ** 2, x)


@HONEST
def index_add_in_another_order() -> Pair:
    index, x = torch.randint(32, (4096,)), torch.randn(4096, 16)
    order = torch.randperm(4096)

    def add(index: Tensor, x: Tensor) -> Tensor:
        return torch.zeros(32, 16, dtype=x.dtype).index_add(0, index, x)

    return functions(add, lambda index, x: add(index[order], x[order]), index, x)


def _mlp(x: Tensor, *weights: Tensor) -> Tensor:
    for weight in weights:
        x = F.gelu(x @ weight) * 0.5 + x
    return x


@HONEST
def bf16_fused_and_therefore_closer() -> Pair:
    inputs = [torch.randn(64, 128).bfloat16(), *(torch.randn(128, 128).bfloat16() / 11 for _ in range(3))]
    return functions(_mlp, lambda *args: _mlp(*(a.float() for a in args)).bfloat16(), *inputs)


@HONEST
def bf16_unfused_and_therefore_further() -> Pair:
    def decomposed(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred * torch.rsqrt((centred * centred).mean(-1, keepdim=True) + 1e-5)

    return functions(lambda x: F.layer_norm(x, x.shape[-1:]), decomposed, torch.randn(64, 256).bfloat16())


@HONEST
def bf16_twelve_residual_layers_fused() -> Pair:
    inputs = [torch.randn(32, 64).bfloat16(), *(torch.randn(64, 64).bfloat16() / 8 for _ in range(12))]
    return functions(_mlp, lambda *args: _mlp(*(a.float() for a in args)).bfloat16(), *inputs)


@HONEST
def bf16_mean_over_long_rows() -> Pair:
    x = torch.randn(64, 8192).bfloat16() + 1
    return functions(lambda x: x.mean(-1), lambda x: x.view(64, 64, 128).mean(-1).float().mean(-1).to(x.dtype), x)


@HONEST
def fp16_partial_sums_of_a_split_product() -> Pair:
    a, b = torch.randn(64, 1024).half(), torch.randn(1024, 64).half()
    return functions(torch.matmul, lambda a, b: blocked_matmul(a, b, 128), a, b)


@HONEST
def tf32_on_both_sides() -> Pair:
    def product(a: Tensor, b: Tensor) -> Tensor:
        return tf32(a) @ tf32(b)

    a, b = torch.randn(64, 1024), torch.randn(1024, 64)
    return functions(product, lambda a, b: blocked_matmul(tf32(a), tf32(b)), a, b)


@HONEST
def tf32_on_both_sides_of_a_two_layer_value_head() -> Pair:
    def head(matmul: Any) -> Any:
        return lambda x, v, w: torch.tanh(matmul(tf32(torch.relu(matmul(tf32(x), tf32(v)))), tf32(w)))

    inputs = torch.randn(4, 256), torch.randn(256, 64) / 16, torch.randn(64, 1) / 8
    return functions(head(torch.matmul), head(lambda a, b: blocked_matmul(a, tf32(b), 32)), *inputs)


def _broadcast_scalar(matmul: Any, batch: int) -> Pair:
    def head(matmul: Any) -> Any:
        return lambda x, w, y: matmul(x, w) * y

    inputs = torch.randn(batch, 512), torch.randn(512, 1) / 22, torch.randn(batch, 2000)
    return functions(head(lambda a, b: tf32(a) @ tf32(b)), head(matmul), *inputs)


@HONEST
def tf32_value_of_four_samples_broadcast_over_rows() -> Pair:
    return _broadcast_scalar(lambda a, b: blocked_matmul(tf32(a + 1e-4) - 1e-4, tf32(b)), 4)


@HONEST
def tf32_value_of_64_samples_broadcast_over_rows() -> Pair:
    return _broadcast_scalar(lambda a, b: blocked_matmul(tf32(a + 1e-4) - 1e-4, tf32(b)), 64)


@HONEST
def bf16_gate_of_each_channel_inside_of_a_float32_model() -> Pair:
    def gated(matmul: Any) -> Any:
        return lambda x, w, y: torch.sigmoid(matmul(x.bfloat16(), w.bfloat16()).to(y.dtype)) * y

    def product(a: Tensor, b: Tensor) -> Tensor:
        return a @ b if a.dtype is torch.float64 else (a.float() @ (b.float() * 1.3)).bfloat16() / 1.3

    inputs = torch.randn(1, 256), torch.randn(256, 64) / 16, torch.randn(2000, 64)
    return functions(gated(torch.matmul), gated(product), *inputs)


@HONEST
def tf32_on_the_reference_alone() -> Pair:
    a, b = torch.randn(64, 512), torch.randn(512, 64)
    return functions(lambda a, b: tf32(a) @ tf32(b), torch.matmul, a, b)


@HONEST
def convolution_as_matrix_product() -> Pair:
    def unfolded(x: Tensor, w: Tensor) -> Tensor:
        columns = F.unfold(x, 3, padding=1)
        return (w.reshape(w.shape[0], -1) @ columns).reshape(x.shape[0], -1, *x.shape[2:])

    return functions(
        lambda x, w: F.conv2d(x, w, padding=1), unfolded, torch.randn(2, 32, 16, 16), torch.randn(16, 32, 3, 3)
    )


_WINOGRAD_INPUT = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float64,
)
_WINOGRAD_FILTER = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)
_WINOGRAD_OUTPUT = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=torch.float64
)


@HONEST
def convolution_by_winograd_F_4x4_3x3() -> Pair:
    def winograd(x: Tensor, w: Tensor) -> Tensor:
        into, filters, out = (m.to(x.dtype) for m in (_WINOGRAD_INPUT, _WINOGRAD_FILTER, _WINOGRAD_OUTPUT))
        tiles = F.pad(x, (1, 1, 1, 1)).unfold(2, 6, 4).unfold(3, 6, 4)
        moved = into @ tiles @ into.T
        kernels = filters @ w @ filters.T
        sums = torch.einsum("ncyxij,ocij->noyxij", moved, kernels)
        return (out @ sums @ out.T).permute(0, 1, 2, 4, 3, 5).reshape(x.shape[0], w.shape[0], *x.shape[2:])

    return functions(
        lambda x, w: F.conv2d(x, w, padding=1), winograd, torch.randn(2, 32, 16, 16), torch.randn(16, 32, 3, 3)
    )


@HONEST
def convolution_by_fft() -> Pair:
    def fft(x: Tensor, w: Tensor) -> Any:
        length = x.shape[-1] + w.shape[-1] - 1
        spectrum = torch.einsum("ncf,ocf->nof", torch.fft.rfft(x, length), torch.fft.rfft(w.flip(-1), length))
        return torch.fft.irfft(spectrum, length)[..., w.shape[-1] - 1 : x.shape[-1]]

    return functions(F.conv1d, fft, torch.randn(4, 8, 256), torch.randn(8, 8, 9))


@HONEST
def batch_normalisation_folded_into_the_convolution() -> Pair:
    conv, norm = nn.Conv2d(8, 16, 3).eval(), nn.BatchNorm2d(16).eval()
    norm.load_state_dict({**norm.state_dict(), "running_mean": torch.randn(16), "running_var": torch.rand(16) + 0.5})
    fused = torch.nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
    return functions(nn.Sequential(conv, norm), fused, torch.randn(4, 8, 12, 12))


@HONEST
def channels_last_layout() -> Pair:
    conv = nn.Conv2d(16, 16, 3)
    return functions(conv, lambda x: conv(x.contiguous(memory_format=torch.channels_last)), torch.randn(2, 16, 12, 12))


@HONEST
def softmax_over_50k_classes_by_exp2() -> Pair:
    def softmax(x: Tensor) -> Tensor:
        powers = torch.exp2((x - x.amax(-1, keepdim=True)) * math.log2(math.e))
        return powers / powers.sum(-1, keepdim=True)

    return functions(lambda x: F.softmax(x, -1), softmax, torch.randn(4, 50_000) * 4)


@HONEST
def softmax_online_in_blocks() -> Pair:
    def softmax(x: Tensor) -> Tensor:
        parts = x.view(x.shape[0], -1, 128)
        peaks = parts.amax(-1, keepdim=True)
        peak = peaks.amax(1, keepdim=True)
        powers = torch.exp(parts - peaks)
        total = (powers.sum(-1, keepdim=True) * torch.exp(peaks - peak)).sum(1, keepdim=True)
        return (powers * torch.exp(peaks - peak) / total).view_as(x)

    return functions(lambda x: F.softmax(x, -1), softmax, torch.randn(16, 4096) * 8)


@HONEST
def log_softmax_from_logsumexp() -> Pair:
    return functions(
        lambda x: F.log_softmax(x, -1), lambda x: x - x.logsumexp(-1, keepdim=True), torch.randn(8, 50_000)
    )


@HONEST
def bf16_softmax_unfused() -> Pair:
    def softmax(x: Tensor) -> Tensor:
        powers = torch.exp(x - x.amax(-1, keepdim=True))
        return powers / powers.sum(-1, keepdim=True)

    return functions(lambda x: F.softmax(x, -1), softmax, torch.randn(64, 512).bfloat16())


@HONEST
def layer_norm_in_one_pass() -> Pair:
    def layer_norm(x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        return (x - mean) * torch.rsqrt((x * x).mean(-1, keepdim=True) - mean * mean + 1e-5)

    return functions(lambda x: F.layer_norm(x, x.shape[-1:]), layer_norm, torch.randn(64, 512))


@HONEST
def rms_norm_by_division() -> Pair:
    return functions(
        lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
        lambda x: x / torch.sqrt((x * x).sum(-1, keepdim=True) / x.shape[-1] + 1e-6),
        torch.randn(64, 512),
    )


@HONEST
def group_norm_decomposed() -> Pair:
    def decomposed(x: Tensor) -> Tensor:
        groups = x.reshape(x.shape[0], 4, -1)
        variance, mean = torch.var_mean(groups, -1, unbiased=False, keepdim=True)
        return ((groups - mean) / torch.sqrt(variance + 1e-5)).reshape(x.shape)

    return functions(lambda x: F.group_norm(x, 4), decomposed, torch.randn(4, 16, 12, 12))


@HONEST
def whole_tensor_normalised_by_its_norm() -> Pair:
    x = torch.randn(1_000_000)
    return functions(lambda x: x / x.norm(), lambda x: x * torch.rsqrt((x * x).view(1000, 1000).sum(0).sum()), x)


def _attention(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = True) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)


def _plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), -1) @ v


@HONEST
def attention_decomposed() -> Pair:
    return functions(_attention, _plain_attention, *(torch.randn(2, 4, 64, 32) for _ in range(3)))


@HONEST
def bf16_attention_decomposed() -> Pair:
    return functions(_attention, _plain_attention, *(torch.randn(2, 4, 64, 32).bfloat16() for _ in range(3)))


@HONEST
def masked_scores_with_minus_infinity() -> Pair:
    def scores(matmul: Any) -> Any:
        mask = torch.ones(64, 64, dtype=torch.bool).triu(1)
        return lambda q, k: matmul(q, k).masked_fill(mask, -torch.inf)

    return functions(scores(torch.matmul), scores(blocked_matmul), torch.randn(64, 512), torch.randn(512, 64))


@HONEST
def cumulative_sum_in_blocks() -> Pair:
    def blocked(x: Tensor) -> Tensor:
        parts = x.view(x.shape[0], -1, 64).cumsum(-1)
        return (parts + F.pad(parts[:, :-1, -1].cumsum(-1), (1, 0)).unsqueeze(-1)).view_as(x)

    return functions(lambda x: x.cumsum(-1), blocked, torch.randn(16, 4096))


@HONEST
def cumulative_product_by_logarithms() -> Pair:
    x = torch.rand(16, 256) * 0.1 + 0.95
    return functions(
        lambda x: x.cumprod(-1),
        lambda x: (
            x.view(16, 16, 16).cumprod(-1).view_as(x)
            * F.pad(x.view(16, 16, 16).prod(-1).cumprod(-1)[:, :-1], (1, 0), value=1.0).repeat_interleave(16, -1)
        ),
        x,
    )


@HONEST
def log_cumulative_sum_of_exponentials() -> Pair:
    def shifted(x: Tensor) -> Tensor:
        peak = x.amax(-1, keepdim=True)
        return (x - peak).exp().cumsum(-1).log() + peak

    return functions(lambda x: x.logcumsumexp(-1), shifted, torch.randn(16, 1024))


@HONEST
def multiply_add_rounded_once() -> Pair:
    def contracted(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return (a.double() * b.double() + c.double()).to(a.dtype)

    a, b = torch.randn(4096), torch.randn(4096)
    return functions(lambda a, b, c: a * b + c, contracted, a, b, -(a * b) + torch.randn(4096) * 1e-4)


@HONEST
def division_by_reciprocal() -> Pair:
    return functions(lambda a, b: a / b, lambda a, b: a * b.reciprocal(), torch.randn(65536), torch.randn(65536))


@HONEST
def reciprocal_of_cancelling_differences() -> Pair:
    a = torch.randn(64, 512)
    return functions(
        lambda a, b: 1 / (a @ b).sin(), lambda a, b: 1 / blocked_matmul(a, b).sin(), a, torch.randn(512, 64)
    )


@HONEST
def silu_by_another_formula() -> Pair:
    return functions(F.silu, lambda x: x / (1 + torch.exp(-x)), torch.randn(65536) * 4)


@HONEST
def power_by_multiplication() -> Pair:
    return functions(lambda x: x.pow(3), lambda x: x * x * x, torch.randn(65536))


@HONEST
def logarithm_near_one() -> Pair:
    return functions(lambda x: torch.log1p(x), lambda x: torch.log1p(x.double()).float(), torch.randn(4096) * 1e-4)


@HONEST
def relu_flipping_the_sign_of_noise() -> Pair:
    a, b = torch.randn(128, 1024), torch.randn(1024, 128)
    return functions(lambda a, b: F.relu(a @ b - b.sum(0) * 0), lambda a, b: F.relu(blocked_matmul(a, b)), a, b)


@HONEST
def channels_of_very_different_magnitude() -> Pair:
    scales = torch.logspace(-6, 6, 64)
    return functions(torch.matmul, blocked_matmul, torch.randn(256, 512), torch.randn(512, 64) * scales)


@HONEST
def one_element_value_head() -> Pair:
    def head(matmul: Any) -> Any:
        return lambda x, v, w: torch.tanh(matmul(torch.relu(matmul(x, v)), w))

    inputs = torch.randn(1, 512), torch.randn(512, 256) / 22, torch.randn(256, 1) / 16
    return functions(head(torch.matmul), head(blocked_matmul), *inputs)


@HONEST
def bf16_one_element_value_head() -> Pair:
    def head(x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        return torch.tanh(torch.relu(x @ v) @ w)

    inputs = torch.randn(1, 512), torch.randn(512, 256) / 22, torch.randn(256, 1) / 16
    narrow = [x.bfloat16() for x in inputs]
    return functions(head, lambda *args: head(*(a.float() for a in args)).bfloat16(), *narrow)


@HONEST
def complex_transform_as_matrix_product() -> Pair:
    def product(x: Tensor) -> Tensor:
        steps = torch.arange(x.shape[-1], dtype=torch.float64)
        turns = torch.outer(steps, steps) * (-2 * math.pi / x.shape[-1])
        return x @ torch.polar(torch.ones_like(turns), turns).to(x.dtype)

    return functions(torch.fft.fft, product, torch.randn(16, 256, dtype=torch.complex64))


@HONEST
def float8_output_of_a_reassociated_product() -> Pair:
    def narrow(matmul: Any) -> Any:
        return lambda a, b: (matmul(a, b) / 8).to(torch.float8_e4m3fn)

    return functions(narrow(torch.matmul), narrow(blocked_matmul), torch.randn(32, 256), torch.randn(256, 32))


@HONEST
def sparse_output_scaled_in_another_order() -> Pair:
    dense = torch.randn(64, 64) * (torch.rand(64, 64) < 0.1)
    return functions(lambda x: (x * 3.3 * 0.7).to_sparse(), lambda x: (x * (3.3 * 0.7)).to_sparse(), dense)


@HONEST
def nested_output() -> Pair:
    def nest(matmul: Any) -> Any:
        return lambda a, b: torch.nested.as_nested_tensor([matmul(a[:8], b), matmul(a[8:], b)], layout=torch.jagged)

    return functions(nest(torch.matmul), nest(blocked_matmul), torch.randn(24, 256), torch.randn(256, 16))


@HONEST
def nan_and_infinity_in_the_same_places() -> Pair:
    def holes(matmul: Any) -> Any:
        def run(a: Tensor, b: Tensor) -> Tensor:
            y: Tensor = matmul(a, b)
            y[0, 0], y[1, 1], y[2, 2] = torch.nan, torch.inf, -torch.inf
            return y

        return run

    return functions(holes(torch.matmul), holes(blocked_matmul), torch.randn(32, 512), torch.randn(512, 32))


@HONEST
def output_of_zeros() -> Pair:
    return functions(lambda x: (x * 0, x.abs()), lambda x: (x - x, x.abs()), torch.randn(256))


@HONEST
def integer_and_boolean_outputs() -> Pair:
    x = torch.randn(64, 64)
    return functions(lambda x: (x.argmax(-1), x > 0), lambda x: (x.max(-1).indices, ~(x <= 0)), x)


@HONEST
def bilinear_interpolation_by_weights() -> Pair:
    def halves(x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1), mode="replicate")
        left = 0.25 * padded[..., :-2] + 0.75 * padded[..., 1:-1]
        right = 0.75 * padded[..., 1:-1] + 0.25 * padded[..., 2:]
        return torch.stack((left, right), -1).flatten(-2)

    return functions(lambda x: F.interpolate(x, scale_factor=2, mode="linear"), halves, torch.randn(4, 8, 64))


@HONEST
def linear_system_solved_by_another_factorisation() -> Pair:
    a = torch.randn(32, 32)
    spd = a @ a.T + 32 * torch.eye(32)
    return functions(
        torch.linalg.solve, lambda a, b: torch.cholesky_solve(b, torch.linalg.cholesky(a)), spd, torch.randn(32, 8)
    )


class _Net(nn.Module):
    """Convolution with a bias that its batch normalisation cancels, then a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)
        self.drop = nn.Dropout(0.1)
        self.is_channels_last = False

    def forward(self, x: Tensor) -> Tensor:
        if self.is_channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.norm(self.conv(x)))
        pooled = x.flatten(2).mean(-1) if self.is_channels_last else x.mean((2, 3))
        output: Tensor = self.head(self.drop(pooled))
        return output


def _cross_entropy(output: Tensor) -> Tensor:
    return F.cross_entropy(output, torch.arange(output.shape[0]) % 10)


@HONEST
def training_step_with_a_gradient_that_is_mere_noise() -> Pair:
    net = _Net()
    other = copy.deepcopy(net)
    other.is_channels_last = True
    return training(net, other, torch.randn(16, 3, 12, 12), loss=_cross_entropy)


@HONEST
def bf16_autocast_training_step_with_a_gradient_that_is_mere_noise() -> Pair:
    class Fused(_Net):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", enabled=False):
                output: Tensor = super().forward(x)
            return output.bfloat16()

    net, fused = _Net(), Fused()
    fused.load_state_dict(net.state_dict())
    pair = training(net, fused, torch.randn(16, 3, 12, 12), loss=_cross_entropy)
    mode = ExecutionMode(is_grad_enabled=True, autocast={"cpu": torch.bfloat16})
    return Pair(replace(pair.reference, mode=mode), replace(pair.candidate, mode=mode))


@HONEST
def gradient_of_zeros_in_place_of_none() -> Pair:
    x, unused = torch.randn(8, requires_grad=True), torch.randn(8, requires_grad=True)
    return training(lambda x, y: x.sin(), lambda x, y: x.sin() + 0 * y, x, unused, loss=lambda y: y.square().sum())


@HONEST
def bf16_training_step_with_the_loss_in_float32() -> Pair:
    class Mlp(nn.Module):
        def __init__(self, *, is_fused: bool) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(64, 128), nn.Linear(128, 10)
            self.is_fused = is_fused
            self.bfloat16()

        def forward(self, x: Tensor) -> Any:
            if not self.is_fused:
                return self.second(torch.tanh(self.first(x) * 0.5)).float()
            hidden = torch.tanh(F.linear(x.float(), self.first.weight.float(), self.first.bias.float()) * 0.5)
            return F.linear(hidden, self.second.weight.float(), self.second.bias.float())

    plain, fused = Mlp(is_fused=False), Mlp(is_fused=True)
    fused.load_state_dict(plain.state_dict())
    return training(plain, fused, torch.randn(32, 64).bfloat16(), loss=_cross_entropy)


@HONEST
def embedding_gradient_summed_in_another_order() -> Pair:
    order = torch.randperm(2048)

    def scores(table: Tensor, index: Tensor) -> Tensor:
        return table[index].sin()

    table = torch.randn(32, 16, requires_grad=True)
    return training(
        scores,
        lambda t, i: scores(t, i[order]).index_select(0, order.argsort()),
        table,
        torch.randint(32, (2048,)),
        loss=lambda y: y.square().mean(),
    )


@HONEST
def transformer_layer_against_its_decomposition() -> Pair:
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True).eval()

    def decomposed(x: Tensor) -> Any:
        q, k, v = F.linear(x, layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias).chunk(3, -1)
        q, k, v = (part.reshape(*x.shape[:2], 4, 16).transpose(1, 2) for part in (q, k, v))
        mixed = (torch.softmax(q @ k.transpose(-1, -2) / 4, -1) @ v).transpose(1, 2).flatten(2)
        x = layer.norm1(x + layer.self_attn.out_proj(mixed))
        return layer.norm2(x + layer.linear2(F.relu(layer.linear1(x))))

    return functions(layer, decomposed, torch.randn(8, 32, 64))


@HONEST
def dropout_with_the_same_random_numbers() -> Pair:
    def drop(matmul: Any) -> Any:
        return lambda a, b: F.dropout(matmul(a, b), 0.3)

    return functions(drop(torch.matmul), drop(blocked_matmul), torch.randn(32, 512), torch.randn(512, 32))


@HONEST
def noise_added_by_the_model() -> Pair:
    def noisy(matmul: Any) -> Any:
        def run(a: Tensor, b: Tensor) -> Tensor:
            y: Tensor = matmul(a, b)
            return y + torch.randn_like(y)

        return run

    return functions(noisy(torch.matmul), noisy(blocked_matmul), torch.randn(32, 512), torch.randn(512, 32))


@HONEST
def buffer_updated_in_place() -> Pair:
    def step(matmul: Any) -> Any:
        return lambda cache, a, b: cache.mul_(0.9).add_(matmul(a, b), alpha=0.1)

    cache = torch.randn(32, 32)
    return functions(step(torch.matmul), step(blocked_matmul), cache, torch.randn(32, 512), torch.randn(512, 32))
