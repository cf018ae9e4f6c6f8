from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from pytest_nnopt.config import GENERATED, SampleKind
from pytest_nnopt.errors import PairError
from pytest_nnopt.torch_backend.pair import PairRequest
from pytest_nnopt.torch_backend.samples import Sample, build_samples

if TYPE_CHECKING:
    from collections.abc import Iterator


def build(wanted: object, *args: Any, device: str | None = None, **kwargs: Any) -> tuple[Sample, ...]:
    return build_samples(PairRequest(nn.ReLU(), args, kwargs, samples=wanted), device=device)


def generate(kind: str, *args: Any, **kwargs: Any) -> Sample:
    (sample,) = build([kind], *args, **kwargs)
    assert sample.name == f"samples[{kind!r}]"
    assert sample.is_generated
    return sample


def first(sample: Sample) -> torch.Tensor:
    assert sample.problem is None
    made = sample.inputs[0][0]
    assert isinstance(made, torch.Tensor)
    return made


class TestOwnSamples:
    def test_every_sample_is_copied_with_the_keyword_inputs(self) -> None:
        x, mask = torch.zeros(2), torch.ones(2)
        samples = build([(x,), torch.ones(3)], x, mask=mask)
        assert [sample.inputs[0][0].shape for sample in samples] == [(2,), (3,)]
        for sample in samples:
            assert sample.inputs[0][0] is not x
            assert sample.inputs[1]["mask"].tolist() == [1.0, 1.0]
            assert sample.inputs[1]["mask"] is not mask

    def test_names_and_seeds_tell_them_apart(self) -> None:
        samples = build([torch.zeros(1), "small", torch.zeros(1)], torch.rand(2))
        assert [sample.name for sample in samples] == ["samples[0]", "samples[1]", "samples['small']"]
        assert len({sample.seed for sample in samples}) == 3
        assert [sample.is_generated for sample in samples] == [False, False, True]

    def test_samples_are_moved(self) -> None:
        assert first(build([torch.zeros(2)], device="meta")[0]).device.type == "meta"

    def test_a_sample_that_cannot_be_copied_is_an_error(self) -> None:
        inside = torch.zeros(1, requires_grad=True) * 2
        with pytest.raises(PairError, match="inputs must be leaf tensors"):
            build([inside])

    def test_a_callable_draws_from_a_seeded_generator(self) -> None:
        def draw(generator: torch.Generator) -> Iterator[object]:
            yield torch.randn(3, generator=generator)
            yield "small"

        runs = [build(draw, torch.rand(2)) for _ in range(2)]
        assert torch.equal(first(runs[0][0]), first(runs[1][0]))
        assert [sample.name for sample in runs[0]] == ["samples[0]", "samples['small']"]

    def test_a_callable_that_raises_is_named(self) -> None:
        with pytest.raises(PairError, match="samples= raised KeyError: 'x'"):
            build(lambda generator: dict[str, int]()["x"])

    @pytest.mark.parametrize(("wanted", "kind"), [(torch.zeros(2), "Tensor"), (3, "int"), ({"x": 1}, "dict")])
    def test_what_is_no_list_is_named(self, wanted: object, kind: str) -> None:
        with pytest.raises(PairError, match=f"samples= takes a list of inputs, not {kind}"):
            build(wanted)

    def test_an_unknown_name_is_an_error_with_the_known_ones(self) -> None:
        with pytest.raises(PairError, match=r"samples= knows no .zeroes.; known: .perturbed., .*.generated."):
            build(["zeroes"])


class TestGenerated:
    def test_all_kinds_at_once_and_each_once(self) -> None:
        x = torch.rand(4, 3, 5, 5)
        names = [f"samples[{kind!r}]" for kind in GENERATED]
        assert [sample.name for sample in build("generated", x)] == names
        kinds: tuple[SampleKind, ...] = ("zeros", "batch")
        request = PairRequest(nn.ReLU(), (x,), samples=["zeros"])
        assert [sample.name for sample in build_samples(request, kinds=kinds)] == [
            "samples['zeros']",
            "samples['batch']",
        ]

    def test_without_being_asked_there_are_none(self) -> None:
        assert build((), torch.rand(3)) == ()

    def test_perturbed_elements_move_by_up_to_a_tenth(self) -> None:
        x = torch.rand(1000) + 0.5
        moved = first(generate("perturbed", x)) / x - 1
        assert 0.05 < float(moved.abs().max()) <= 0.1 + 1e-6
        assert torch.equal(first(generate("perturbed", x)), first(generate("perturbed", x)))

    def test_whole_numbers_and_what_is_not_finite_stay(self) -> None:
        x = torch.tensor([1.0, 0.5, float("inf"), 0.0, -3.0])
        moved = first(generate("perturbed", x))
        assert (moved == x).tolist() == [True, False, True, True, True]

    def test_complex_inputs_are_perturbed_too(self) -> None:
        x = torch.complex(torch.rand(9), torch.rand(9))
        assert not torch.equal(first(generate("perturbed", x)), x)

    @pytest.mark.parametrize(("kind", "dtype", "factor"), [("large", "float32", 1024), ("small", "bfloat16", 1 / 1024)])
    def test_magnitudes_change_by_a_power_of_two(self, kind: str, dtype: str, factor: float) -> None:
        x = torch.rand(8).to(getattr(torch, dtype))
        assert torch.equal(first(generate(kind, x)), x * factor)

    def test_half_precision_does_not_overflow(self) -> None:
        assert torch.isfinite(first(generate("large", (torch.rand(8) * 100).half()))).all()

    def test_zeros_leave_integers_and_masks(self) -> None:
        sample = generate("zeros", torch.rand(3), torch.tensor([2, 5]), mask=torch.tensor([1.0, 0.0]))
        assert first(sample).tolist() == [0.0, 0.0, 0.0]
        assert sample.inputs[0][1].tolist() == [2, 5]
        assert sample.inputs[1]["mask"].tolist() == [1.0, 0.0]

    @pytest.mark.parametrize("kind", ["non_contiguous", "channels_last"])
    def test_a_layout_changes_no_value(self, kind: str) -> None:
        x = torch.rand(2, 3, 4, 4)
        made = first(generate(kind, x))
        assert torch.equal(made, x)
        assert made.stride() != x.stride()
        assert not made.is_contiguous()

    def test_half_of_the_batch_is_kept_of_everything_that_has_one(self) -> None:
        sample = generate("batch", torch.rand(5, 2), torch.rand(2), targets=torch.arange(5))
        assert first(sample).shape == (3, 2)
        assert sample.inputs[0][1].shape == (2,)
        assert sample.inputs[1]["targets"].tolist() == [0, 1, 2]

    @pytest.mark.parametrize(
        ("kind", "inputs"),
        [
            ("channels_last", torch.rand(3)),
            ("batch", torch.rand(1, 3)),
            ("batch", torch.tensor(0.5)),
            ("zeros", torch.ones(3)),
            ("perturbed", torch.arange(3)),
            ("non_contiguous", torch.tensor(0.5)),
            ("large", torch.rand(0)),
        ],
    )
    def test_a_rule_that_changes_nothing_says_so(self, kind: str, inputs: torch.Tensor) -> None:
        assert generate(kind, inputs).problem == "it would change nothing about these inputs"

    def test_gradients_are_wanted_as_before(self) -> None:
        made = first(generate("perturbed", torch.rand(3, requires_grad=True)))
        assert made.requires_grad
        assert made.is_leaf
