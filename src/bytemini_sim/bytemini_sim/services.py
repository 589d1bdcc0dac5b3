"""Answers of the simulator's services, whichever simulator gives them."""

from __future__ import annotations

from bytemini_core.ros import scene_message
from bytemini_core.types import SceneState

from bytemini_msgs.srv import ScoreEpisode
from bytemini_sim.scoring import EpisodeScore


def fill_score(response: ScoreEpisode.Response, score: EpisodeScore, scene: SceneState) -> ScoreEpisode.Response:
    """Write a score and the scene it is about into a response, and return that."""
    response.valid = True
    response.instruction_following, response.success = score.instruction_following, score.success
    response.progress, response.failure = score.progress, score.failure
    response.collisions, response.limit_violations = len(score.collisions), score.limit_violations
    response.max_joint_jerk, response.sim_seconds = score.max_joint_jerk, score.sim_seconds
    response.scene = scene_message(scene)
    response.trajectory_hash = score.digest
    return response
