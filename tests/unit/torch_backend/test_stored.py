from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from pytest_nnopt.errors import OutputError, PairError
from pytest_nnopt.torch_backend.stored import TensorForm, read_tensors, store_tensors

DTYPES = [
    torch.float64,
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.complex64,
    torch.complex128,
    torch.int64,
    torch.uint8,
    torch.bool,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back_bit_by_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = (torch.arange(12.0).reshape(3, 4) - 5).to(dtype)
    forms, left_out = store_tensors(tmp_path / "x.safetensors", {"args[0]": tensor})
    (restored,) = read_tensors(tmp_path / "x.safetensors", forms).values()
    assert not left_out
    assert restored.dtype is dtype
    assert torch.equal(restored.contiguous().view(torch.uint8), tensor.view(torch.uint8))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        torch.rand(6, 4)[::2].T,
        torch.rand(3, 1).expand(3, 4),
        torch.rand(3, requires_grad=True),
        torch.tensor(2.5),
        torch.rand(0, 3),
    ],
)
def test_strides_and_gradients_come_back(tmp_path: Path, tensor: torch.Tensor) -> None:
    forms, _ = store_tensors(tmp_path / "x.safetensors", {"x": tensor})
    restored = read_tensors(tmp_path / "x.safetensors", forms)["x"]
    assert torch.equal(restored, tensor)
    assert (restored.stride(), restored.requires_grad) == (tensor.stride(), tensor.requires_grad)
    assert restored.is_leaf


def test_tensors_that_share_memory_are_stored_apart(tmp_path: Path) -> None:
    x = torch.rand(4)
    forms, _ = store_tensors(tmp_path / "x.safetensors", {"a": x, "b": x[:2]})
    assert set(read_tensors(tmp_path / "x.safetensors", forms)) == {"a", "b"}


def test_what_has_no_plain_elements_is_left_out(tmp_path: Path) -> None:
    tensors = {"sparse": torch.eye(3).to_sparse(), "plain": torch.ones(1)}
    forms, left_out = store_tensors(tmp_path / "x.safetensors", tensors)
    assert (set(forms), left_out) == ({"plain"}, ["sparse"])


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        store_tensors(tmp_path / "file" / "x.safetensors", {"x": torch.ones(1)})


def test_a_disk_that_is_full_is_an_error_and_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tensors: dict[str, torch.Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    path = tmp_path / "x.safetensors"
    forms, _ = store_tensors(path, {"x": torch.ones(1)})
    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OutputError, match=r"cannot write .*: I/O error: No space left on device"):
        store_tensors(path, {"x": torch.zeros(1)})
    assert torch.equal(read_tensors(path, forms)["x"], torch.ones(1))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", ["missing", "broken", "other"])
def test_a_file_that_cannot_be_relied_upon_is_an_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.safetensors"
    store_tensors(path, {"other": torch.ones(1)})
    if damage == "broken":
        path.write_bytes(path.read_bytes()[:9])
    if damage == "missing":
        path.unlink()
    with pytest.raises(PairError, match=r"cannot be read: .*let the test fail once more"):
        read_tensors(path, {"x": TensorForm("float32", (1,), (1,))})


@pytest.mark.parametrize(
    "form",
    [
        TensorForm("load", (1,), (1,)),
        TensorForm("no_such_thing", (1,), (1,)),
        TensorForm("float32", (1, 1), (1,)),
        TensorForm("float32", (-5,), (1,)),
        TensorForm("float32", (1,), (-7,)),
        TensorForm("float32", (2**62,), (2**62,)),
    ],
)
def test_a_form_that_cannot_be_is_an_error(tmp_path: Path, form: TensorForm) -> None:
    path = tmp_path / "x.safetensors"
    store_tensors(path, {"x": torch.ones(1)})
    with pytest.raises(PairError, match=r"cannot be read: .*let the test fail once more"):
        read_tensors(path, {"x": form})
