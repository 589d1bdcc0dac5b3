"""The scripted expert for two hands: hand something over, carry a tray. Simulation only.

Both arms follow straight lines of their hands at fixed angles, one choreography per task; where the base has to be for
that is part of the plan. A choreography that failed is planned again from what is there then.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from bytemini_core.types import SIDES, Array, Observation, SceneObject, SceneState

from bytemini_sim.bimanual import TRAY
from bytemini_sim.expert import SQUEEZE, PickPlaceExpert
from bytemini_sim.grammar import resolve, things_in
from bytemini_sim.grasp import hand_rotation
from bytemini_sim.ik import quaternion_matrix
from bytemini_sim.motion import Trajectory
from bytemini_sim.planner import Mover, room_of, with_knots

if TYPE_CHECKING:
    from bytemini_description.robot import RobotModel

HAND_OVER = re.compile(
    r"^\s*hand\s+(?P<object>.+?)\s+over\s+from\s+the\s+(?P<giver>left|right)\s+hand\s+to\s+the\s+(?:left|right)\s+hand[\s.!]*$",
    re.IGNORECASE,
)
CARRY = re.compile(r"^\s*carry\s+the\s+tray\s+to\s+the\s+(?P<side>left|right)[\s.!]*$", re.IGNORECASE)

STANDOFF = 0.11
APART = 0.085
"""How far below and above its middle the two hands take what is handed over (m)."""
RISE = 0.05
TRAY_RISE = 0.09
DISTANCE = 0.26
"""How far the tray is carried (m)."""
ATTEMPTS = 3
_TILTS = (28.0, 20.0, 36.0, 44.0)
"""How far below horizontal the hands come in, degrees."""
_TURNS = (52.0, 64.0, 40.0, 28.0, 16.0)
"""How far the hands come from their own sides, degrees off straight ahead."""
HANDS_APART = np.radians(67.0)
"""Least angle over the table between two hands at one thing (rad)."""
SWIVELS = np.linspace(-0.4, 1.5, 11)
POST_Y, POST_HALF, POST_Z = 0.165, 0.014, 0.062
"""The tray's handles in its frame (m)."""


