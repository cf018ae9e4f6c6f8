from __future__ import annotations

import pytest

from pytest_nnopt.history.branch import branch_of_ci, is_on_ci


@pytest.mark.parametrize(
    ("variables", "branch"),
    [
        ({}, None),
        ({"GITHUB_REF_NAME": "main"}, "main"),
        ({"GITHUB_REF_NAME": "12/merge", "GITHUB_HEAD_REF": "main"}, "12/merge"),
        (
            {"GITHUB_EVENT_NAME": "pull_request_target", "GITHUB_REF_NAME": "main", "GITHUB_HEAD_REF": "main"},
            "pull-request/main",
        ),
        ({"CI_COMMIT_BRANCH": "main"}, "main"),
        ({"CI_MERGE_REQUEST_IID": "7", "CI_COMMIT_REF_NAME": "main"}, "merge-request/7"),
        ({"BRANCH_NAME": "main", "CHANGE_ID": "3"}, "pull-request/3"),
        ({"BUILDKITE_BRANCH": "main", "BUILDKITE_PULL_REQUEST": "false"}, "main"),
        ({"BUILDKITE_BRANCH": "main", "BUILDKITE_PULL_REQUEST": "9"}, "pull-request/9"),
        ({"CIRCLE_BRANCH": "main", "CIRCLE_PULL_REQUEST": "https://x/9"}, "pull-request/9"),
        ({"GIT_BRANCH": "origin/main"}, "main"),
    ],
)
def test_a_request_is_never_its_targets_branch(variables: dict[str, str], branch: str | None) -> None:
    assert branch_of_ci(variables) == branch


@pytest.mark.parametrize(
    ("variables", "is_ci"),
    [({}, False), ({"CI": "true"}, True), ({"CI": "false"}, False), ({"CI": ""}, False), ({"TF_BUILD": "True"}, True)],
)
def test_ci_services_are_known_by_what_they_set(variables: dict[str, str], is_ci: bool) -> None:
    assert is_on_ci(variables) is is_ci
