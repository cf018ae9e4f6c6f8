"""When to look at the evidence, and how much risk of error each look may spend."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_nnopt.errors import MeasurementError

DEFAULT_LOOKS = (1, 2, 4, 8)

_LONE_PROCESS_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the evidence.

    Attributes:
        processes: after how many processes it is planned.
        alarm_share: the part of the false-alarm rate spent on it.
        alarm_level: one-sided level of the bound that a failure needs.
        pass_level: one-sided level of the bound that a pass needs.
        can_fail: whether a case may fail on it. One process has nobody to confirm what it saw, so where further looks
            follow it can only ask for them.
        is_last: whether all processes of the plan are there.
    """

    processes: int
    alarm_share: float
    alarm_level: float
    pass_level: float
    can_fail: bool = True
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class SequentialPlan:
    """A group-sequential plan: the error rates of a case are split over its looks, so that their sum is an upper bound.

    Attributes:
        false_alarms: how often an unchanged case may fail.
        false_passes: how often a case that changed by exactly its limit may pass.
        looks: after how many processes the evidence is looked at, ascending.

    Raises:
        MeasurementError: a rate is outside (0, 0.5), or the looks are not positive and ascending.
    """

    false_alarms: float = 0.01
    false_passes: float = 0.05
    looks: tuple[int, ...] = DEFAULT_LOOKS

    def __post_init__(self) -> None:
        for name in ("false_alarms", "false_passes"):
            if not 0 < getattr(self, name) < 0.5:
                raise MeasurementError(f"{name} is {getattr(self, name)}; a rate of error lies between 0 and 0.5")
        if not self.looks or self.looks[0] < 1 or list(self.looks) != sorted(set(self.looks)):
            raise MeasurementError(f"looks are {self.looks}; they must be positive and ascending")

    @property
    def max_processes(self) -> int:
        """The number of processes of the last look."""
        return self.looks[-1]

    def look_at(self, processes: int) -> Look:
        """Return the look that ``processes`` processes belong to: the first one planned for that many or more.

        A run that ends between two looks so spends what was set aside for the next, and no more.

        Raises:
            MeasurementError: ``processes`` is less than one.
        """
        if processes < 1:
            raise MeasurementError("cannot decide without a process; measure at least one")
        index = next((i for i, look in enumerate(self.looks) if look >= processes), len(self.looks) - 1)
        share = _alarm_share(self.looks, index)
        return Look(
            processes=self.looks[index],
            alarm_share=share,
            alarm_level=self.false_alarms * share,
            pass_level=self.false_passes / len(self.looks),
            can_fail=self.looks[index] > 1 or len(self.looks) == 1,
            is_last=processes >= self.max_processes,
        )

    def next_look(self, processes: int) -> int | None:
        """Return how many processes the look after ``processes`` needs, None when no look is left."""
        return next((look for look in self.looks if look > processes), None)


def _alarm_share(looks: tuple[int, ...], index: int) -> float:
    """Return the part of the false-alarm rate spent on a look.

    A look at one process, unless it is the only look, raises suspicions alone and gets little; the others share the
    rest equally.
    """
    if looks[0] > 1 or len(looks) == 1:
        return 1 / len(looks)
    return _LONE_PROCESS_SHARE if index == 0 else (1 - _LONE_PROCESS_SHARE) / (len(looks) - 1)


def doubling_looks(max_processes: int) -> tuple[int, ...]:
    """Return looks after 1, 2, 4, ... processes, the last after ``max_processes``.

    Raises:
        MeasurementError: ``max_processes`` is less than one.
    """
    if max_processes < 1:
        raise MeasurementError(f"max_processes is {max_processes}; a decision needs at least one process")
    looks = [1]
    while looks[-1] * 2 <= max_processes:
        looks.append(looks[-1] * 2)
    return tuple(looks) if looks[-1] == max_processes else (*looks, max_processes)
