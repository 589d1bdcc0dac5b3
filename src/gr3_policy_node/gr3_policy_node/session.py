"""One task from its acceptance to its end: when the policy's word is believed, and when time is up."""

from __future__ import annotations

from dataclasses import dataclass

from bytemini_core.types import NANOSECONDS, ActionChunk, TaskStatus

CONFIDENT = 0.5
"""Least confidence with which a task status counts."""

AGREEMENT = 3
"""Consecutive chunks that must agree on the end of a task."""

FIRST_LOOK = 3.0
"""Seconds in which a policy looks at what it is asked to do: so long its refusal is a word like any other."""

SECOND_THOUGHT = 10.0
"""Seconds for which all chunks must agree on a refusal after that. Whether a thing can be done does not change because
an arm is in the way of the camera or a grasp has failed, and a refusal ends the task for good."""


@dataclass(frozen=True)
class Verdict:
    """How a task ended: `status` is the name of one of RunTask's result codes, `message` says it in words."""

    status: str
    message: str


class TaskSession:
    """Judges the chunks of one task.

    A single prediction of the task status may be wrong; TERMINATED and INVALID count after `agreement` consecutive
    chunks say the same of their first row, which is the row of now, INVALID after the first look only when
    they have said so for `SECOND_THOUGHT`.
    """

    def __init__(self, instruction: str, started: int, time_limit: float, agreement: int = AGREEMENT):
        """Begin.

        Args:
            instruction: the task in words.
            started: stamp of the acceptance, nanoseconds.
            time_limit: seconds until the task has timed out, > 0.
            agreement: how many consecutive chunks must agree, >= 1.

        Raises:
            ValueError: no instruction, or a number out of range.
        """
        if not instruction.strip():
            raise ValueError("the instruction is empty: say what to do, like 'put the apple into the basket'")
        if not (0 < time_limit < 86_400) or agreement < 1:
            raise ValueError(f"time limit {time_limit} s and agreement {agreement}: expected 0 to 86400 s and >= 1")
        self.instruction = instruction
        self.started = started
        self.time_limit = time_limit
        self.chunks = 0
        self.inference_time = 0.0
        self._agreement = agreement
        self._said = TaskStatus.ONGOING
        self._times, self._since = 0, started

    def elapsed(self, now: int) -> float:
        """Seconds since the task was accepted."""
        return (now - self.started) / NANOSECONDS

    def judge(self, chunk: ActionChunk) -> Verdict | None:
        """Take the next chunk into account; the verdict when the task has ended, else None."""
        self.chunks += 1
        self.inference_time += chunk.inference_time
        said = TaskStatus.ONGOING
        if chunk.horizon and chunk.confidence[0] >= CONFIDENT:
            said = TaskStatus(int(chunk.task_status[0]))
        if said != self._said:
            self._said, self._times, self._since = said, 0, chunk.stamp
        self._times += 1
        agreed = self._times >= self._agreement
        if said is TaskStatus.TERMINATED and agreed:
            return Verdict("TERMINATED", f"done after {self.elapsed(chunk.stamp):.1f} s")
        looking = self.elapsed(chunk.stamp) <= FIRST_LOOK
        sure = looking or chunk.stamp - self._since >= SECOND_THOUGHT * NANOSECONDS
        if said is TaskStatus.INVALID and agreed and sure:
            return Verdict("INVALID", f"{chunk.policy or 'the policy'} says that this cannot be done here")
        if self.elapsed(chunk.stamp) >= self.time_limit:
            return Verdict("TIMED_OUT", f"not done within {self.time_limit:g} s")
        return None
