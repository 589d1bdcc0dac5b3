"""The robot's camera node with a camera of software at it, whose picture freezes and thaws at a signal."""

from __future__ import annotations

import signal
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bytemini_cameras.software import SoftwareCamera

SERIAL, WIDTH, HEIGHT = "campaign", 64, 48
PARAMETERS = {"head_serial": SERIAL, "width": WIDTH, "height": HEIGHT, "depth": False, "use_sim_time": True}
"""Of the node."""

FREEZE, THAW = signal.SIGUSR1, signal.SIGUSR2
"""Signals to its process."""


def main() -> int:
    """Console entry."""
    from bytemini_cameras.node import start
    from bytemini_cameras.software import SoftwareCamera, finder
    from bytemini_core.node import run_node

    # A thread waits for them: the main thread would hear of them when its executor comes back from waiting.
    signal.pthread_sigmask(signal.SIG_BLOCK, {FREEZE, THAW})
    camera = SoftwareCamera(SERIAL, WIDTH, HEIGHT)
    threading.Thread(target=_obey, args=(camera,), daemon=True).start()
    camera.feed()
    return run_node(partial(start, finder(camera)))


def _obey(camera: SoftwareCamera) -> None:
    while True:
        camera.frozen = signal.sigwait({FREEZE, THAW}) == FREEZE


if __name__ == "__main__":
    sys.exit(main())
