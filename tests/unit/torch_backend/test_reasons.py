"""The compiler's words as several releases of torch write them."""

from __future__ import annotations

from traceback import FrameSummary
from types import SimpleNamespace

import pytest

from pytest_nnopt.model import GraphBreak, Recompile
from pytest_nnopt.torch_backend.reasons import cudagraph_skip, graph_break, meaningful_line, read_notes, recompile

PRINT = """Failed to trace builtin operator
  Explanation: Dynamo does not know how to trace builtin operator `print` with argument types ['str']
  Hint: Avoid calling builtin `print` with argument types ['str'].
  Hint: Please report an issue to PyTorch.
  Hint: You can try adding it to `torch._dynamo.config.reorderable_logging_functions`.
  Hint: A third one.

  Developer debug context: builtin print [<class 'ConstantVariable'>] False
"""
COUNTING = """0/0: self.calls == 0            # self.calls += 1  # ome/net.py:14 in disturb (HINT: integers are static.)
User stack trace:
  File "/home/net.py", line 8, in forward
    y = self.disturb(y)
  File "/home/net.py", line 14, in disturb
    self.calls += 1"""


def entry(reason: str | None) -> SimpleNamespace:
    return SimpleNamespace(co_name="forward", co_filename="/home/net.py", co_firstlineno=5, recompile_reason=reason)


def reason_of(text: str) -> str | None:
    return recompile(entry(text)).reason


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("first\nsecond", "first"),
        ("\n  backend='x' raised:\n ValueError: no\n more", "backend='x' raised: ValueError: no"),
        ("", ""),
    ],
)
def test_meaningful_line(message: str, line: str) -> None:
    assert meaningful_line(message) == line


class TestGraphBreak:
    def test_place_and_advice_that_helps(self) -> None:
        frames = [FrameSummary("/home/outer.py", 3, "forward"), FrameSummary("/home/net.py", 7, "f", line=" print(x) ")]
        assert graph_break(PRINT, frames) == GraphBreak(
            "Failed to trace builtin operator",
            "/home/net.py",
            7,
            "print(x)",
            (
                "Dynamo does not know how to trace builtin operator `print` with argument types ['str']",
                "hint: Avoid calling builtin `print` with argument types ['str'].",
                "hint: You can try adding it to `torch._dynamo.config.reorderable_logging_functions`.",
            ),
        )

    def test_without_frames_and_without_advice(self) -> None:
        assert graph_break("call to print", []) == GraphBreak("call to print")

    def test_addresses_are_left_out(self) -> None:
        assert graph_break("call <function f at 0x7f01ab>", []).reason == "call <function f at …>"

    def test_a_jump_is_named_as_people_call_it(self) -> None:
        jump = graph_break("generic_jump TensorVariable()", [])
        assert jump.reason == "Data-dependent branching"
        assert "torch.where" in jump.notes[0]

    def test_a_long_note_is_cut(self) -> None:
        (note,) = read_notes(f"no\n  Explanation: {'word ' * 100}")
        assert len(note) == 320
        assert note.endswith(" …")


class TestRecompile:
    def test_the_guard_without_the_line_that_moves_and_with_its_place(self) -> None:
        assert recompile(entry(COUNTING)) == Recompile(
            "forward",
            "self.calls == 0",
            "/home/net.py",
            14,
            "self.calls += 1",
            ("hint: integers are static.",),
        )

    def test_a_moved_line_changes_no_reason(self) -> None:
        assert reason_of(COUNTING) == reason_of(COUNTING.replace(":14", ":20").replace("line 14", "line 20"))

    def test_the_addresses_of_objects_are_left_out(self) -> None:
        guard = "0/1_2: ___check_obj_id(L['k'], 139640141028688), type=<class 'f'>  # return k(y)  # net.py:24 in d"
        assert reason_of(guard) == "___check_obj_id(L['k'], …), type=<class 'f'>"

    @pytest.mark.parametrize(
        "guard",
        [
            "tensor 'x' size mismatch at index 0. expected 2, actual 3",
            "GLOBAL_STATE changed: grad_mode",
            "expected type of 'k' to be a tensor type, ' but found <class 'int'>",
        ],
    )
    def test_a_guard_without_a_line_belongs_to_the_function(self, guard: str) -> None:
        assert recompile(entry(f"0/2: {guard} ")) == Recompile("forward", guard, "/home/net.py", 5)

    def test_a_guard_of_torch_itself_has_no_code(self) -> None:
        guard = "0/0: torch.is_grad_enabled()  # _dynamo/output_graph.py:518 in init_ambient_guards"
        assert recompile(entry(guard)) == Recompile("forward", "torch.is_grad_enabled()", "/home/net.py", 5)

    def test_the_rest_of_a_broken_function_has_no_line_in_its_name(self) -> None:
        resumed = entry("0/0: x == 1")
        resumed.co_name = "torch_dynamo_resume_in_forward_at_52"
        assert recompile(resumed).function == "forward after its graph break"

    def test_a_release_that_keeps_no_reason(self) -> None:
        assert recompile(entry(None)) == Recompile("forward", None, "/home/net.py", 5)


def test_a_skip_without_a_place() -> None:
    assert cudagraph_skip("skipping cudagraphs due to cpu device") == GraphBreak(
        "skipping cudagraphs due to cpu device"
    )
