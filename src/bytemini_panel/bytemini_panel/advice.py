"""What to do about a fault: looked up by what its sentence says."""

from __future__ import annotations

import re

_ADVICE = (
    (
        r"circuit|the button",
        "Find out who pressed it and why; release the button, look at its cable and adapter. Then Reset, give a task.",
    ),
    (
        r"emergency stop|E-stop|ESTOP",
        "Find out who pressed it and why. When the robot may move again: Reset, then give a task.",
    ),
    (
        r"no robot state|state is stale|lacks \w+_joint",
        "The driver or the simulator is silent: look at its row, restart it.",
    ),
    (
        r"reference is stale",
        "Policy or headset fell silent: look at their rows and at the network; then give the task again.",
    ),
    (
        r"no sign of life from cameras",
        "A camera was lost or its process ended: look at their rows; then give the task again.",
    ),
    (
        r"no sign of life from",
        "That process has ended or hangs and is being started again: read its log, then give the task again.",
    ),
    (
        r"pushes with",
        "A hand met something and let go: look what it was, clear the way, then give the task again.",
    ),
    (r"no word of battery", "The driver tells nothing of battery and temperatures: look at its row, restart it."),
    (r"the robot draws", "Something holds the robot back or it carries too much: look, then give the task again."),
    (r"in the future", "Two machines disagree about the time: set up chrony between them."),
    (
        r"jumps by|outside its limits",
        "The sender asked for the impossible and was refused: give the task again; if it repeats, change the policy.",
    ),
    (r"same picture", "That camera hangs or has no light: it is opened anew by itself; else unplug it and plug it in."),
    (r"camera|picture|image", "Look at the cable and the USB 3 port of that camera; it is opened anew by itself."),
    (r"no word for", "Its process has hung or ended: read its log in the run's folder, restart it."),
    (r"disk|space", "Free space: old folders below runs/ can go."),
    (r"battery", "Drive the robot to the charger; below 10 % it holds."),
    (r"temperature|hot|°C", "Let the robot rest until the joint has cooled."),
    (
        r"solver|infeasible|singular",
        "Move the robot out of this posture by hand or teleoperation; then give the task again.",
    ),
    (r"does not answer|not available", "That node is not running: look at its row, restart it."),
    (r"timed out|time limit|no [\w, ]+ for", "Look at the cameras' and the policy's rows; then give the task again."),
)

DEFAULT = "Read the node's last lines in the run's folder; the robot holds until it is given a task again."


def advice(text: str) -> str:
    """What an operator should do about a fault described by `text`."""
    return next((what for pattern, what in _ADVICE if re.search(pattern, text, re.IGNORECASE)), DEFAULT)
