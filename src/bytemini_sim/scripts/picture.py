"""The README's picture: the robot at the table with the apple in its hand; the argument is the file to write."""

import sys

from bytemini_sim.episode import RolloutOptions
from bytemini_sim.inproc import InprocRunner
from PIL import Image

MOMENT = 3.4
"""Simulated seconds into the episode."""


def main(path: str) -> None:
    """Run an episode up to the moment and photograph it."""
    options = RolloutOptions(instruction="put the apple into the basket", cameras=False, outside=False)
    runner = InprocRunner(options)

    def watch(seconds: float) -> None:
        if abs(seconds - MOMENT) < 1e-6:
            image = runner.world.photograph(size=(720, 1120), pretty=True)
            Image.fromarray(image).save(path, quality=88)

    runner.run(0, watch)


if __name__ == "__main__":
    main(sys.argv[1])
