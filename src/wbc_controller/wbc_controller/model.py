"""From a robot to its problem: which frames, bodies and pairs, chosen from the URDF itself."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import casadi as ca
import numpy as np
from bytemini_core.types import SIDES, Array
from bytemini_description.robot import RobotModel

from .graph import BASE, Graph
from .problem import Body, Pair, Problem, Tuning, build
from .proximity import segment_box, segment_segment
from .shapes import Box, Capsule, bodies_of
from .tree import Tree

RIM = 1.0 - 1e-6  # the wrist's range is an open disc

_SAMPLES = 10_000
_NEAR = 0.04  # a pair that never came nearer in any sampled posture needs no row (m)


@dataclass(frozen=True, slots=True)
class Frames:
    """Names in the URDF that the tasks need: the two hands, and the frame whose z axis looks (None: no gaze)."""

    hands: tuple[str, str] = ("left_tcp", "right_tcp")
    gaze: str | None = "head_camera_optical_frame"


@functools.cache
def robot_problem(robot: RobotModel, dt: float, only: frozenset[frozenset[str]] | None = None) -> Problem:
    """The problem of a ByteMini with tick `dt` (s), built once per process and robot; `only`: see `model_problem`."""
    discs = [(f"{side}_wrist_pitch_joint", f"{side}_wrist_roll_joint") for side in SIDES]
    return model_problem(
        robot.urdf,
        robot.joint_names,
        robot.lower,
        robot.upper,
        robot.home,
        Frames(),
        Tuning(dt=dt),
        only,
        discs=discs,
        tilt=robot.wrist_tilt_limit * RIM,
    )


def support_of(boxes: Sequence[Box], root_links: set[str]) -> tuple[float, float]:
    """Half edges (m) of the support rectangle: the widest box that stands with the base, less a tenth."""
    standing = [box.half for box in boxes if box.link in root_links]
    if not standing:
        return 1e3, 1e3  # nothing is known of the ground contact: no tip-over bound
    widest = max(standing, key=lambda half: half[0] * half[1])
    return 0.9 * float(widest[0]), 0.9 * float(widest[1])


def model_problem(
    urdf: str,
    joints: Sequence[str],
    lower: Array,
    upper: Array,
    home: Array,
    frames: Frames,
    tuning: Tuning,
    only: Collection[frozenset[str]] | None = None,
    discs: Sequence[tuple[str, str]] = (),
    tilt: float = 1.0,
) -> Problem:
    """Build the tick's problem of any robot with two hands.

    Args:
        urdf: its description.
        joints: actuated joints, in the order of every joint vector.
        lower: (n,) position limits.
        upper: (n,) position limits.
        home: (n,) posture at which no two bodies may touch.
        frames: hands and gaze.
        tuning: constants of the tick.
        only: names of the pairs to keep apart; None for all that can meet.
        discs: pairs of joints with a coupled range, a disc about zero.
        tilt: its radius (rad).

    Raises:
        ValueError: an unknown frame or joint, an inertia no body can have, or bodies that touch at home, by name.
    """
    tree = Tree(urdf)
    chains = [tree.chain(frame) for frame in frames.hands]
    common = {joint.name for joint in chains[0]} & {joint.name for joint in chains[1]}
    arm_joints = [[j.name for j in chain if j.name not in common and j.name in joints] for chain in chains]
    gaze_joints = (
        [j.name for j in tree.chain(frames.gaze) if j.name in joints and j.name not in common] if frames.gaze else []
    )
    inside = {j.name for chain in chains for j in chain} | set(gaze_joints)
    order = {name: BASE + i for i, name in enumerate(joints)}
    standing = [name for name in joints if name not in inside]
    # variables that are in no chain keep their place, but no frame depends on them
    graph = Graph(tree, joints)
    arms: dict[str, list[str]] = {}
    for side, names in zip(("left", "right"), arm_joints, strict=True):
        if not names:
            raise ValueError("the two hands share every joint: expected a frame on each arm")
        top = next(j.child for j in tree.joints.values() if j.name == names[0])
        arms[side] = [
            link
            for link in tree.links
            if link == top or any(j.parent == top or j.child == top for j in tree.chain(link))
        ]
    travel = {name: float(0.5 * upper[i]) for i, name in enumerate(joints) if name in standing}
    capsules, boxes = bodies_of(tree, arms, standing, travel)
    carried = {link for link in tree.links if not any(j.kind != "fixed" for j in tree.chain(link))}
    body = Body(
        hands=frames.hands,
        arms=(tuple(order[n] for n in arm_joints[0]), tuple(order[n] for n in arm_joints[1])),
        gaze=(frames.gaze, tuple(order[n] for n in gaze_joints)) if frames.gaze else None,
        support=support_of(boxes, carried),
        discs=tuple((order[a], order[b]) for a, b in discs),
        tilt=tilt,
    )
    pairs = _pairs(graph, capsules, boxes, lower, upper, home, only)
    watched = [c for c in capsules if "#" not in c.name and c.link in _last_two(tree, capsules, frames)]
    return build(graph, body, pairs, watched, tuning)


def _last_two(tree: Tree, capsules: Sequence[Capsule], frames: Frames) -> set[str]:
    """The hand and the forearm: the last two links of each chain that have a capsule."""
    having = {capsule.link for capsule in capsules}
    found: set[str] = set()
    for frame in frames.hands:
        links = [joint.child for joint in tree.chain(frame) if joint.child in having]
        found |= set(links[-2:])
    return found


def _neighbours(tree: Tree, first: str, second: str) -> bool:
    """Whether two links move as one, or are joined with no shaped link between them.

    What is fixed to one another counts as one link.
    """

    def bodies(link: str) -> list[str]:
        moving = [joint.child for joint in tree.chain(link) if joint.kind != "fixed"]
        return [tree.root, *moving]

    path_a, path_b = bodies(first), bodies(second)
    shared = 0
    while shared < min(len(path_a), len(path_b)) and path_a[shared] == path_b[shared]:
        shared += 1
    between = {*path_a[shared - 1 :], *path_b[shared:]} - {path_a[-1], path_b[-1]}
    return not any(tree.links[link].shapes for link in tree.links if bodies(link)[-1] in between)


def _pairs(
    graph: Graph,
    capsules: Sequence[Capsule],
    boxes: Sequence[Box],
    lower: Array,
    upper: Array,
    home: Array,
    only: Collection[frozenset[str]] | None,
) -> list[Pair]:
    tree = graph.tree
    bodies: list[Capsule | Box] = [*capsules, *boxes]
    candidates = [
        Pair(one, two)
        for i, one in enumerate(capsules)
        for two in bodies[i + 1 :]
        if one.link != two.link and not _neighbours(tree, one.link, two.link)
    ]
    names = [frozenset((pair.first.name, pair.second.name)) for pair in candidates]
    if only is not None:
        if unknown := [name for name in only if name not in names]:
            raise ValueError(f"no pair of bodies {' and '.join(sorted(unknown[0]))} that could meet")
        candidates = [pair for pair, name in zip(candidates, names, strict=True) if name in only]
    if not candidates:
        return []
    links = list(dict.fromkeys(body.link for pair in candidates for body in (pair.first, pair.second)))
    places = ca.Function("places", [graph.q], [_placement(graph, link) for link in links])
    at_home = _distances(candidates, links, places, home[None])[:, 0]
    if at_home.min() <= 0.0:
        worst = int(np.argmin(at_home))
        raise ValueError(f"bodies {candidates[worst].name} touch at home ({at_home[worst]:.4f} m): mend URDF or home")
    if only is not None:
        return candidates
    rng = np.random.default_rng(0)
    postures = rng.uniform(lower, upper, (_SAMPLES, len(lower)))
    nearest = _distances(candidates, links, places, postures).min(axis=1)
    chosen = {names[i] for i in np.flatnonzero(nearest < _NEAR)}
    chosen |= {frozenset(map(_mirror, name)) for name in chosen}  # what was sampled on one side holds on the other
    return [pair for pair, name in zip(candidates, names, strict=True) if name in chosen]


def _mirror(name: str) -> str:
    """The name on the other side: left and right exchanged."""
    return "right".join(part.replace("right", "left") for part in name.split("left"))


def _placement(graph: Graph, link: str) -> ca.SX:
    place = graph.placement(link)
    return ca.densify(ca.horzcat(place.rotation, place.translation))


def _distances(pairs: Sequence[Pair], links: Sequence[str], places: ca.Function, postures: Array) -> Array:
    """Distances (pairs, postures) with the base at the origin."""
    count = len(postures)
    q = np.hstack((np.zeros((count, BASE)), postures)).T
    found = places.map(count)(q)
    blocks = found if isinstance(found, tuple) else (found,)
    at = {link: np.array(x).reshape(3, count, 4).transpose(1, 0, 2) for link, x in zip(links, blocks, strict=True)}
    distances = np.empty((len(pairs), count))
    for i, pair in enumerate(pairs):
        start, end = _ends(pair.first, at)
        if isinstance(pair.second, Capsule):
            points = segment_segment(start, end, *_ends(pair.second, at))
            radii = pair.first.radius + pair.second.radius
        else:
            place, box = at[pair.second.link], pair.second
            centre = place[:, :, :3] @ box.centre + place[:, :, 3]
            points = segment_box(start, end, place[:, :, :3] @ box.rotation, centre, np.tile(box.half, (count, 1)))
            radii = pair.first.radius
        distances[i] = np.linalg.norm(points[0] - points[1], axis=1) - radii
    return distances


def _ends(capsule: Capsule, at: dict[str, Array]) -> tuple[Array, Array]:
    place = at[capsule.link]
    return place[:, :, :3] @ capsule.start + place[:, :, 3], place[:, :, :3] @ capsule.end + place[:, :, 3]
