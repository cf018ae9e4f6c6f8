"""The audit of dependencies tells what is wrong from what nobody could say."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / ".ci" / "audit"
SOUND = {"name": "a", "version": "1", "vulns": []}
BROKEN = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (json.dumps({"dependencies": [SOUND, UNKNOWN]}), 0, "audited 1 packages, 0 vulnerabilities; not known: 1"),
        (json.dumps({"dependencies": [SOUND, BROKEN]}), 1, "b 2 CVE-1 mended in 3"),
        (json.dumps({"dependencies": [UNKNOWN]}), 75, "audited 0 packages"),
        ("", 75, "not audited: the vulnerability service does not answer"),
    ],
)
def test_an_audit_ends_as_what_is_known(tmp_path: Path, answer: str, status: int, said: str) -> None:
    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    tool.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run([AUDIT], env={**os.environ, "PATH": path}, text=True, capture_output=True, check=False)
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr
