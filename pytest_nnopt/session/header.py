"""What a run says before it starts: how many tests, what they are asked, and where there are baselines for them."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.paths import test_of
from pytest_nnopt.environment import Environment
from pytest_nnopt.host import host_facts
from pytest_nnopt.model import CheckName
from pytest_nnopt.session.gate import Purpose
from pytest_nnopt.units import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.session.gate import Gate

_ASKED_OF_THE_BASELINE = (CheckName.LATENCY, CheckName.DEVICE_TIME, CheckName.MEMORY, CheckName.COMPILE_TIME)


def describe_run(gate: Gate, test_ids: Sequence[str]) -> list[str]:
    """Return the lines that announce a run of these tests. Neither torch nor a GPU is asked for it."""
    asked = ", ".join(name.value for name in _asked(gate))
    device = "" if gate.settings.device in (None, "cpu") else f" with {gate.settings.device}"
    lines = [f"nnopt: {format_count(len(test_ids), 'test')} on {_this_host().name}{device}; checks: {asked or 'none'}"]
    if gate.purpose is Purpose.UPDATE:
        return [*lines, f"nnopt: baselines are recorded in {_recorded_in(gate)}{_also_recorded(gate)}"]
    if gate.base is not None:
        return [*lines, f"nnopt: compared with {gate.base.description}, measured in this run"]
    return lines if gate.purpose is Purpose.CHECK else [*lines, _describe_baselines(gate, test_ids)]


def _also_recorded(gate: Gate) -> str:
    """Name what an update measures beside the checks."""
    names = [name.value for name in _ASKED_OF_THE_BASELINE if gate.settings.is_asked(name) and _is_possible(name, gate)]
    return f", with {', '.join(names)}" if names else ""


def _is_possible(name: CheckName, gate: Gate) -> bool:
    """Whether a check may be answered, as far as can be told without torch: on a CPU there are no kernels."""
    is_on_cpu = gate.settings.device == "cpu" or importlib.metadata.version("torch").endswith("+cpu")
    return name is not CheckName.DEVICE_TIME or not is_on_cpu


def _recorded_in(gate: Gate) -> str:
    is_shared = gate.sharing is not None and gate.sharing.makes_levels
    return gate.sharing.store.name if gate.sharing is not None and is_shared else gate.store.name


def _describe_baselines(gate: Gate, test_ids: Sequence[str]) -> str:
    """Say for how many of the tests there are baselines, by environment."""
    found = {name: _with_baseline(gate, name, test_ids) for name in gate.source.environments()}
    parts = [f"{count} of {len(test_ids)} on {name}" for name, count in found.items() if count]
    if parts:
        return f"nnopt: baselines for {', '.join(parts)}"
    where = f"{gate.source.name}{_imported(gate, test_ids)}"
    return f"nnopt: no baselines in {where}; {gate.source.remedy.replace('record one', 'record some')}"


def _imported(gate: Gate, test_ids: Sequence[str]) -> str:
    """Say for how many of the tests there are imported times."""
    wanted = set(test_ids)
    count = sum(test_of(case_id, wanted) is not None for case_id in gate.store.imported())
    return f" but imported times of {format_count(count, 'case')}, which decide nothing" if count else ""


def _with_baseline(gate: Gate, environment_name: str, test_ids: Sequence[str]) -> int:
    wanted = set(test_ids)
    tests = {test_of(case, wanted) for case in gate.source.cases(environment_name)}
    return len(tests - {None})


def _asked(gate: Gate) -> list[CheckName]:
    is_comparing = gate.purpose is Purpose.COMPARE or gate.base is not None
    is_speedup_declared = any(config.speedup.min is not None for config in gate.configs.values())
    return [
        name
        for name in CheckName
        if gate.settings.is_asked(name)
        and _is_possible(name, gate)
        and (is_comparing or name not in _ASKED_OF_THE_BASELINE)
        and (is_speedup_declared or name is not CheckName.SPEEDUP)
    ]


def _this_host() -> Environment:
    """Return what is known of this host without loading torch."""
    return Environment({**host_facts(), "device": "cpu", "torch": importlib.metadata.version("torch")})
