"""What shows wrong numbers again: inputs, parameters, seed and settings in files, and a script that runs them."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from pytest_nnopt.baseline.paths import case_path
from pytest_nnopt.baseline.schema import Record
from pytest_nnopt.environment import FieldValue
from pytest_nnopt.errors import PairError
from pytest_nnopt.files import write_text
from pytest_nnopt.torch_backend.pair import owner_of
from pytest_nnopt.torch_backend.samples import build_samples
from pytest_nnopt.torch_backend.stored import TensorForm, read_tensors, store_tensors
from pytest_nnopt.torch_backend.tree import map_tensors, named_tensors
from pytest_nnopt.untrusted import read_bounded

if TYPE_CHECKING:
    import torch

    from pytest_nnopt.config import CaseConfig
    from pytest_nnopt.torch_backend.compiling import Inputs
    from pytest_nnopt.torch_backend.diagnosis import Trouble
    from pytest_nnopt.torch_backend.pair import PairRequest
    from pytest_nnopt.torch_backend.side import Side

_RECORD, _INPUTS, _STATE, _SCRIPT = "repro.json", "inputs.safetensors", "state.safetensors", "repro.py"
_LARGEST_STATE_BYTES = 1 << 30
_LARGEST_RECORD_BYTES = 1 << 26
_NO_TENSORS: dict[str, TensorForm] = {}


class ReproRecord(Record):
    """What a repro holds beside its tensors.

    Attributes:
        case: id of the case.
        test: node id of its test.
        inputs: name of the failing inputs, such as ``samples['zeros']``; empty for the pair's own.
        seed: seed of every random number generator before each run.
        reason: what was wrong.
        config: how it was compiled and what was allowed.
        environment: fingerprint of the process.
        tensors: the forms of the inputs, by their paths.
        state: the forms of parameters and buffers, by their names.
        left_out: what is not stored, and why; the script takes it from the test.
    """

    case: str
    test: str
    inputs: str = ""
    seed: int
    reason: str
    config: dict[str, Any]
    environment: dict[str, FieldValue]
    tensors: dict[str, TensorForm] = _NO_TENSORS
    state: dict[str, TensorForm] = _NO_TENSORS
    left_out: tuple[str, ...] = ()


def write_repro(folder: Path, root: Path, record: ReproRecord, trouble: Trouble, *, device: str | None = None) -> Path:
    """Write everything that shows a failure again into a folder, replacing an earlier one; return the script.

    Args:
        folder: where to write.
        root: pytest's rootdir, which ``folder`` lies below.
        record: what is known of the failure; the forms of its tensors are filled in.
        trouble: the sides with the failing inputs.
        device: where the run moved models and inputs.

    Raises:
        OutputError: the folder cannot be written.
    """
    inputs, left_out = store_tensors(folder / _INPUTS, _inputs_of(trouble.reference))
    state = _state_of(trouble.reference)
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if size > _LARGEST_STATE_BYTES:
        state, left_out = {}, [*left_out, f"parameters and buffers of {size} bytes"]
    forms, others = store_tensors(folder / _STATE, state)
    kept = record.model_copy(update={"tensors": inputs, "state": forms, "left_out": (*left_out, *others)})
    values = kept.model_dump(mode="json")
    write_text(folder / _RECORD, json.dumps(values, indent=1, sort_keys=True, default=repr) + "\n")
    script = folder / _SCRIPT
    write_text(script, _script(record, len(folder.relative_to(root).parts), device))
    return script


def repro_folder(root: Path, case_id: str) -> Path:
    """Return the folder of a case's repro below pytest's rootdir, whatever characters the id has."""
    path = case_path(case_id)
    return root / ".nnopt" / "repro" / path.parent / path.name.removesuffix(".json")


def describe_config(config: CaseConfig) -> dict[str, Any]:
    """Return how a case was compiled and what was allowed, as plain values; a callable backend by its name."""
    values = {"compile": config.compile.model_dump(), "tolerance": config.tolerance.model_dump()}
    plain: dict[str, Any] = json.loads(
        json.dumps(values, default=lambda value: getattr(value, "__name__", repr(value)))
    )
    return plain


def read_repro(folder: Path) -> ReproRecord:
    """Return what a repro holds beside its tensors.

    Raises:
        PairError: it cannot be read.
    """
    try:
        return TypeAdapter(ReproRecord).validate_json(read_bounded(folder / _RECORD, _LARGEST_RECORD_BYTES))
    except (OSError, ValidationError) as error:
        raise PairError(f"{folder} holds no repro: {error}; let the test fail once more") from None


def replayed(
    folder: Path, case_id: str, request: PairRequest, config: CaseConfig
) -> tuple[PairRequest, CaseConfig, int]:
    """Put the inputs and parameters of a repro in place of a test's own; another case stays as it is.

    Returns:
        the pair to make, its configuration without further inputs, and the seed.

    Raises:
        PairError: the repro cannot be read, or is of inputs that the test no longer has.
    """
    record = read_repro(folder)
    if record.case != case_id:
        return request, config, 0
    inputs = _failing_inputs(record, request, config)
    stored = read_tensors(folder / _INPUTS, record.tensors)
    paths = {id(tensor): path for path, tensor in named_tensors(inputs, "inputs")}

    def kept(tensor: torch.Tensor) -> torch.Tensor:
        found = stored.get(paths[id(tensor)])
        return tensor if found is None else found.detach().to(tensor.device).requires_grad_(found.requires_grad)

    args, kwargs = map_tensors(inputs, kept)
    request = replace(request, model=_with_state(folder, record, request.model), args=args, kwargs=kwargs, samples=())
    tolerance = config.tolerance.model_copy(update={"samples": ()})
    return request, config.model_copy(update={"tolerance": tolerance}), record.seed


def _failing_inputs(record: ReproRecord, request: PairRequest, config: CaseConfig) -> Inputs:
    if not record.inputs:
        return request.args, dict(request.kwargs)
    for sample in build_samples(request, kinds=config.tolerance.samples):
        if sample.name == record.inputs:
            return sample.inputs[0], dict(sample.inputs[1])
    raise PairError(f"{record.test} has no {record.inputs} any more; let the test fail once more")


def _inputs_of(side: Side) -> dict[str, torch.Tensor]:
    return dict(named_tensors((side.args, dict(side.kwargs)), "inputs"))


def _state_of(side: Side) -> dict[str, torch.Tensor]:
    if side.module is None:
        return {}
    return dict((*side.module.named_parameters(), *side.module.named_buffers()))


def _with_state(folder: Path, record: ReproRecord, model: Any) -> Any:
    """Return a copy of a model with the stored parameters and buffers, where it still has them in that shape."""
    copied = copy.deepcopy(model)
    module = owner_of(copied)
    if module is None:
        return copied
    stored = read_tensors(folder / _STATE, record.state)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        kept = stored.get(name)
        if kept is not None and kept.shape == tensor.shape:
            tensor.detach().copy_(kept.detach())
    return copied


def _script(record: ReproRecord, depth: int, device: str | None) -> str:
    arguments = [record.test, "--nnopt-only=numerics", "--nnopt-diagnose=never", "-p", "no:cacheprovider", "-q"]
    if device is not None:
        arguments.append(f"--nnopt-device={device}")
    where = f" on {record.inputs}" if record.inputs else ""
    return f'''"""Shows again how the candidate of a case differs from eager{where}.

Runs the test with the inputs and parameters stored beside this file, so a change of the model's code shows at once.
Ends with 1 while the numbers are wrong, with 0 once they are right.
"""

import os
import sys
from pathlib import Path

import pytest

CASE = {record.case!r}
REASON = {record.reason!r}
FOLDER = Path(__file__).resolve().parent
ARGUMENTS = {arguments!r}

if __name__ == "__main__":
    os.chdir(FOLDER.parents[{depth - 1}])
    print(f"recorded of {{CASE}}: {{REASON}}")
    sys.exit(pytest.main([*ARGUMENTS, f"--nnopt-replay={{FOLDER}}"]))
'''
