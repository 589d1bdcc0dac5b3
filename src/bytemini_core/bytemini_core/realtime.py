"""What keeps a node's answers on time: no long pauses for garbage, and the processor before everybody else."""

from __future__ import annotations

import contextlib
import gc
import os
from pathlib import Path


def settle() -> None:
    """Leave what a process has built so far out of every later garbage collection.

    A full collection looks at all objects: 5 to 20 ms with the modules of a node, in the middle of a tick. What is made
    from now on is collected as ever, in far less than a tick, since there is little of it.
    """
    gc.collect()
    gc.freeze()


def hurry(priority: int) -> str:
    """Run all threads of this process, also those they start, before every ordinary process (SCHED_FIFO).

    Args:
        priority: 1 to 99; the kernel's own threads for interrupts have 50.

    Returns:
        Why it was not permitted, and what to do; "" when it was.
    """
    try:
        for path in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setscheduler(int(path.name), os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return (
            f"real-time priority {priority} is not permitted: allow it with a line '@realtime - rtprio 99' in "
            "/etc/security/limits.conf and join that group, or, in a container, with --cap-add=sys_nice"
        )
    return ""
