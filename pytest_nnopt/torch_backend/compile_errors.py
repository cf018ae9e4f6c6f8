"""Why compiling failed, or compiled nothing, in the words of a user's own code and settings."""

from __future__ import annotations

import difflib
import errno
import os
import re
import tempfile
from typing import TYPE_CHECKING

import torch
import torch._dynamo

from pytest_nnopt.torch_backend.reasons import meaningful_line, read_notes

if TYPE_CHECKING:
    from pytest_nnopt.model import CompileFacts

_LONGEST_ERROR = 360


def describe_error(error: BaseException) -> str:
    """Put an exception into one line: its type, what it says, dynamo's explanation, and the user's line if known."""
    line = _shorten_option_list(_name_backends(meaningful_line(str(error)) or "no message"))
    text = ". ".join([f"{type(error).__name__}: {line}", *read_notes(str(error))[:1]])
    if len(text) > _LONGEST_ERROR:  # what went wrong stands at either end
        text = f"{text[: _LONGEST_ERROR // 2 - 1]} … {text[-(_LONGEST_ERROR // 2 - 2) :]}"
    if os.strerror(errno.ENOSPC) in str(error):
        text += f"; free space in {tempfile.gettempdir()}, or let TMPDIR name another place"
    stack = getattr(error, "real_stack", None)
    return f"{text} (at {stack[-1].filename}:{stack[-1].lineno})" if stack else text


def _name_backends(line: str) -> str:
    match = re.match(r"Invalid backend: '[^']*'", line)
    return f"{match[0]}; there are {', '.join(torch._dynamo.list_backends())}" if match else line


def _shorten_option_list(line: str) -> str:
    """Replace the hundreds of options that inductor lists after an unknown one by those spelled alike."""
    match = re.match(r"(Unexpected optimization option (\S+)), known options are (.*)", line)
    if match is None:
        return line
    known = re.findall(r"[\w.]+", match[3])
    alike = difflib.get_close_matches(match[2], known)
    return f"{match[1]}; did you mean {' or '.join(alike)}?" if alike else match[1]


def explain_nothing_compiled(facts: CompileFacts) -> str:
    """Say why not one graph was compiled, from the settings that are known to cause it."""
    for name in ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE"):
        if os.environ.get(name) == "1":
            return f"the environment variable {name}=1 turns torch.compile off; unset it"
    if torch._dynamo.config.disable:
        return "torch._dynamo.config.disable turns torch.compile off; leave it False"
    if _stance() != "default":
        return f"torch.compiler.set_stance({_stance()!r}) keeps the model from being compiled; use the default stance"
    reason = f": {facts.eager_reasons[0].reason}" if facts.eager_reasons else ""
    if torch._dynamo.config.suppress_errors:
        hidden = "torch._dynamo.config.suppress_errors hid an error of the compiler (set it to False to have it raised)"
        return f"{hidden}{reason}"
    return f"the compiler found nothing that it could compile{reason}"


def _stance() -> str:
    """Return the stance of ``torch.compiler.set_stance``, which exists since torch 2.6."""
    stance = getattr(torch._dynamo.eval_frame, "_stance", None)
    return str(getattr(stance, "stance", "default"))
