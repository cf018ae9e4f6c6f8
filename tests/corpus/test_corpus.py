"""Every planted case is judged right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.corpus.honest import HONEST
from tests.corpus.mistaken import MISTAKEN
from tests.corpus.planted import Planted, observe_case

pytestmark = pytest.mark.filterwarnings("ignore:.*(Sparse|nested tensors|NestedTensor).*")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("case", HONEST.cases, ids=lambda case: case.name)
def test_rounding_is_excused(case: Planted) -> None:
    comparison = observe_case(case).compare()
    assert comparison.is_within, comparison.worst


@pytest.mark.parametrize("case", MISTAKEN.cases, ids=lambda case: case.name)
def test_an_error_is_found(case: Planted) -> None:
    assert not observe_case(case).compare().is_within


def test_the_corpus_is_large_enough_and_names_are_unique() -> None:
    names = [case.name for case in HONEST.cases + MISTAKEN.cases]
    assert len(names) == len(set(names)) >= 60
