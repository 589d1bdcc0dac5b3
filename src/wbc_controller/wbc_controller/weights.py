"""How much each task counts in the tick. Squares of these stand in the cost, against velocities in m/s and rad/s."""

from __future__ import annotations

from dataclasses import dataclass, fields

LOOSE = 10.0
"""Leeway (m/s, rad/s) beyond anything that a tick could ask of a hand."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the tasks; the order of magnitude is the priority.

    `position`, `rotation`: of a hand's target. `relative`: of the right hand's pose in the left hand's frame, 0 for two
    hands that go their own ways. `joint`: of joints that the reference names, outside an arm with a hand target.
    `base`: of a base that the reference names. `free_base`, `free_lift`: of standing still with them otherwise.
    `posture`: of an arm with a hand target. `gaze`: of looking at the hands' middle, when nothing names the head.
    `manipulability`: gain of its gradient. `leeway`: how far (m/s, rad/s) all of these together may move a hand off
    what its own task and the limits alone would give; 0: hands come first strictly; from `LOOSE` weights alone decide.
    """

    position: float = 1.0
    rotation: float = 0.3
    relative: float = 0.0
    joint: float = 1.0
    base: float = 1.0
    free_base: float = 0.1
    free_lift: float = 0.1
    posture: float = 0.03
    gaze: float = 0.1
    manipulability: float = 0.0005
    leeway: float = LOOSE

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not (isinstance(value, int | float) and 0.0 <= value < float("inf")):
                raise ValueError(f"wbc weights: {item.name} is {value!r}, expected a finite number of at least 0")
        if self.posture == 0.0 or self.joint == 0.0 or self.base == 0.0:
            raise ValueError("wbc weights: posture, joint and base must be above 0, or a joint is left undetermined")

    def toward(self, other: Weights, share: float) -> Weights:
        """Weights between these (share 0) and others (1): the leeway closes ever more slowly, the rest evenly."""
        if share <= 0.0 or share >= 1.0:
            return self if share <= 0.0 else other
        mixed = {f.name: (1.0 - share) * getattr(self, f.name) + share * getattr(other, f.name) for f in fields(self)}
        mixed["leeway"] = ((1.0 - share) * self.leeway**0.25 + share * other.leeway**0.25) ** 4
        return Weights(**mixed)