class BimanualExpert(PickPlaceExpert):
    """Serves the instructions of the suite "bimanual"; see `PickPlaceExpert` for everything else."""

    def __init__(self, robot: RobotModel, *, noise_scale: float = 0.0, seed: int = 0) -> None:
        super().__init__(robot, noise_scale=noise_scale, seed=seed)

    def _think(self, now: float, observation: Observation, measured: Array) -> None:
        scene = observation.scene
        assert scene is not None
        if self.phase in ("invalid", "done"):
            return
        if self._motion is not None and self.phase != "stuck":
            self.phase = self._motion.phase(now)
            if now < self._motion.end + 0.3:
                return
            if self._succeeded(scene):
                self.phase, self._frozen = "done", self._motion.goal
                return
        if self.attempts >= ATTEMPTS or self.phase == "stuck":
            self.phase, self.trouble = "stuck", self.trouble or f"not done after {ATTEMPTS} attempts"
            return
        motion = self._planned(now, observation, measured)
        if motion is None:
            if self.phase != "invalid":
                self.phase, self._motion = "stuck", self._motion or Trajectory(now, measured)
            self._frozen = measured if self.phase == "invalid" else None
            return
        self.attempts += 1
        self._motion, self.phase = motion, motion.phase(now)

    def _planned(self, now: float, observation: Observation, measured: Array) -> Trajectory | None:
        scene, lift = observation.scene, self._lift_position(observation)
        assert scene is not None
        self._seen = {item.name: np.array(item.pose) for item in scene.objects}
        words = observation.instruction
        if match := HAND_OVER.match(words):
            name = resolve(match["object"], things_in(scene))
            item = scene.find(name) if name else None
            if item is not None:
                self._goal_side = SIDES[1 - SIDES.index(match["giver"].lower())]
                self._name = item.name
                return self._hand_over(now, scene, item, match["giver"].lower(), measured, lift)
        elif match := CARRY.match(words):
            tray = scene.find(TRAY)
            if tray is not None:
                self._goal_side, self._name = match["side"].lower(), TRAY
                return self._carry_tray(now, scene, tray, match["side"].lower(), measured, lift)
        self.phase, self.trouble = "invalid", f"there is nothing here for {words!r}"
        return None

    def _succeeded(self, scene: SceneState) -> bool:
        """Whether the choreography did what it was for, as far as poses tell."""
        item = scene.find(self._name)
        assert item is not None
        before = self._seen[self._name]
        if self._name == TRAY:
            sign = 1.0 if self._goal_side == "left" else -1.0
            return sign * float(item.pose[1] - before[1]) > DISTANCE - 0.05
        return float(item.pose[2] - before[2]) > 0.05

    # -- handing over ---------------------------------------------------------------------------------------------

    def _hand_over(
        self, now: float, scene: SceneState, item: SceneObject, giver: str, measured: Array, lift: float
    ) -> Trajectory | None:
        taker = SIDES[1 - SIDES.index(giver)]
        sign = 1.0 if giver == "left" else -1.0
        centre = np.asarray(item.pose[:3], dtype=np.float64)
        width = float(item.size[0])
        low, high = np.array([0.0, 0.0, -APART]), np.array([0.0, 0.0, APART])
        up, on = np.array([0.0, 0.0, RISE]), np.array([0.0, 0.0, 0.03])
        angles = list(itertools.product(np.radians(_TURNS), np.radians(_TILTS)))
        for base, meet_x in itertools.product(_bases(measured[16:]), (0.60, 0.55, 0.50)):
            meet = np.array([base[0] + meet_x, base[1] + 0.02 * sign, centre[2] + RISE])
            # Each hand at the first angle that it reaches; the two keep apart.
            for turn, tilt in angles:
                take = self._path(taker, sign * turn, tilt, meet + high, [meet + high + on], base, lift)
                if take is not None:
                    break
            else:
                continue
            for other, steep in angles:
                if turn + other < HANDS_APART:
                    continue
                points = [centre + low + up, meet + low]
                give = self._path(giver, -sign * other, steep, centre + low, points, base, lift)
                if give is not None:
                    return self._handing(now, measured, scene, lift, base, giver, taker, width, give, take)
        self.trouble = "no way for both hands to meet"
        return None

    def _handing(
        self,
        now: float,
        measured: Array,
        scene: SceneState,
        lift: float,
        base: Array,
        giver: str,
        taker: str,
        width: float,
        give: tuple[Array, Array, Array],
        take: tuple[Array, Array, Array],
    ) -> Trajectory:
        open_ = {side: self._planner.open[side] for side in SIDES}
        home = self._planner.rest
        motion = Trajectory(now, measured)
        closed = max(width / 2 - SQUEEZE, 0.0)
        reach, descend, carry = give
        way = self._clear_way(scene, motion, giver, reach, base, lift)
        self._move(motion, "approach", {giver: way}, grips=open_, base=base, at_least=1.6)
        self._move(motion, "descend", {giver: descend}, at_least=1.0)
        self._move(motion, "close", {}, grips={giver: closed}, at_least=0.4, overlap=-0.1)
        self._move(motion, "lift", {giver: carry}, at_least=1.5, overlap=-0.2)
        reach, descend, carry = take
        self._move(motion, "approach", {taker: _to(motion, self._arm[taker], reach)}, at_least=1.6, overlap=-0.1)
        self._move(motion, "descend", {taker: descend}, at_least=1.2, overlap=-0.1)
        self._move(motion, "close", {}, grips={taker: closed}, at_least=0.5, overlap=-0.2)
        self._move(motion, "release", {}, grips={giver: open_[giver]}, at_least=0.4, overlap=-0.4)
        self._move(motion, "retreat", {giver: give[1][::-1]}, at_least=0.8, overlap=-0.2, relative=True)
        self._move(motion, "lift", {taker: carry}, at_least=0.6)
        self._move(motion, "home", {giver: _to(motion, self._arm[giver], home[giver][None])}, at_least=1.4)
        return motion

    # -- carrying -------------------------------------------------------------------------------------------------

    def _carry_tray(
        self, now: float, scene: SceneState, tray: SceneObject, side: str, measured: Array, lift: float
    ) -> Trajectory | None:
        frame, middle = quaternion_matrix(tray.pose[3:]), np.asarray(tray.pose[:3])
        bottom = middle[2] - tray.size[2] / 2
        posts = {}
        for hand, sign in (("left", 1.0), ("right", -1.0)):
            post = middle + frame @ [0.0, sign * POST_Y, 0.0]
            post[2] = bottom + POST_Z + 0.012
            posts[hand] = post
        sign = 1.0 if side == "left" else -1.0
        heading = float(np.arctan2(frame[1, 0], frame[0, 0]))
        up = np.array([0.0, 0.0, TRAY_RISE])
        near = np.array([measured[16], middle[1], measured[18]])
        for base, turn, tilt in itertools.product(
            _bases(near), np.radians([10.0, 25.0, -5.0, 40.0]), np.radians(_TILTS)
        ):
            paths: dict[str, tuple[Array, Array, Array]] = {}
            for hand, inwards in (("left", -turn), ("right", turn)):
                path = self._path(hand, heading + inwards, tilt, posts[hand], [posts[hand] + up], base, lift)
                if path is None:
                    break
                paths[hand] = path
            else:
                return self._carrying(now, measured, scene, lift, base, sign, paths)
        self.trouble = "no way for both hands to the tray's handles"
        return None

    def _carrying(
        self,
        now: float,
        measured: Array,
        scene: SceneState,
        lift: float,
        base: Array,
        sign: float,
        paths: dict[str, tuple[Array, Array, Array]],
    ) -> Trajectory:
        open_ = {side: self._planner.open[side] for side in SIDES}
        motion = Trajectory(now, measured)
        there = base + np.array([0.0, sign * DISTANCE, 0.0])
        reach = {hand: self._clear_way(scene, motion, hand, paths[hand][0], base, lift) for hand in SIDES}
        self._move(motion, "approach", reach, grips=open_, base=base, at_least=2.0)
        self._move(motion, "descend", {hand: paths[hand][1] for hand in SIDES}, at_least=1.2)
        closed = dict.fromkeys(SIDES, max(POST_HALF - SQUEEZE, 0.0))
        self._move(motion, "close", {}, grips=closed, at_least=0.5, overlap=-0.1)
        self._move(motion, "lift", {hand: paths[hand][2] for hand in SIDES}, at_least=1.5, overlap=-0.3)
        self._move(motion, "transfer", {}, base=there, at_least=2.5, overlap=-0.1)
        self._move(motion, "lower", {hand: paths[hand][2][::-1] for hand in SIDES}, at_least=1.5, overlap=-0.2)
        self._move(motion, "release", {}, grips=open_, at_least=0.5, overlap=-0.3)
        self._move(motion, "retreat", {hand: paths[hand][1][::-1] for hand in SIDES}, at_least=1.0, overlap=-0.2)
        home = {hand: _to(motion, self._arm[hand], self._planner.rest[hand][None]) for hand in SIDES}
        self._move(motion, "home", home, at_least=1.6)
        return motion

    # -- pieces ---------------------------------------------------------------------------------------------------

    def _path(
        self, side: str, heading: float, tilt: float, grasp: Array, then: list[Array], base: Array, lift: float
    ) -> tuple[Array, Array, Array] | None:
        """Joint paths (n, 7) of one hand at a fixed angle: to before the grasp, to the grasp, on through points.

        The cheapest elbow swivel that reaches all of it; None if none does.
        """
        rotation = hand_rotation(np.array(heading + base[2]), np.array(tilt))
        away = STANDOFF * rotation[:, 2]
        span = np.linspace(0.0, 1.0, 9)[:, None]
        entry = grasp + away + span * -away
        way, at = [], grasp
        for point in then:
            way.append(at + span * (point - at))
            at = point
        onward = np.concatenate(way)
        best: tuple[float, tuple[Array, Array, Array]] | None = None
        for swivel in SWIVELS:
            down = self._planner.line(side, rotation, entry, base, float(swivel), lift, None)
            on = (
                self._planner.line(side, rotation, onward, base, float(swivel), lift, None)
                if down is not None
                else None
            )
            if down is None or on is None:
                continue
            cost = float(self._planner.effort(self._planner.arms[side], np.concatenate([down, on])).max())
            if best is None or cost < best[0]:
                best = cost, (down[:1], down, on)
        return best[1] if best else None

    def _clear_way(
        self, scene: SceneState, motion: Trajectory, side: str, posture: Array, base: Array, lift: float
    ) -> Array:
        """A joint path (n, 7) to a posture (1, 7) around what stands there; the straight one where none is found."""
        start = motion.goal[self._arm[side]]
        mover = Mover(side, self._planner.open[side])
        way = self._planner.way(mover, start, posture[0], motion.goal[16:], base, room_of(scene, None, lift))
        return way if way is not None else _to(motion, self._arm[side], posture)

    def _move(
        self,
        motion: Trajectory,
        phase: str,
        arms: dict[str, Array],
        *,
        grips: dict[str, float] | None = None,
        base: Array | None = None,
        at_least: float = 0.0,
        overlap: float = 0.0,
        relative: bool = False,
    ) -> None:
        """Append a segment in which some columns move and the others stay.

        `relative`: only the displacement of the arms' paths counts (the trajectory is elsewhere by then).
        """
        n = max([2, *(len(path) for path in arms.values())])
        knots = np.repeat(motion.goal[None], n, axis=0)
        s = np.linspace(0.0, 1.0, n)
        for side, path in arms.items():
            shift = motion.goal[self._arm[side]] - path[0] if relative else 0.0
            # One arm may go straight where the other goes around.
            knots[:, self._arm[side]] = with_knots(path, n) + shift
        for side, value in (grips or {}).items():
            column = self._grip[side]
            knots[:, column] += s * (value - knots[0, column])
        if base is not None:
            knots[:, 16:] += s[:, None] * (base - knots[0, 16:])
        motion.append(phase, knots, self._limits, at_least=at_least, overlap=overlap)


def _to(motion: Trajectory, arm: slice, posture: Array) -> Array:
    """A joint path (n, 7) from where a trajectory ends to a posture (1, 7)."""
    start = motion.goal[arm]
    return np.asarray(start + np.linspace(0.0, 1.0, 9)[:, None] * (posture[0] - start))


def _bases(near: Array) -> Iterator[Array]:
    """Base poses (3,) to try, the nearest first."""
    for x in (0.0, -0.08, 0.04, -0.16, -0.24):
        for y in (0.0, 0.06, -0.06):
            yield np.array([x, near[1] + y, 0.0])


def understands(instruction: str) -> bool:
    """Whether an instruction is one for two hands."""
    return bool(HAND_OVER.match(instruction) or CARRY.match(instruction))
