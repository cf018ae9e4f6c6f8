"""Makes the pictures of the HTML report in the README, from a real run on the machine at hand.

A small project records its baselines, is changed for the worse, and is gated: ``python docs/images/report.py``. Needs
the extra ``test``, a C++ compiler and Chromium, and takes some minutes. ``--keep FILE`` keeps the page itself, too.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
WIDTH, HEIGHT = 1200, 1760

SETTINGS = """
[tool.nnopt]
processes = 3
budget = "30s"
"""

MODELS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=256):
        super().__init__()
        self.body = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        y = torch.tanh(self.body(x)) * torch.sigmoid(x) + nn.functional.gelu(x)
        return self.norm(y)


class Head(nn.Module):
    def __init__(self, width=256):
        super().__init__()
        self.policy = nn.Linear(width, 64)
        self.value = nn.Linear(width, 1)

    def forward(self, x):
        return torch.log_softmax(self.policy(x), dim=-1), torch.tanh(self.value(x))
"""

TESTS = """
import pytest
import torch
from models import Head, Net

torch.manual_seed(0)
x = torch.randn(512, 256)


@pytest.mark.nnopt_limits(latency="10%", graph_breaks=0)
def test_net(model_pair):
    model_pair(Net().eval(), x)


@pytest.mark.nnopt_speedup(min=0.5)
def test_policy_and_value(model_pair):
    model_pair(Head().eval(), x)


def by_hand(x):
    variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    return (x - mean) / torch.sqrt(variance + EPSILON)


def test_layer_norm_by_hand(model_pair):
    norm = torch.nn.LayerNorm(256).eval()
    model_pair(norm, x * 0.1, candidate=by_hand)
"""

NEW_TEST = """

def test_training_step(model_pair):
    model_pair(Net(), x, loss=lambda y: y.square().mean())
"""

CHANGES = {
    "gelu(x)\n": "gelu(x).sort().values\n        print(y.mean())\n",
    "EPSILON": "1e-3",
}


def main() -> None:
    """Run the project before and after its change, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="where to keep the page")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as folder:
        page = gate_changed_project(Path(folder))
        for scheme in ("light", "dark"):
            photograph(page, scheme)
        if keep is not None:
            shutil.copy(page, keep)


def gate_changed_project(project: Path) -> Path:
    """Record baselines, one of them twice, change the project, gate it, and return the report.

    Raises:
        CalledProcessError: a baseline could not be recorded.
    """
    (project / "pyproject.toml").write_text(SETTINGS)
    (project / "models.py").write_text(MODELS)
    (project / "test_models.py").write_text(TESTS.replace("EPSILON", "1e-5"))
    pytest = [sys.executable, "-m", "pytest", "-q", "--rootdir=."]
    for selected in ([], ["-k", "test_net"]):
        subprocess.run([*pytest, "--nnopt-update", *selected], cwd=project, check=True)
    models, tests = MODELS, TESTS + NEW_TEST
    for before, after in CHANGES.items():
        models, tests = models.replace(before, after), tests.replace(before, after)
    (project / "models.py").write_text(models)
    (project / "test_models.py").write_text(tests)
    subprocess.run([*pytest, "--nnopt-baseline", "--nnopt-html=report.html"], cwd=project, check=False)
    return project / "report.html"


def photograph(page: Path, scheme: str) -> None:
    """Take a picture of the page's top with the slowed case open, and one of that case's plots."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
        tab.goto(page.resolve().as_uri())
        tab.locator(".case", has_text="test_net").first.evaluate("(one) => { one.open = true; }")
        tab.screenshot(path=HERE / f"report-{scheme}.png")
        tab.locator(".case[open] .pictures").first.screenshot(path=HERE / f"report-plots-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main()
