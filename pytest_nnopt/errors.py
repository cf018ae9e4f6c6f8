"""The one root of every error this package raises on purpose."""

from __future__ import annotations

from pytest_nnopt.plain import plain_text


class NnoptError(Exception):
    """Something a user can mend; the message names the thing, what was found, and the remedy.

    What it names may be a file or a key that somebody else chose, so that its text is made plain.
    """

    def __str__(self) -> str:
        return plain_text(super().__str__())


class ConfigError(NnoptError):
    """A marker, option or config file asks for something unknown or impossible."""


class CrowdedError(ConfigError):
    """More processes than GPUs are asked to run cases on a GPU at once."""


class PairError(NnoptError):
    """A model pair cannot be built from what the test handed over."""


class BaselineError(NnoptError):
    """A stored baseline cannot be read or written; never a reason to pass."""


class MeasurementError(NnoptError):
    """A measurement could not be taken as asked."""


class NumericsError(NnoptError):
    """Outputs hold something that the comparison does not know how to compare."""


class ResultsError(NnoptError):
    """A results file cannot be read."""


class OutputError(NnoptError):
    """A file cannot be written; what was there before is untouched."""


class RevisionError(ConfigError):
    """The revision to compare with cannot be had."""


class SeparationError(NnoptError):
    """Two revisions cannot be kept apart in one process, or which of them was imported cannot be told."""


class HistoryError(BaselineError):
    """The shared history cannot be read or added to; never a reason to pass."""
