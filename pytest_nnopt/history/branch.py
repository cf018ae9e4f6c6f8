"""Which branch a run measures, as its CI service says; a pull request is never mistaken for its target's branch."""

from __future__ import annotations

from collections.abc import Mapping

_REQUESTS = {
    "CI_MERGE_REQUEST_IID": "merge-request",  # GitLab
    "CHANGE_ID": "pull-request",  # Jenkins
    "SYSTEM_PULLREQUEST_PULLREQUESTID": "pull-request",  # Azure Pipelines
    "CIRCLE_PULL_REQUEST": "pull-request",
    "BITBUCKET_PR_ID": "pull-request",
}
"""By variable that is set for a request alone, what its runs are filed under; a fork's branch may be named ``main``."""

_BRANCHES = (
    "GITHUB_REF_NAME",  # 12/merge for a pull request
    "CI_COMMIT_BRANCH",  # GitLab
    "BRANCH_NAME",  # Jenkins, one job for each branch
    "BUILD_SOURCEBRANCHNAME",  # Azure Pipelines
    "BUILDKITE_BRANCH",
    "CIRCLE_BRANCH",
    "BITBUCKET_BRANCH",
    "GIT_BRANCH",  # Jenkins
)
_BUILDKITE_REQUEST = "BUILDKITE_PULL_REQUEST"
_NO = ("", "0", "false")
_LONGEST = 400


def branch_of_ci(variables: Mapping[str, str]) -> str | None:
    """Return the branch that a CI service says is built; None where none says.

    Args:
        variables: the process's environment.
    """
    if (
        variables.get("GITHUB_EVENT_NAME") == "pull_request_target"
    ):  # its branch is the target's, whatever it checks out
        return f"pull-request/{variables.get('GITHUB_HEAD_REF', '')}"[:_LONGEST]
    for name, kind in {**_REQUESTS, _BUILDKITE_REQUEST: "pull-request"}.items():
        number = variables.get(name, "")
        if number.lower() not in _NO:
            return f"{kind}/{number.rpartition('/')[2]}"[:_LONGEST]  # CircleCI gives a URL
    found = next((variables[name] for name in _BRANCHES if variables.get(name)), None)
    return None if found is None else found.removeprefix("origin/")[:_LONGEST]


def is_on_ci(variables: Mapping[str, str]) -> bool:
    """Whether a CI service started the process; all of them set ``CI``, Jenkins and Azure a name of their own."""
    return any(variables.get(name, "").lower() not in _NO for name in ("CI", "JENKINS_URL", "TF_BUILD"))
