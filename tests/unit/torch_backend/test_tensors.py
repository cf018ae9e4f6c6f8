"""Tensors of every kind are read exactly and in order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pytest_nnopt.errors import NumericsError
from pytest_nnopt.numerics import Observation, Tolerance, compare_observations
from pytest_nnopt.numerics.leaves import ArrayLeaf, ConstantLeaf, LeafKind
from pytest_nnopt.torch_backend import tensors
from pytest_nnopt.torch_backend.tensors import leaves_of, read_tensor


def arrays(value: object) -> list[ArrayLeaf]:
    leaves = leaves_of("output", LeafKind.OUTPUT, value)
    assert all(isinstance(leaf, ArrayLeaf) for leaf in leaves)
    return [leaf for leaf in leaves if isinstance(leaf, ArrayLeaf)]


def read(leaf: ArrayLeaf) -> list[float]:
    return [float(value) for chunk in leaf.read() for value in chunk]


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
        *(torch.int64, torch.int32, torch.int8, torch.uint8, torch.uint16, torch.bool),
    ],
)
def test_values_are_exact(dtype: torch.dtype) -> None:
    values = torch.tensor([0.0, 1.0, 0.5, 3.0]).to(dtype)
    (leaf,) = arrays(values)
    assert leaf.dtype == str(dtype).removeprefix("torch.")
    assert read(leaf) == values.to(torch.float64).tolist()


def test_integers_keep_all_their_digits() -> None:
    (chunk,) = read_tensor(torch.tensor([2**62 + 1]))
    assert chunk.tolist() == [2**62 + 1]


@pytest.mark.parametrize("values", [torch.tensor([1 + 2j, 3 - 4j]), torch.tensor([1 - 2j, 3 + 4j]).conj()])
def test_complex_numbers_are_read_as_pairs(values: Tensor) -> None:
    (leaf,) = arrays(values)
    assert read(leaf) == [1, 2, 3, -4]


def test_negative_views_are_read_with_their_sign() -> None:
    assert read(arrays(torch.tensor([1 + 2j]).conj().imag)[0]) == [-2.0]


@pytest.mark.parametrize(
    "shape", [(), (0,), (0, 3), (7,), (3, 5), (2, 3, 4), (4, 1, 9), (100,), (3, 50), (50, 3), (2, 30, 2)]
)
def test_any_layout_is_read_in_logical_order(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "_PIECE_ELEMENTS", 16)
    monkeypatch.setattr(tensors, "CHUNK_ELEMENTS", 5)
    values = torch.arange(float(np.prod(shape))).reshape(shape)
    backwards = tuple(range(len(shape)))[::-1]
    stored = values.permute(backwards).contiguous().permute(backwards)
    sizes = []
    for tensor in (values, stored):
        chunks = list(read_tensor(tensor))
        assert [v for chunk in chunks for v in chunk] == values.flatten().tolist()
        sizes.append([chunk.size for chunk in chunks])
    assert sizes[0] == sizes[1]
    assert max(sizes[0], default=0) <= 5


FLOATS = st.floats(width=32, allow_subnormal=False)


@pytest.mark.gpu
@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=40))
def test_the_verdict_does_not_depend_on_the_device(values: list[tuple[float, float]]) -> None:
    verdicts = []
    for device in ("cpu", "cuda"):
        ours, theirs = torch.tensor(values, device=device).unbind(1)
        candidate, reference = (Observation(tuple(arrays(side))) for side in (ours, theirs))
        (judged,) = compare_observations(candidate, reference, None, Tolerance()).leaves
        verdicts.append((judged.problem, judged.excess))
    assert verdicts[0] == verdicts[1]


def test_a_sparse_tensor_is_its_shape_indices_and_values() -> None:
    leaves = arrays(torch.tensor([[0.0, 2.0], [3.0, 0.0]]).to_sparse())
    assert {leaf.path: read(leaf) for leaf in leaves} == {
        "output.shape": [2, 2],
        "output.indices()": [0, 1, 1, 0],
        "output.values()": [2, 3],
    }


@pytest.mark.filterwarnings("ignore:Sparse")
def test_a_compressed_sparse_tensor_names_its_parts() -> None:
    leaves = arrays(torch.tensor([[0.0, 2.0], [3.0, 0.0]]).to_sparse_csr())
    names = ["shape", "crow_indices()", "col_indices()", "values()"]
    assert [leaf.path for leaf in leaves] == [f"output.{name}" for name in names]


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
@pytest.mark.filterwarnings("ignore:.*nested tensors")
def test_a_nested_tensor_is_its_parts(layout: torch.layout) -> None:
    parts = [torch.ones(2, 3), torch.zeros(1, 3)]
    leaves = arrays(torch.nested.nested_tensor(parts, layout=layout))
    assert [(leaf.path, leaf.shape) for leaf in leaves] == [
        ("output.size(0)", ()),
        ("output[0]", (2, 3)),
        ("output[1]", (1, 3)),
    ]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        *((True, "bool"), (3, "int64"), (0.5, "float32"), (1j, "complex64"), (np.float32(0.5), "float32")),
        *((np.int8(3), "int64"), (np.bool_(True), "bool"), (np.ones((2, 2)), "float64")),
    ],
)
def test_numbers_and_arrays_have_dtypes(value: object, dtype: str) -> None:
    (leaf,) = arrays(value)
    assert leaf.dtype == dtype
    assert len(read(leaf)) == leaf.size * (2 if leaf.is_complex else 1)


@pytest.mark.parametrize("value", ["text", None, 2**70, torch.float32])
def test_everything_else_is_compared_by_its_text(value: object) -> None:
    assert leaves_of("output", LeafKind.OUTPUT, value) == [ConstantLeaf("output", LeafKind.OUTPUT, repr(value))]


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.ones(2, device="meta"), "on meta"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "dequantize"),
        (lambda: torch.zeros(2, dtype=torch.uint8).view(torch.bits8), "bits8"),
        (lambda: np.array(["a"]), "numpy array of <U1"),
    ],
)
def test_what_cannot_be_read_is_an_error(make: object, words: str) -> None:
    with pytest.raises(NumericsError, match=f"output is a .*{words}"):
        leaves_of("output", LeafKind.OUTPUT, make())  # type: ignore[operator]
