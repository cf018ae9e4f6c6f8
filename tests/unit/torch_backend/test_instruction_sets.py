from __future__ import annotations

import functools

import pytest
from torch._inductor import config as inductor_config

from pytest_nnopt.session.worker import _trust
from pytest_nnopt.torch_backend.isolation import (
    known_instruction_sets,
    probe_instruction_sets,
    trust_instruction_sets,
)

cpu_vec_isa = pytest.importorskip("torch._inductor.cpu_vec_isa", reason="torch before 2.5 has it elsewhere")


class FakeSets:
    """Inductor's question after instruction sets, which it answers for itself unless it is told that all are fine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.names = names
        self.asked = 0
        monkeypatch.setattr(cpu_vec_isa, "valid_vec_isa_list", functools.cache(self._answer))

    def _answer(self) -> list[str]:
        self.asked += inductor_config.cpp.vec_isa_ok is None
        return list(self.names)


def test_what_another_process_found_out_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = FakeSets(monkeypatch, "avx512", "avx2")
    trust_instruction_sets(["avx512", "avx2"])
    assert list(map(str, cpu_vec_isa.valid_vec_isa_list())) == ["avx512", "avx2"]
    assert sets.asked == 0


def test_other_sets_than_this_host_would_ask_for_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = FakeSets(monkeypatch, "avx512", "avx2")
    trust_instruction_sets(["avx2"])
    assert list(map(str, cpu_vec_isa.valid_vec_isa_list())) == ["avx512", "avx2"]
    assert sets.asked == 1


class FakeSet:
    """An instruction set that is believed in for good once it was asked after."""

    asked = 0

    @functools.cache  # noqa: B019  as inductor has it
    def __bool__(self) -> bool:
        type(self).asked += 1
        return True


def test_belief_in_a_single_set_is_taken_back_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeSets(monkeypatch, "avx512")
    one = FakeSet()
    monkeypatch.setattr(cpu_vec_isa, "supported_vec_isa_list", [one])
    for believed, asked in (["avx512"], 1), (["avx2"], 2):
        assert one
        trust_instruction_sets(believed)
        assert one
        assert FakeSet.asked == asked


def test_a_worker_believes_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = FakeSets(monkeypatch, "avx2")
    _trust(["avx2"])
    assert list(map(str, cpu_vec_isa.valid_vec_isa_list())) == ["avx2"]
    assert sets.asked == 0


def test_sets_are_known_once_they_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeSets(monkeypatch, "avx2")
    probe_instruction_sets.cache_clear()
    assert known_instruction_sets() == ()
    assert probe_instruction_sets() == ("avx2",)
    assert known_instruction_sets() == ("avx2",)
    probe_instruction_sets.cache_clear()


def test_a_compiler_that_cannot_be_asked_leaves_the_case_to_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cpu_vec_isa, "valid_vec_isa_list")
    probe_instruction_sets.cache_clear()
    assert probe_instruction_sets() == ()
    trust_instruction_sets(["avx2"])
    probe_instruction_sets.cache_clear()
