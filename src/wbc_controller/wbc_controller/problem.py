"""One control tick as a quadratic programme, written once as a CasADi expression.

The unknown is the velocity v of the next tick (base twist in base axes, joint rates). With dt the tick,

    min  1/2 v'Hv + g'v     s.t.  low <= v <= high (hard),   R v >= r (soft-exact: collisions)

    1/2 v'Hv + g'v = 1/2 sum_tasks w |J v - t|^2 + 1/2 sum_i weight_i (v_i - want_i)^2 - manipulability gain * dm/dq v
                     + 1/2 damping(m) |v_arm|^2 .

- Hands: t = twist + s(|e|) e/|e| with e the error that is left at the tick's start if the target moves by twist dt, and
  s the speed from which `approach` acceleration stops in time (`viability`): e / dt when near, so a feasible target is
  met within one tick. The relative task holds the right hand's pose in the left hand's frame.
- Manipulability m = sqrt(det(J J')) of each arm's own Jacobian (Yoshikawa, 1985), its gradient by reverse
  differentiation; damping grows as m falls below its threshold (Nakamura and Hanafusa, 1986).
- The box keeps position, velocity and acceleration limits for ever (`viability.velocity_box`). The base's acceleration
  is bounded further by tip-over: the zero-moment point g/h away from the edge, a <= g (distance to edge) / height.
- Collisions: see `proximity`.
- Strict priority (`leeway`, m/s and rad/s): the hands' tasks are solved alone first, under the same constraints; the
  programme above then keeps |J v - J v1| <= leeway for every hand with a target, v1 being their answer (lexicographic
  in the limit of 0: Escande, Mansard and Wieber, "Hierarchical quadratic programming", IJRR 2014, with two levels).
- Discs (the wrists' coupled range): a velocity is viable when its stop point q + D(|v|) v/|v| lies in the disc
  (`wrist`). D(s)/s grows with s, so along any unit n a viable velocity has n'v <= stopping_speed(radius - n'q): these
  tangents cut off nothing that is viable. Without them the other joints would count on a wrist that cannot move on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import casadi as ca

from .graph import BASE, Graph, Placement
from .shapes import Box, Capsule
from .tree import REVOLUTE

GRAVITY = 9.81
HAND = 20  # rotation 9, position 3, twist 6, two weights
_ALONE = 1e-6  # weight of standing still while the hands' tasks are solved alone: small beside theirs, but definite
_TANGENTS = (-0.5, -0.25, 0.0, 0.25, 0.5)  # rad, about the direction in which a disc's rim is nearest


@dataclass(frozen=True, slots=True)
class Tuning:
    """Numbers compiled into the tick. SI units.

    `approach`: acceleration with which hand errors are closed (m/s^2, rad/s^2); `fastest`: at most at this speed (m/s,
    rad/s). `collision_gain`: share of the spare distance a tick may use up; `collision_brake`: deceleration (m/s^2)
    that closing bodies can count on; `retreat`: fastest opening speed asked for (m/s); `watch`: bodies farther apart
    have no row (m). `singular`: manipulability below which an arm is damped; `damping`: its weight at zero
    manipulability.
    """

    dt: float = 0.005
    approach: tuple[float, float] = (1.0, 5.0)
    fastest: tuple[float, float] = (1.5, 4.0)
    collision_gain: float = 0.2
    collision_brake: float = 4.0
    retreat: float = 0.3
    watch: float = 0.6
    singular: float = 0.012
    damping: float = 0.02


@dataclass(frozen=True, slots=True)
class Pair:
    """Two bodies that must keep apart."""

    first: Capsule
    second: Capsule | Box

    @property
    def name(self) -> str:
        """For the status."""
        return f"{self.first.name} - {self.second.name}"


@dataclass(slots=True)
class Layout:
    """Where each input lies in the flat parameter vector."""

    size: int = 0
    fields: dict[str, slice] = field(default_factory=dict)

    def add(self, name: str, count: int) -> None:
        """Append `count` numbers called `name`."""
        self.fields[name] = slice(self.size, self.size + count)
        self.size += count


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """The tick's function and what its numbers mean.

    `function`: p -> (H, g, low, high, info (6), axis (N, 3), origin (N, 3), placement (links, 12), tangents (k, 3), H
    and g of the hands' tasks alone, their Jacobian (12, N)), row-major; `info`: manipulability of the arms, then the
    position (m) and rotation (rad) error of the left and of the right hand; `tangents`: rows -x v_a - y v_b >= least of
    the discs, as (x, y, least), `tangent_columns` (k, 2) their a and b among the N variables, and `tangent_discs` (k,)
    which disc they are of; `columns`: which of the 3 + n variables are the N of the programme, in its order; the others
    only have their box.
    `turning` (N,): whether the variable turns about its axis (else it slides). `links`: whose placements (rotation 9,
    translation 3) come out, and `carries` (links, N) which variables move each. `pairs`: bodies that must keep apart.
    `watched`: capsules that keep away from the environment. `places`: q -> placement. `graph`, `body`: what it was
    built from, for the knots of a preview (`horizon`).
    """

    function: ca.Function
    layout: Layout
    columns: tuple[int, ...]
    variables: int
    turning: tuple[bool, ...]
    links: tuple[str, ...]
    carries: tuple[tuple[bool, ...], ...]
    pairs: tuple[Pair, ...]
    watched: tuple[Capsule, ...]
    tangent_columns: tuple[tuple[int, int], ...]
    tangent_discs: tuple[int, ...]
    places: ca.Function
    tuning: Tuning
    graph: Graph
    body: Body


@dataclass(frozen=True, slots=True)
class Body:
    """What the tick knows of the robot beyond its kinematics, in the order of the variables.

    `hands`: frames of the two hands. `arms`: columns of each arm. `gaze`: frame whose z axis looks, and columns that
    turn it. `support`: half edges (m) of the support rectangle about base_footprint. `discs`: pairs of columns that
    stay in a disc of radius `tilt` (rad) about zero.
    """

    hands: tuple[str, str]
    arms: tuple[tuple[int, ...], tuple[int, ...]]
    gaze: tuple[str, tuple[int, ...]] | None
    support: tuple[float, float]
    discs: tuple[tuple[int, int], ...] = ()
    tilt: float = 1.0


def stopping_speed(distance: ca.SX, acceleration: ca.SX | float, dt: float) -> ca.SX:
    """As `viability.stopping_speed`."""
    unit = acceleration * (dt * dt)
    distance = ca.fmax(distance, 0.0)
    m = ca.floor(0.5 * (ca.sqrt(1.0 + 8.0 * distance / unit) - 1.0))
    return (distance + 0.5 * unit * m * (m + 1.0)) / ((m + 1.0) * dt)


def rotation_error(wanted: ca.SX, present: ca.SX) -> ca.SX:
    """Rotation vector (odom axes) from `present` to `wanted`."""
    relative = ca.mtimes(wanted, present.T)
    twice_sin = ca.vertcat(
        relative[2, 1] - relative[1, 2], relative[0, 2] - relative[2, 0], relative[1, 0] - relative[0, 1]
    )
    sine = 0.5 * ca.sqrt(ca.dot(twice_sin, twice_sin) + 1e-30)
    cosine = 0.5 * (relative[0, 0] + relative[1, 1] + relative[2, 2] - 1.0)
    return 0.5 * twice_sin * ca.atan2(sine, cosine) / sine


class _Builder:
    """Collects a quadratic cost: of velocities (a tick), or of displacements (a knot of a preview).

    `reach`: largest displacements (m, rad) that the tasks of a knot ask for; None for a tick.
    """

    def __init__(self, graph: Graph, body: Body, tuning: Tuning) -> None:
        self.graph, self.body, self.tuning = graph, body, tuning
        self.reach: ca.SX | None = None
        self.layout = Layout()
        self.n = graph.q.numel()
        self.H = ca.SX(self.n, self.n)
        self.g = ca.SX.zeros(self.n)

    def task(self, jacobian: ca.SX, wanted: ca.SX, weight: ca.SX) -> None:
        """Add w/2 |J v - t|^2."""
        self.H += ca.mtimes(weight * jacobian.T, jacobian)
        self.g -= ca.mtimes(weight * jacobian.T, wanted)

    def cost(self, columns: Sequence[int]) -> list[ca.SX]:
        """H and g of these columns."""
        pick = list(columns)
        symmetric = ca.triu2symm(ca.triu(self.H))  # so that only one triangle is computed
        return [symmetric[pick, pick], self.g[pick]]

    def closing(self, error: ca.SX, kind: int) -> ca.SX:
        """Velocity (or displacement) that closes an error vector; kind 0 linear, 1 angular."""
        tuning = self.tuning
        size = ca.sqrt(ca.dot(error, error) + 1e-24)
        if self.reach is not None:
            return error * ca.fmin(1.0, self.reach[kind] / size)
        speed = ca.fmin(stopping_speed(size, tuning.approach[kind], tuning.dt), tuning.fastest[kind])
        return error * (speed / size)


def build(graph: Graph, body: Body, pairs: Sequence[Pair], watched: Sequence[Capsule], tuning: Tuning) -> Problem:
    """Write the tick for one robot.

    Args:
        graph: kinematics over (base, joints).
        body: hands, arms and what else the tasks need.
        pairs: bodies that must keep apart.
        watched: capsules that keep away from the environment.
        tuning: the constants.
    """
    work = _Builder(graph, body, tuning)
    n, layout = work.n, work.layout
    for name in ("q", "v", "lower", "upper", "fastest", "hardest", "want", "weight"):
        layout.add(name, n)
    for side in ("left", "right"):
        layout.add(f"{side}_hand", HAND)
    for name, count in (("relative", 2), ("gaze", 5), ("manipulability", 1), ("payload", 2), ("leeway", 1)):
        layout.add(name, count)
    p = ca.SX.sym("p", layout.size)
    get = {name: p[where] for name, where in layout.fields.items()}

    hands, jacobians, errors = _hand_tasks(work, get)
    alone = _Builder(graph, body, tuning)
    alone.H, alone.g = ca.SX(work.H), ca.SX(work.g)
    if body.gaze is not None:
        _gaze_task(work, body.gaze, get["gaze"])
    manipulability, gradient, damped = _spread(work, jacobians)
    gain = get["manipulability"]
    work.g -= gain * gradient
    for i in range(n):
        # without a hand task there is nothing to damp: the gain switches both
        away_from_singular = ca.if_else(gain > 0.0, damped[i], 0.0)
        work.H[i, i] += get["weight"][i] + away_from_singular
        alone.H[i, i] += _ALONE + away_from_singular
    work.g -= get["weight"] * get["want"]
    low, high = _box(work, body, hands, get)

    frames = (*body.hands, *([body.gaze[0]] if body.gaze else []))
    columns = (*range(BASE), *sorted({j for frame in frames for j in graph.columns(frame)} - set(range(BASE))))
    axes, origins, turning = _screws(graph, columns)
    links = tuple(dict.fromkeys(body.link for pair in pairs for body in (pair.first, pair.second)))
    links += tuple(dict.fromkeys(c.link for c in watched if c.link not in links))
    moved = [{0, 1, 2, *graph.columns(link)} for link in links]
    places = _places(graph, links)
    tangents = _tangents(body, get, tuning.dt)
    outputs = [*work.cost(columns), low, high, ca.vertcat(manipulability, *errors), axes, origins, places, tangents]
    outputs += alone.cost(columns)
    outputs.append(ca.vertcat(*(part for pair in jacobians for part in pair))[:, list(columns)].T)
    flat = [_flat(ca.densify(ca.substitute(x, graph.q, get["q"]))) for x in outputs]
    return Problem(
        function=ca.Function("wbc_tick_data", [p], flat, {"cse": True}),
        layout=layout,
        columns=columns,
        variables=n,
        turning=turning,
        links=links,
        carries=tuple(tuple(j in chain for j in columns) for chain in moved),
        pairs=tuple(pairs),
        watched=tuple(watched),
        tangent_columns=tuple((columns.index(a), columns.index(b)) for a, b in body.discs for _ in _TANGENTS),
        tangent_discs=tuple(d for d in range(len(body.discs)) for _ in _TANGENTS),
        places=ca.Function("wbc_places_data", [graph.q], [ca.densify(places)]),
        tuning=tuning,
        graph=graph,
        body=body,
    )


def build_knot(problem: Problem) -> tuple[ca.Function, ca.Function, Layout]:
    """Write the same tasks for a knot of a preview: a cost of displacements z instead of velocities.

    With e the whole errors of a knot's own targets at its linearisation point q, the cost is 1/2 z'Hz + g'z =
    1/2 sum_tasks w |J z - e|^2 + 1/2 sum_i hold_i (z_i - (aim - q)_i)^2; z counts the base in the axes it has there.

    Returns:
        `wbc_knot_data`: p -> (H, g, axis, origin, placement), as of `Problem.function`; `wbc_spread_data`: q ->
        (gradient of both arms' manipulability (N,), damping (N,)); the layout of p, of which the function ignores
        `weight` and `want` (rates).
    """
    graph, columns = problem.graph, problem.columns
    work = _Builder(graph, problem.body, problem.tuning)
    n, layout = work.n, work.layout
    layout.add("q", n)
    for side in ("left", "right"):
        layout.add(f"{side}_hand", HAND)
    for name, count in (
        ("relative", 2),
        ("gaze", 5),
        ("reach", 2),
        ("hold", n),
        ("aim", n),
        ("weight", n),
        ("want", n),
    ):
        layout.add(name, count)
    p = ca.SX.sym("p", layout.size)
    get = {name: p[where] for name, where in layout.fields.items()}
    work.reach = get["reach"]
    _, jacobians, _ = _hand_tasks(work, get)
    if problem.body.gaze is not None:
        _gaze_task(work, problem.body.gaze, get["gaze"])
    error = get["aim"] - graph.q
    error[:BASE] = ca.mtimes(graph.base.rotation.T, error[:BASE])
    for i in range(n):
        work.H[i, i] += get["hold"][i]
    work.g -= get["hold"] * error
    axes, origins, _ = _screws(graph, columns)
    outputs = [*work.cost(columns), axes, origins, _places(graph, problem.links)]
    flat = [_flat(ca.densify(ca.substitute(x, graph.q, get["q"]))) for x in outputs]
    _, gradient, damped = _spread(work, jacobians)
    pick = list(columns)
    spread = [ca.densify(gradient[pick]), ca.densify(ca.vertcat(*(damped[i] for i in pick)))]
    return (
        ca.Function("wbc_knot_data", [p], flat, {"cse": True}),
        ca.Function("wbc_spread_data", [graph.q], spread, {"cse": True}),
        layout,
    )


def _places(graph: Graph, links: Sequence[str]) -> ca.SX:
    """Placements (links * 12,) of the links in odom."""
    return ca.vertcat(
        *(ca.vertcat(_flat(graph.placement(link).rotation.T), graph.placement(link).translation) for link in links)
    )


def _tangents(body: Body, get: dict[str, ca.SX], dt: float) -> ca.SX:
    """The rows of the discs, (3, k): see `Problem`."""
    rows = ca.SX(3, 0)
    for a, b in body.discs:
        q = ca.vertcat(get["q"][a], get["q"][b])
        out = q / ca.sqrt(ca.dot(q, q) + 1e-12)
        hardest = ca.fmin(get["hardest"][a], get["hardest"][b])
        for angle in _TANGENTS:
            c, s = math.cos(angle), math.sin(angle)
            n = ca.vertcat(c * out[0] - s * out[1], s * out[0] + c * out[1])
            rows = ca.horzcat(rows, ca.vertcat(n, -stopping_speed(body.tilt - ca.dot(n, q), hardest, dt)))
    return rows


def _hand_tasks(
    work: _Builder, get: dict[str, ca.SX]
) -> tuple[list[Placement], list[tuple[ca.SX, ca.SX]], list[ca.SX]]:
    """The tasks of the hands. Returns the hands' placements, their Jacobians and the sizes of their errors."""
    graph, body = work.graph, work.body
    hands = [graph.placement(frame) for frame in body.hands]
    jacobians = [graph.jacobian(frame, hand.translation) for frame, hand in zip(body.hands, hands, strict=True)]
    targets, errors = [], []
    for side, hand, (linear, angular) in zip(("left", "right"), hands, jacobians, strict=True):
        given = get[f"{side}_hand"]
        target = Placement(ca.reshape(given[:9], 3, 3).T, given[9:12])
        weights = given[18:20]
        twist = ca.SX.zeros(6) if work.reach is not None else given[12:18]
        targets.append(target)
        error = target.translation - hand.translation - work.tuning.dt * twist[:3]
        turn = rotation_error(target.rotation, hand.rotation) - work.tuning.dt * twist[3:]
        errors += [ca.norm_2(error), ca.norm_2(turn)]
        work.task(linear, twist[:3] + work.closing(error, 0), weights[0])
        work.task(angular, twist[3:] + work.closing(turn, 1), weights[1])
    _relative_task(work, hands, targets, jacobians, get)
    return hands, jacobians, errors


def _screws(graph: Graph, columns: Sequence[int]) -> tuple[ca.SX, ca.SX, tuple[bool, ...]]:
    """Axis and origin (3, N) of each variable in odom, and whether it turns."""
    still = ca.SX.zeros(3)
    axes = [graph.base.rotation[:, 0], graph.base.rotation[:, 1], ca.SX([0.0, 0.0, 1.0])]
    origins = [still, still, graph.base.translation]
    turning = [False, False, True]
    for column in columns[BASE:]:
        joint = graph.tree.joints[graph.joints[column - BASE]]
        axis, origin = graph.screw(joint)
        axes.append(axis)
        origins.append(origin)
        turning.append(joint.kind in REVOLUTE)
    return ca.horzcat(*axes), ca.horzcat(*origins), tuple(turning)


def _flat(x: ca.SX) -> ca.SX:
    return ca.reshape(x, x.numel(), 1)


def _relative_task(
    work: _Builder,
    hands: list[Placement],
    targets: list[Placement],
    jacobians: list[tuple[ca.SX, ca.SX]],
    get: dict[str, ca.SX],
) -> None:
    left, right = hands
    across = right.translation - left.translation
    wanted = ca.mtimes(left.rotation, ca.mtimes(targets[0].rotation.T, targets[1].translation - targets[0].translation))
    turn = ca.mtimes(left.rotation, ca.mtimes(targets[0].rotation.T, targets[1].rotation))
    cross = ca.skew(across)
    linear = jacobians[1][0] - jacobians[0][0] + ca.mtimes(cross, jacobians[0][1])
    angular = jacobians[1][1] - jacobians[0][1]
    work.task(linear, work.closing(wanted - across, 0), get["relative"][0])
    work.task(angular, work.closing(rotation_error(turn, right.rotation), 1), get["relative"][1])


def _gaze_task(work: _Builder, gaze: tuple[str, tuple[int, ...]], given: ca.SX) -> None:
    """Turn the frame's z axis towards a point; the axis z x d is the shortest rotation, its size the sine.

    `given`: point (3), weight, rate (1/s).
    """
    frame, columns = gaze
    placement = work.graph.placement(frame)
    away = given[:3] - placement.translation
    direction = away / ca.sqrt(ca.dot(away, away) + 1e-12)
    axis = ca.cross(placement.rotation[:, 2], direction)
    angular = work.graph.jacobian(frame, placement.translation, columns)[1]
    across = angular - ca.mtimes(direction, ca.mtimes(direction.T, angular))
    work.task(across, given[4] * axis, given[3])


def _spread(work: _Builder, jacobians: list[tuple[ca.SX, ca.SX]]) -> tuple[ca.SX, ca.SX, list[ca.SX]]:
    """Manipulability of both arms (2,), the gradient of their sum (3 + n,) and each variable's damping near zero."""
    values = []
    gradient, damped = ca.SX.zeros(work.n), [ca.SX(0.0)] * work.n
    for arm, (linear, angular) in zip(work.body.arms, jacobians, strict=True):
        J = ca.densify(ca.vertcat(linear, angular)[:, list(arm)])
        square = ca.mtimes(J, J.T) + 1e-9 * ca.SX.eye(6)
        L = ca.chol(square).T
        m = L[0, 0] * L[1, 1] * L[2, 2] * L[3, 3] * L[4, 4] * L[5, 5]
        gradient += ca.gradient(m, work.graph.q)
        short = ca.fmax(0.0, 1.0 - m / work.tuning.singular)
        for i in arm:
            damped[i] = work.tuning.damping * short * short
        values.append(m)
    return ca.vertcat(*values), gradient, damped


def _box(work: _Builder, body: Body, hands: list[Placement], get: dict[str, ca.SX]) -> tuple[ca.SX, ca.SX]:
    dt = work.tuning.dt
    q, v, hardest = get["q"], get["v"], get["hardest"]
    forward, backward = ca.SX(hardest), ca.SX(hardest)
    com, mass = ca.SX.zeros(3), ca.SX(0.0)
    for link in work.graph.tree.links.values():
        if link.mass > 0.0:
            com += link.mass * work.graph.placement(link.name).point(link.centre)
            mass += link.mass
    for hand, load in zip(hands, (get["payload"][0], get["payload"][1]), strict=True):
        com += load * hand.translation
        mass += load
    com = ca.mtimes(work.graph.base.rotation.T, com / mass - work.graph.base.translation)
    for axis, half in enumerate(body.support):
        # accelerating forwards moves the zero-moment point backwards, by a h / g; a tenth of the limit always stays,
        # so that the base can brake
        least = 0.1 * hardest[axis]
        forward[axis] = ca.fmin(hardest[axis], ca.fmax(GRAVITY * (half + com[axis]) / com[2], least))
        backward[axis] = ca.fmin(hardest[axis], ca.fmax(GRAVITY * (half - com[axis]) / com[2], least))
    slowest, quickest = v - backward * dt, v + forward * dt
    up = stopping_speed(get["upper"] - q, hardest, dt)
    down = stopping_speed(q - get["lower"], hardest, dt)
    high = ca.fmin(ca.fmin(ca.fmax(get["fastest"], slowest), up), quickest)
    low = ca.fmax(ca.fmax(ca.fmin(-get["fastest"], quickest), -down), slowest)
    return ca.fmin(low, high), ca.fmax(low, high)
