"""Who owns the robot: HOLD at start and after any fault, one owner at a time, ESTOP latched."""

from __future__ import annotations

from bytemini_core.types import Mode

OWNERS = (Mode.TELEOP, Mode.POLICY)

LIFELINES = {Mode.TELEOP: ("cameras",), Mode.POLICY: ("policy", "cameras")}
"""Whose signs of life (`bytemini_core.watchdog`) an owner needs, beside what comes at 200 Hz anyway."""


class ModeMachine:
    """The arbitration of DESIGN.md section 4.

    | from, to | HOLD | TELEOP | POLICY | ESTOP |
    |---|---|---|---|---|
    | HOLD | yes | yes | yes | yes |
    | TELEOP | yes | yes | refused: the person keeps the robot until HOLD | yes |
    | POLICY | yes | yes: a person may always take over | yes | yes |
    | ESTOP | with `reset` only | refused | refused | yes |
    """

    def __init__(self) -> None:
        self.mode = Mode.HOLD
        self.reason = "started; no owner yet"

    def request(self, mode: Mode, reset: bool = False, why: str = "") -> tuple[bool, str]:
        """Ask for `mode`; `reset`: HOLD may leave ESTOP; `why` it is asked for, "" where somebody just wants it.

        Returns whether it was granted, and why not ("" for yes).
        """
        if self.mode is Mode.ESTOP and mode is not Mode.ESTOP and not (mode is Mode.HOLD and reset):
            return False, "ESTOP is latched: reset it first, by a request for HOLD that says so"
        if self.mode is Mode.TELEOP and mode is Mode.POLICY:
            return False, "TELEOP owns the robot: request HOLD, then POLICY"
        if mode is not self.mode:
            default = {Mode.HOLD: "hold was requested", Mode.ESTOP: "emergency stop was requested"}.get(mode, "")
            self.reason = why or default
        self.mode = mode
        return True, ""

    def fault(self, reason: str) -> None:
        """Take the robot from its owner: HOLD with `reason`. ESTOP stays."""
        if self.mode is not Mode.ESTOP:
            self.mode = Mode.HOLD
            self.reason = reason
