"""The options and markers: what users type, and how it is read."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from pytest_nnopt.errors import ConfigError

_LONGEST_REASON = 1000
"""Characters; as of ``baseline.schema.Reason``."""

MARKERS = {
    "compile": "nnopt_compile(mode=, backend=, fullgraph=, dynamic=, options=, fallback=, profile=): how to compile",
    "tolerance": "nnopt_tolerance(rtol=, atol=, factor=, equal_nan=, strides=, samples=): "
    "how far its numbers may be from eager's",
    "speedup": "nnopt_speedup(min=): how much faster than eager it must be",
    "limits": "nnopt_limits(latency=, device_time=, memory=, compile_time=, compile_work=, graph_breaks=, recompiles=, "
    "eager_frames=, error_growth=): how much worse than its baseline it may become",
    "ranks": "nnopt_ranks(count, backend=, timeout=): run the test in several processes of one process group",
}


def add_options(parser: pytest.Parser) -> None:
    """Register the options; defaults of None mean not given, so that pyproject.toml can speak."""
    group = parser.getgroup("nnopt", "gate for optimised PyTorch models")
    group.addoption("--nnopt-baseline", action="store_true", help="compare with the stored baselines, too")
    group.addoption("--nnopt-update", action="store_true", help="record baselines for the selected tests")
    group.addoption(
        "--nnopt-update-new-only", action="store_true", help="record baselines where there are none yet, and no others"
    )
    group.addoption("--nnopt-reason", metavar="TEXT", help="why an update accepts a worse figure; kept in the baseline")
    group.addoption("--nnopt-skip", action="store_true", help="deselect every test that uses model_pair")
    group.addoption(
        "--nnopt-only",
        metavar="CHECKS",
        help="run the named checks alone, such as compile,numerics",
    )
    group.addoption("--nnopt-baseline-dir", metavar="DIR", help="where baselines live (default: baselines)")
    group.addoption(
        "--nnopt-baseline-from",
        choices=("files", "history"),
        help="compare with the baseline directory or with the last runs in the shared history (default: files)",
    )
    group.addoption("--nnopt-history", metavar="URL", help="the shared history that runs are added to")
    group.addoption(
        "--nnopt-history-append",
        choices=("ci", "always", "never"),
        help="which runs are added to the shared history (default: those of a CI service)",
    )
    group.addoption(
        "--nnopt-missing",
        choices=("fail", "record"),
        help="what a missing baseline does (default: fail)",
    )
    group.addoption("--nnopt-replay", help=argparse.SUPPRESS)
    group.addoption(
        "--nnopt-diagnose",
        choices=("never", "fail"),
        help="whether wrong numbers are traced to their cause by further runs (default: fail)",
    )
    group.addoption("--nnopt-device", metavar="DEVICE", help="move models and inputs to cpu or cuda[:N]")
    group.addoption("--nnopt-effect", metavar="PERCENT", help="tolerated slowdown where a test declares none")
    group.addoption("--nnopt-false-alarms", metavar="PERCENT", help="how often unchanged code may fail (default: 1%%)")
    group.addoption("--nnopt-budget", metavar="TIME", help="how long the timing of one case may take (default: 60s)")
    group.addoption(
        "--nnopt-suite-budget", metavar="TIME", help="how long the timing of all cases may take (default: any)"
    )
    group.addoption("--nnopt-against", metavar="REV", help="compare with revision REV, measured in the same run")
    group.addoption(
        "--nnopt-against-exact", action="store_true", help="with REV itself, not the merge base where REV is a branch"
    )
    group.addoption(
        "--nnopt-against-mode",
        choices=("auto", "process", "pair"),
        default="auto",
        help="whether both revisions share a process or have one each (default: shared where that works)",
    )
    group.addoption(
        "--nnopt-against-tests",
        choices=("base", "head"),
        default="base",
        help="whose test files are used on the base's package (default: base)",
    )
    group.addoption("--nnopt-against-build", metavar="CMD", help="build the base by this shell command in its worktree")
    group.addoption(
        "--nnopt-shard", metavar="I/N", help="run the I-th of N parts of the cases, for nnopt merge to join"
    )
    group.addoption("--nnopt-json", metavar="FILE", help="write the results as JSON")
    group.addoption("--nnopt-html", metavar="FILE", help="write a report as one HTML page (needs the extra 'report')")
    group.addoption("--nnopt-markdown", metavar="FILE", help="write a summary as Markdown")
    group.addoption("--nnopt-openmetrics", metavar="FILE", help="write the figures as OpenMetrics, for GitLab")
    group.addoption("--nnopt-benchmark-json", metavar="FILE", help="write the times as pytest-benchmark's JSON")
    group.addoption("--nnopt-verbose", action="store_true", help="show every figure of every case")
    for name in ("team", "worker", "worker-test", "worker-head", "worker-base", "worker-list"):
        group.addoption(f"--nnopt-{name}", help=argparse.SUPPRESS)
    group.addoption("--nnopt-worker-is-base", action="store_true", help=argparse.SUPPRESS)


def settle_update(config: pytest.Config) -> None:
    """Let ``--nnopt-update-new-only`` stand for an update, too, and refuse a reason that nothing would keep.

    Raises:
        pytest.UsageError: there is no update to give a reason for, or it is empty or too long.
    """
    option = config.option
    option.nnopt_update = option.nnopt_update or option.nnopt_update_new_only
    if option.nnopt_reason is None:
        return
    if not option.nnopt_update:
        raise pytest.UsageError("--nnopt-reason says why an update accepts a worse figure; give --nnopt-update with it")
    if not 1 <= len(option.nnopt_reason.strip()) <= _LONGEST_REASON:
        raise pytest.UsageError(f"--nnopt-reason must have between 1 and {_LONGEST_REASON} characters")


def settings_of(config: pytest.Config) -> dict[str, Any]:
    """Return the settings given on the command line; None means not given."""
    only = config.option.nnopt_only
    return {
        "baseline_dir": config.option.nnopt_baseline_dir,
        "baseline_from": config.option.nnopt_baseline_from,
        "history": config.option.nnopt_history,
        "history_append": config.option.nnopt_history_append,
        "missing": config.option.nnopt_missing,
        "only": None if only is None else tuple(part.strip() for part in only.split(",")),
        "device": config.option.nnopt_device,
        "diagnose": config.option.nnopt_diagnose,
        "effect": config.option.nnopt_effect,
        "false_alarms": config.option.nnopt_false_alarms,
        "budget": config.option.nnopt_budget,
        "suite_budget": config.option.nnopt_suite_budget,
    }


def markers_of(item: pytest.Item) -> dict[str, list[dict[str, Any]]]:
    """Return the arguments of a test's markers by section, closest first.

    Raises:
        ConfigError: a marker has positional arguments that it does not take.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for section in MARKERS:
        for marker in item.iter_markers(f"nnopt_{section}"):
            arguments = dict(marker.kwargs)
            if section == "ranks" and len(marker.args) == 1 and "count" not in arguments:
                arguments["count"] = marker.args[0]
            elif marker.args:
                values = ", ".join(map(repr, marker.args))
                what = "the number of ranks, once" if section == "ranks" else "keyword arguments only"
                raise ConfigError(f"{item.nodeid}: nnopt_{section}({values}) takes {what}")
            found.setdefault(section, []).append(arguments)
    return found


def require_html() -> None:
    """Find out now, not after an hour of measuring, whether a page can be drawn.

    Raises:
        pytest.UsageError: something is not installed.
    """
    from pytest_nnopt.report.files import missing_for_html

    if (missing := missing_for_html()) is not None:
        raise pytest.UsageError(missing)
