"""The robot's camera node with a camera of software at it, whose picture freezes and thaws at a signal."""

from __future__ import annotations

import signal
import sys
from functools import partial

SERIAL, WIDTH, HEIGHT = "campaign", 64, 48
PARAMETERS = {"head_serial": SERIAL, "width": WIDTH, "height": HEIGHT, "depth": False, "use_sim_time": True}
"""Of the node."""

FREEZE, THAW = signal.SIGUSR1, signal.SIGUSR2
"""Signals to its process."""


def main() -> int:
    """Console entry."""
    from bytemini_cameras.node import closes, start
    from bytemini_cameras.software import SoftwareCamera, finder
    from bytemini_core.node import run_node

    camera = SoftwareCamera(SERIAL, WIDTH, HEIGHT)
    # Obeyed between two waits of the main thread, 20 ms apart.
    signal.signal(FREEZE, lambda *_: setattr(camera, "frozen", True))
    signal.signal(THAW, lambda *_: setattr(camera, "frozen", False))
    camera.feed()
    return run_node(partial(start, finder(camera)), wind_down=closes)


if __name__ == "__main__":
    sys.exit(main())
