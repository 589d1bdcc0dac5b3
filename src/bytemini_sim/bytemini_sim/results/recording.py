"""The trajectory of a rollout as a recording that a policy plays again."""

from __future__ import annotations

from pathlib import Path

from bytemini_core.types import Mode
from gr3_policy_node.replay import Recording

from bytemini_sim.results.trajectory import Trajectory


def read(path: Path, episode: int) -> Recording:
    """What was commanded in `episode-*.npz` while the policy drove.

    Raises:
        ValueError: it cannot be read, or holds no such episode.
    """
    if episode:
        raise ValueError(f"{path} holds one episode, {episode} was asked for: leave the number out")
    try:
        kept = Trajectory.load(path)
    except OSError as error:
        raise ValueError(f"recording {path} cannot be read: {error.strerror or error}") from None
    driving = kept.mode == tuple(Mode).index(Mode.POLICY)
    return Recording(path.name, kept.names, kept.stamp[driving], kept.command[driving], kept.base_pose[driving])
