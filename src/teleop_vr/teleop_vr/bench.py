"""`./bytemini bench teleop`: how long commands take, how well hands are followed, what engaging and bad frames do.

- *live*: simulator, controller and teleoperation node as processes of their own, a headset of thought over TLS on
  loopback. From a frame's sending to the first joint command that holds its gripper value, and from the sending of hand
  poses to the hands that were measured.
- *engage*: physics, controller and session in one thread: the arms' commanded step when a clutch closes.
- *fuzz*: a session that hears hostile frames between good ones, beside one that hears only the good; and a server that
  is sent rubbish over its socket.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import json
import math
import os
import ssl
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.domain import private_domain
from bytemini_core.errors import UserError
from bytemini_core.types import NANOSECONDS, SIDES, Array, Mode, RobotState
from bytemini_description.robot import RobotModel, load_robot
from numpy.typing import NDArray

from teleop_vr import inputs
from teleop_vr.poses import from_matrix, from_vector, multiply
from teleop_vr.simulated import SimulatedHeadset

TRACK_SECONDS = 60.0
_TONES = (0.11, 0.23, 0.37)  # Hz
_OPEN_LOOK = 3.0  # s until the gripper's ramp counts
_SETTLED = 1.0  # s from engaging to the trajectory's beginning
_FOUND = 30.0  # s that publishers may take to be found


def two_hands(t: float) -> dict[str, Array]:
    """Displacement (7,) of each hand at t (s) in a minute of two-handed work: smooth, never the same twice.

    Up to 0.3 m/s and 0.9 rad/s, within the arms' workspace around the resting hands.
    """
    ease = min(1.0, t / 2.0)
    ease = ease * ease * (3.0 - 2.0 * ease)
    moved = {}
    for side, phase in zip(SIDES, (0.0, 1.9), strict=True):
        angles = [2.0 * math.pi * tone * t + phase * (i + 1) for i, tone in enumerate(_TONES)]
        a, b, c = angles
        shift = (
            0.045 * math.sin(a) + 0.03 * math.sin(b) + 0.02 * math.sin(c),
            0.05 * math.sin(b + 0.7) + 0.03 * math.sin(c + 0.2),
            0.06 + 0.05 * math.cos(a) + 0.03 * math.sin(b + 1.1) + 0.025 * math.sin(c + 2.0),
        )
        turn = (0.2 * math.sin(b), 0.15 * math.sin(a + 1.0) + 0.08 * math.sin(c), 0.2 * math.sin(c + 0.5))
        moved[side] = np.concatenate((ease * np.array(shift), from_vector(ease * np.array(turn))))
    return moved


def moved_by(start: Array, displacement: Array) -> Array:
    """The pose (7,) shifted and turned by a displacement, both in the axes that `start` is given in."""
    return np.concatenate((start[:3] + displacement[:3], multiply(displacement[3:], start[3:])))


@dataclass(slots=True)
class Track:
    """Wanted and measured hands over time: `times` (n,) s, `wanted` and `measured` (n, 7)."""

    times: Array
    wanted: Array
    measured: Array


def errors(track: Track, lag: float) -> tuple[float, float]:
    """RMS error (mm, deg) of what was measured against what was wanted `lag` s before."""
    shifted = np.column_stack([np.interp(track.times - lag, track.times, track.wanted[:, i]) for i in range(7)])
    keep = track.times > track.times[0] + lag
    shifted, measured = shifted[keep], track.measured[keep]
    shifted[:, 3:] /= np.linalg.norm(shifted[:, 3:], axis=1, keepdims=True)
    position = float(np.sqrt(np.mean(np.sum((measured[:, :3] - shifted[:, :3]) ** 2, axis=1))))
    dot = np.abs(np.sum(measured[:, 3:] * shifted[:, 3:], axis=1)).clip(0.0, 1.0)
    angle = float(np.sqrt(np.mean((2.0 * np.arccos(dot)) ** 2)))
    return 1000.0 * position, math.degrees(angle)


def lag_of(track: Track) -> float:
    """The lag (s) that leaves the least position error."""
    candidates = np.arange(0.0, 0.3, 0.001)
    return float(candidates[int(np.argmin([errors(track, lag)[0] for lag in candidates]))])


def figures(tracks: dict[str, Track]) -> dict[str, Any]:
    """Lag of both hands together, then each error without it; the worse hand counts."""
    lags = {side: lag_of(track) for side, track in tracks.items()}
    found = {side: errors(track, lags[side]) for side, track in tracks.items()}
    return {
        "tracking_mm": round(max(mm for mm, _ in found.values()), 2),
        "tracking_deg": round(max(deg for _, deg in found.values()), 2),
        "lag_ms": round(1000.0 * max(lags.values()), 1),
    }


# Live


@dataclass(slots=True)
class Heard:
    """What the bench heard of the robot, with the times of hearing (s, steady).

    `joints` and `bases` go together: no joints are kept before the base was heard.
    """

    joints: list[tuple[float, Array]] = field(default_factory=list)
    commands: list[tuple[float, Array, Array]] = field(default_factory=list)
    base: Array | None = None
    bases: list[Array] = field(default_factory=list)
    waiting: deque[tuple[float, float]] = field(default_factory=deque)  # sent, gripper expected
    latencies: list[tuple[float, float]] = field(default_factory=list)  # when, s
    references: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def resting(self, began: float) -> int:
        """Index of the newest joints heard before a trajectory began (s), since its hands were engaged and at rest.

        Raises:
            UserError: none were heard: where its hands began is not known.
        """
        index = bisect.bisect_right(self.joints, began, key=lambda entry: entry[0]) - 1
        if index < 0 or began - self.joints[index][0] > 0.8 * _SETTLED:
            raise UserError("the bench did not hear the robot when its hands were engaged: is the machine overloaded?")
        return index


@dataclass(slots=True)
class Stretch:
    """A time without letting go: when it began (s), what was sent since, and how it ended ("": with the run)."""

    began: float
    sent: list[tuple[float, Array, Array]] = field(default_factory=list)
    ended: str = ""


def _silences(heard: Heard) -> str:
    """The longest gaps (ms) lately between references, states and commands, as the bench heard them."""
    times = {
        "references": heard.references[-300:],
        "states": [t for t, _ in heard.joints[-600:]],
        "commands": [t for t, *_ in heard.commands[-600:]],
    }
    return ", ".join(f"{name} {1000 * max(np.diff(t), default=0.0):.0f} ms" for name, t in times.items())


async def _drive(url: str, tls: Path, seconds: float, rate: float, model: RobotModel, heard: Heard) -> dict[str, Any]:
    """Be the headset: engage, follow the trajectory, ramp the right gripper; the server's view and the wanted poses."""
    import aiohttp
    from tqdm import tqdm

    headset = SimulatedHeadset()
    newest: dict[str, Any] = {}
    events: list[str] = []
    trust = ssl.create_default_context(cafile=str(tls))
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session,
        session.ws_connect(url) as socket,
    ):
        await socket.send_json({"type": "hello", "protocol": 1, "client": "bench", "want": "operator"})

        async def listen() -> None:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    said = json.loads(message.data)
                    if said["type"] == "state":
                        newest.update(said, at=time.monotonic())
                    elif said["type"] == "event":
                        events.append(said["text"])

        listening = asyncio.create_task(listen())
        await socket.send_json({"type": "command", "id": 1, "command": "lock_base"})
        start = {side: headset.hand(side).pose.copy() for side in SIDES}
        opening = float(model.upper[model.indices(["right_gripper_joint"])[0]])
        stretches: list[Stretch] = []
        stretch: Stretch | None = None
        due, asked, left = time.monotonic(), time.monotonic(), seconds
        bar = tqdm(total=round(seconds), unit="s", desc="live", leave=False)
        trigger, step = 0.0, 2.5e-4
        while True:
            now = time.monotonic()
            engaged = bool(newest.get("hands")) and all(newest["hands"][side]["engaged"] for side in SIDES)
            if stretch is None:
                ready = newest.get("session") in ("ready", "engaged")
                for side in SIDES:
                    hand = headset.hand(side)
                    hand.pose = start[side].copy()
                    hand.squeeze = 1.0 if ready and (now - asked) % 1.5 > 0.5 else 0.0
                if engaged:
                    stretch = Stretch(now + _SETTLED)
                    stretches.append(stretch)
                elif now - asked > 40.0:
                    raise UserError(f"the robot could not be engaged: {newest.get('hands')}, {events[-2:]}")
            elif not engaged:
                stretch.ended = f"{'; '.join(events[-2:])} (longest silences: {_silences(heard)})"
                left -= max(0.0, now - stretch.began)
                stretch, asked = None, now
                with heard.lock:
                    heard.waiting.clear()
            elif now >= stretch.began:
                t = now - stretch.began
                if t > left:
                    break
                bar.update(int(seconds - left + t) - bar.n)
                for side, displacement in two_hands(t).items():
                    headset.hand(side).pose = moved_by(start[side], displacement)
                trigger += step
                if not 0.0 < trigger < 0.9:
                    step = -step
                headset.right.trigger = trigger
            headset.echo, headset.held = newest.get("t", 0.0), now - newest.get("at", now)
            data = headset.frame(max(now - due + 1.0 / rate, 1e-4))
            sent = time.monotonic()
            if stretch is not None and now >= stretch.began:
                one, other = (headset.hand(side).pose.copy() for side in SIDES)
                stretch.sent.append((sent, one, other))
                if now - stretch.began > _OPEN_LOOK:
                    with heard.lock:
                        heard.waiting.append((sent, opening * (1.0 - float(np.float32(trigger)))))
            await socket.send_bytes(data)
            due = max(due + 1.0 / rate, time.monotonic() - 0.05)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        bar.close()
        async with session.get(url.replace("wss:", "https:").replace("/ws?", "/api/doctor?")) as answer:
            doctor = await answer.json()
        listening.cancel()
    return {"stretches": stretches, "start": start, "doctor": doctor, "view": newest}


def live(
    model: RobotModel, seconds: float, rate: float, cameras: bool, logs: Path, priority: int = 0
) -> dict[str, Any]:
    """Run the stack and measure; see the module. `priority`: of nodes and headset, see `bytemini_core.realtime`."""
    from bytemini_core.realtime import hurry
    from bytemini_core.web import certificate, pairing_token

    from bytemini_bringup.processes import Processes
    from bytemini_bringup.stack import options, stack

    port = 8470
    values = options(robot=model.version, teleop=True, teleop_port=port, cameras=cameras)
    kept = ("bytemini_sim", "wbc_controller", "teleop_vr")
    heard = Heard()
    wanted = [replace(p, parameters={**p.parameters, "priority": priority}) for p in stack(values) if p.name in kept]
    if priority and (reason := hurry(priority)):
        raise UserError(reason)
    with tempfile.TemporaryDirectory(prefix="bytemini-teleop-") as folder, private_domain() as domain:
        keys = Path(folder) / "bytemini" / "web"
        token, tls = pairing_token(keys), certificate(keys)
        environment = {"ROS_DOMAIN_ID": str(domain), "XDG_CONFIG_HOME": folder}
        with Processes(wanted, logs, environment=environment) as processes, _listening(model, heard) as score:
            url = f"wss://localhost:{port}/ws?token={token}"
            _wait_for(port, processes.check)
            _find(heard, processes.check)
            run = asyncio.run(_drive(url, tls.chain, seconds, rate, model, heard))
            scored = score()
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # scoring is in no hurry
    return _evaluate(model, heard, run, scored)


def _find(heard: Heard, check: Callable[[], None]) -> None:
    """Wait until the robot is heard: its publishers may be found seconds after it moves, and its beginning be missed.

    Raises:
        UserError: it is not.
    """
    deadline = time.monotonic() + _FOUND
    while not (heard.joints and heard.commands):
        check()
        if time.monotonic() > deadline:
            missing = [name for name in ("joints", "commands") if not getattr(heard, name)]
            raise UserError(f"the bench heard no {' and no '.join(missing)} of the robot within {_FOUND:g} s")
        time.sleep(0.02)


def _wait_for(port: int, check: Any) -> None:
    from teleop_vr.command import _wait

    _wait(port, check)


@contextlib.contextmanager
def _listening(model: RobotModel, heard: Heard) -> Any:
    """Listen to the robot in a thread of its own; gives a function that asks the simulator for its score."""
    import rclpy
    from bytemini_core.executor import StreamExecutor
    from bytemini_core.ros import COMMAND_QOS, SENSOR_QOS
    from nav_msgs.msg import Odometry
    from sensor_msgs.msg import JointState

    from bytemini_msgs.msg import JointCommand, WholeBodyReference
    from bytemini_msgs.srv import ScoreEpisode

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("bench_teleop", context=context, start_parameter_services=False)
    gripper = model.joint_names.index("right_gripper_joint")
    fit = 0.4 * 2.5e-4 * float(model.upper[gripper])

    def on_odometry(message: Odometry) -> None:
        pose = message.pose.pose
        yaw = 2.0 * math.atan2(pose.orientation.z, pose.orientation.w)
        heard.base = np.array((pose.position.x, pose.position.y, yaw))

    def on_joints(message: JointState) -> None:
        if heard.base is not None:
            heard.bases.append(heard.base)
            heard.joints.append((time.monotonic(), np.array(message.position)))

    def on_command(message: JointCommand) -> None:
        now, position = time.monotonic(), np.array(message.position)
        heard.commands.append((now, position, np.array(message.velocity)))
        with heard.lock:
            fitting = [i for i, (_, value) in enumerate(heard.waiting) if abs(value - position[gripper]) < fit]
            for _ in range(fitting[-1] + 1 if fitting else 0):
                heard.latencies.append((now, now - heard.waiting.popleft()[0]))

    node.create_subscription(Odometry, "odom", on_odometry, SENSOR_QOS)
    node.create_subscription(JointState, "joint_states", on_joints, SENSOR_QOS)
    node.create_subscription(JointCommand, "joint_command", on_command, COMMAND_QOS)
    node.create_subscription(
        WholeBodyReference, "wbc/reference", lambda _: heard.references.append(time.monotonic()), COMMAND_QOS, raw=True
    )
    client = node.create_client(ScoreEpisode, "sim/score")
    executor = StreamExecutor(context=context)
    executor.add_node(node)
    ended = threading.Event()

    def spin() -> None:
        while not ended.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()

    def score() -> Any:
        future = client.call_async(ScoreEpisode.Request())
        deadline = time.monotonic() + 5.0
        while not future.done() and time.monotonic() < deadline:
            time.sleep(0.02)
        return future.result() if future.done() else None

    try:
        yield score
    finally:
        ended.set()
        thread.join()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def followed(model: RobotModel, heard: Heard, stretch: Stretch, start: dict[str, Array]) -> dict[str, Track]:
    """Wanted and measured hands of a stretch, in odom.

    Args:
        model: the robot.
        heard: what was heard of it.
        stretch: what the headset sent.
        start: side to the grip (7,) that the hand was engaged with.

    Raises:
        UserError: the hands were not heard while they were engaged and at rest, where the trajectory begins.
    """
    from bytemini_description.kinematics import Kinematics

    kinematics = Kinematics(model)
    sent = np.array([t for t, *_ in stretch.sent])
    times = np.array([t for t, _ in heard.joints])
    first = heard.resting(stretch.began)
    inside = np.flatnonzero((times > sent[0]) & (times < sent[-1]))
    tracks = {}
    for i, side in enumerate(SIDES):
        origin = from_matrix(kinematics.forward(f"{side}_tcp", heard.joints[first][1], heard.bases[first]))
        goal = np.array([led(origin, start[side], (left, right)[i]) for _, left, right in stretch.sent])
        wanted = np.column_stack([np.interp(times[inside], sent, goal[:, j]) for j in range(7)])
        measured = np.array(
            [from_matrix(kinematics.forward(f"{side}_tcp", heard.joints[k][1], heard.bases[k])) for k in inside]
        )
        tracks[side] = Track(times[inside], wanted, measured)
    return tracks


def _evaluate(model: RobotModel, heard: Heard, run: dict[str, Any], scored: Any) -> dict[str, Any]:
    stretch = max(run["stretches"], key=lambda s: len(s.sent))
    tracks = followed(model, heard, stretch, run["start"])
    first = heard.resting(stretch.began)
    times = np.array([t for t, _ in heard.joints[first:]])
    position = np.array([q for _, q in heard.joints[first:]])
    velocity = np.array([v for _, _, v in heard.commands])
    latencies = 1000.0 * np.array([value for _, value in heard.latencies])
    when = np.array([t for t, _ in heard.latencies])
    if len(latencies) < 100:
        raise UserError(f"only {len(latencies)} commands could be told apart: is the machine overloaded?")
    minute = [
        round(float(np.percentile(latencies[(when >= t) & (when < t + 60.0)], 50)), 2)
        for t in np.arange(when[0], when[-1], 60.0)
    ]
    outside = np.maximum(position - model.upper, model.lower - position).max()
    return {
        "command_ms": {
            "p50": round(float(np.percentile(latencies, 50)), 2),
            "p90": round(float(np.percentile(latencies, 90)), 2),
            "p99": round(float(np.percentile(latencies, 99)), 2),
            "frames": len(latencies),
            "p50_by_minute": minute,
        },
        **figures(tracks),
        "tracked_s": round(stretch.sent[-1][0] - stretch.sent[0][0], 1),
        "let_go": [stretch.ended for stretch in run["stretches"] if stretch.ended],
        "stages_ms": {**run["doctor"]["stages_ms"], **_halves(heard)},
        "round_trip_ms": run["doctor"]["stream"]["rtt_ms"],
        "rejected": run["view"]["counters"]["rejected"],
        "beyond_limit_rad": round(float(max(outside, 0.0)), 5),
        "speed_of_limit": round(float((np.abs(velocity) / model.velocity).max()), 3),
        "collisions": None if scored is None else int(scored.collisions),
        "real_time_factor": round((len(times) - 1) * 0.005 / (times[-1] - times[0]), 3),
    }


def _halves(heard: Heard) -> dict[str, dict[str, float]]:
    """The two halves of a frame's way (ms), by when the reference between them was heard."""
    arrived, took = (np.array(column) for column in zip(*heard.latencies, strict=True))
    references = np.array([*heard.references, math.inf])
    to_reference = references[np.searchsorted(references, arrived - took)] - (arrived - took)
    known = to_reference < took
    return {
        name: {f"p{p}": round(1000.0 * float(np.percentile(part[known], p)), 2) for p in (50, 99)}
        for name, part in (("sent_to_reference", to_reference), ("reference_to_command", took - to_reference))
    }


def led(origin: Array, start: Array, grip: Array) -> Array:
    """Where a hand that was at `origin` should be for a grip that was at `start` (heading 0, scale 1)."""
    turned = multiply(grip[3:], np.array((*(-start[3:6]), start[6])))
    moved = moved_by(origin, np.concatenate((grip[:3] - start[:3], turned)))
    return moved if moved[3:] @ origin[3:] >= 0.0 else np.concatenate((moved[:3], -moved[3:]))


# In one thread


def engage(model: RobotModel, count: int, seed: int = 0) -> dict[str, Any]:
    """Close the clutch `count` times at random poses; the arms' largest commanded step in a tick and in 0.1 s, deg."""
    from bytemini_sim.tasks import make_task
    from bytemini_sim.world import World
    from tqdm import tqdm

    from teleop_vr.rig import Rig

    rng = np.random.default_rng(seed)
    rig = Rig(model, World(model, make_task("pick_place").sample(0), cameras=()))
    arm = {side: model.indices(model.arm_joints(side)) for side in SIDES}
    rig.run(0.5)
    rig.order("lock_base")
    home = {side: rig.hand(side) for side in SIDES}
    ticks: list[float] = []
    tenths: list[float] = []
    done = 0
    with tqdm(total=count, desc="engage", unit="", leave=False) as bar:
        while done < count:
            for side in SIDES:
                hand = rig.headset.hand(side)
                hand.squeeze = 0.0
                hand.pose = np.concatenate((rng.uniform(-1.0, 1.0, 3), from_vector(rng.normal(size=3))))
            rig.run(0.3)
            for side in SIDES:
                rig.headset.hand(side).squeeze = 1.0
            commands = [_command(rig)]
            engaged: dict[str, int] = {}
            while len(commands) < 150 and (len(engaged) < 2 or len(commands) < max(engaged.values()) + 21):
                rig.step()
                commands.append(_command(rig))
                for side in SIDES:
                    if side not in engaged and rig.view()["hands"][side]["engaged"]:
                        engaged[side] = len(commands) - 1
            if len(engaged) < 2:
                raise UserError(f"engaging was withheld: {rig.view()['hands']}")
            for side, at in engaged.items():
                path = np.array(commands[at - 1 : at + 20])[:, arm[side]]
                ticks.append(float(np.abs(np.diff(path, axis=0)).max()))
                tenths.append(float(np.abs(path - path[0]).max()))
            done += 2
            bar.update(2)
            goal = {side: _near(home[side], rng) for side in SIDES}
            start = {side: rig.headset.hand(side).pose.copy() for side in SIDES}
            present_hand = {side: rig.hand(side) for side in SIDES}

            def move(t: float, goal: Any = goal, start: Any = start, present: Any = present_hand) -> None:
                share = min(1.0, t / 0.6)
                for side in SIDES:
                    turn = _turn(present[side], goal[side])
                    shift = share * (goal[side][:3] - present[side][:3])
                    rig.headset.hand(side).pose = moved_by(
                        start[side], np.concatenate((shift, from_vector(share * turn)))
                    )

            rig.run(0.7, move)
    return {
        "engage_jump_deg": round(math.degrees(max(ticks)), 4),
        "engage": {
            "count": done,
            "step_in_a_tick_deg": {"max": round(math.degrees(max(ticks)), 4), "p99": _percentile(ticks, 99)},
            "moved_in_100_ms_deg": {"max": round(math.degrees(max(tenths)), 4), "p99": _percentile(tenths, 99)},
        },
    }


def _percentile(radians: list[float], percent: float) -> float:
    return round(math.degrees(float(np.percentile(radians, percent))), 4)


def _command(rig: Any) -> Array:
    command: Array = rig.command.joint.position
    return command


def _near(home: Array, rng: np.random.Generator) -> Array:
    shift = rng.uniform((-0.1, -0.1, 0.02), (0.08, 0.1, 0.2))
    return moved_by(home, np.concatenate((shift, from_vector(rng.uniform(-0.4, 0.4, 3)))))


def _turn(of: Array, to: Array) -> Array:
    from teleop_vr.poses import conjugate, to_vector

    return to_vector(multiply(to[3:], conjugate(of[3:])))


def track(model: RobotModel, seconds: float) -> dict[str, Any]:
    """The trajectory through session, controller and physics in one thread: no transport, the same every time."""
    from bytemini_sim.scoring import Scorer
    from bytemini_sim.tasks import make_task
    from bytemini_sim.world import World
    from tqdm import tqdm

    from teleop_vr.rig import Rig

    world = World(model, make_task("pick_place").sample(0), cameras=())
    rig, scorer = Rig(model, world), Scorer(world)
    rig.run(0.3)
    rig.engage(*SIDES)
    rig.run(0.5)
    start = {side: rig.headset.hand(side).pose.copy() for side in SIDES}
    origin = {side: rig.hand(side) for side in SIDES}
    times, wanted, measured = [], {side: [] for side in SIDES}, {side: [] for side in SIDES}  # type: ignore[var-annotated]
    with tqdm(total=round(seconds), desc="track", unit="s", leave=False) as bar:

        def move(t: float) -> None:
            displacement = two_hands(t)
            times.append(t)
            for side in SIDES:
                rig.headset.hand(side).pose = moved_by(start[side], displacement[side])
                wanted[side].append(led(origin[side], start[side], rig.headset.hand(side).pose))
                measured[side].append(rig.hand(side))
            scorer.update()
            bar.update(int(t) - bar.n)

        rig.run(seconds, move)
    tracks = {}
    for side in SIDES:
        hands = np.array(measured[side])
        hands[:, 3:] *= np.sign(hands[:, 3:] @ origin[side][3:])[:, None]
        tracks[side] = Track(np.array(times), np.array(wanted[side]), hands)
    collisions = [str(collision) for collision in scorer.result().collisions]
    return {**figures(tracks), "collisions": collisions, "limits": world.limits.total}


# Pictures


def pictures(model: RobotModel, count: int, size: int = 480) -> dict[str, Any]:
    """What a picture costs as JPEG, as it is sent, and as H.264 without delay, as WebRTC or WebCodecs would take it.

    Median time to encode (ms) and mean size (kB) of the simulator's head camera while the arms move.
    """
    import av
    from bytemini_sim.tasks import make_task
    from bytemini_sim.world import World
    from tqdm import tqdm

    from teleop_vr.rig import Rig
    from teleop_vr.video import QUALITIES, encode

    world = World(model, make_task("pick_place").sample(0), cameras=("head",), image_size=(size, size))
    rig = Rig(model, world)
    rig.run(0.3)
    rig.engage(*SIDES)
    start = {side: rig.headset.hand(side).pose.copy() for side in SIDES}
    seen = []
    for i in tqdm(range(count), desc="pictures", unit="", leave=False):
        for side, displacement in two_hands(2.0 + i / 30.0).items():
            rig.headset.hand(side).pose = moved_by(start[side], displacement)
        rig.run(1.0 / 30.0)
        seen.append(world.images()["head"])
    found = {}
    for quality in QUALITIES[::3]:
        found[f"jpeg {quality}"] = _costs(seen, partial(encode, quality=quality))
    codec = av.CodecContext.create("libx264", "w")
    codec.width = codec.height = size
    codec.pix_fmt, codec.time_base, codec.bit_rate = "yuv420p", Fraction(1, 30), 4_000_000
    codec.options = {"preset": "ultrafast", "tune": "zerolatency"}

    def compress(image: NDArray[np.uint8]) -> bytes:
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        return b"".join(bytes(packet) for packet in codec.encode(frame))

    found["h264 ultrafast"] = _costs(seen, compress)
    return {"size": size, "count": count, **found}


def _costs(images: list[NDArray[np.uint8]], encoder: Callable[[NDArray[np.uint8]], bytes]) -> dict[str, float]:
    times, sizes = [], []
    for image in images:
        started = time.perf_counter()
        sizes.append(len(encoder(image)))
        times.append(time.perf_counter() - started)
    return {"ms": round(1000.0 * float(np.median(times)), 2), "kB": round(float(np.mean(sizes)) / 1000.0, 1)}


# Fuzz


def hostile(good: bytes, rng: np.random.Generator) -> bytes:
    """A frame that has to be refused, made of a good one."""
    kind = int(rng.integers(0, 9))
    data = bytearray(good)
    if kind == 0:
        return bytes(data[: int(rng.integers(0, len(data)))])
    if kind == 1:
        return bytes(data) + rng.bytes(int(rng.integers(1, 64)))
    if kind == 2:
        return rng.bytes(len(data))
    if kind == 3:  # a number that is none
        offset = int(rng.choice([8, 16, *range(24, 28, 4), *range(36, 152, 4)]))
        data[offset : offset + 4] = b"\xff\xff\xff\xff"
        if offset in (8, 16):
            data[offset + 4 : offset + 8] = b"\xff\xff\xff\x7f"
    elif kind == 4:  # a quaternion of another length
        at = int(rng.choice([48, 76, 104]))
        scale = float(rng.choice([0.0, 0.5, 1.05, 3.0]))
        numbers = np.frombuffer(bytes(data[at : at + 16]), dtype="<f4") * np.float32(scale)
        data[at : at + 16] = numbers.astype("<f4").tobytes()
    elif kind == 5:  # replayed
        return good
    elif kind == 6:  # an older sequence with other content
        data[4:8] = int(rng.integers(0, max(1, int.from_bytes(data[4:8], "little")))).to_bytes(4, "little")
    elif kind == 7:
        at = int(rng.choice([36, 64, 92]))
        data[at : at + 4] = np.float32(rng.choice([-1.0, 1.0]) * rng.uniform(25.0, 1e30)).tobytes()
    else:
        data[28:32] = (1 << int(rng.integers(7, 32))).to_bytes(4, "little")
    return bytes(data)


def fuzz(model: RobotModel, count: int, seed: int = 0) -> dict[str, Any]:
    """Feed hostile frames between good ones to one session, the good ones alone to another; compare what they ask."""
    from tqdm import tqdm

    from teleop_vr.journal import checksum
    from teleop_vr.session import Session

    rng = np.random.default_rng(seed)
    both = [Session(model), Session(model)]
    zero = np.zeros(len(model.joint_names))
    now, period = 10 * NANOSECONDS, NANOSECONDS // 60
    hello = json.dumps({"type": "hello", "protocol": 1, "client": "fuzz", "want": "operator"})
    for session in both:
        session.feed(now, inputs.Opened(1))
        session.feed(now, inputs.Text(1, hello))
    headset = SimulatedHeadset()
    crashes = steered = references = 0
    start = headset.left.pose.copy()
    for i in tqdm(range(count), desc="fuzz", unit="", leave=False):
        now += period
        phase = i % 6000
        headset.left.squeeze = headset.right.squeeze = 0.0 if phase < 10 else 1.0
        headset.left.pose = moved_by(start, two_hands(phase / 60.0)["left"])
        headset.echo, headset.held = now / NANOSECONDS - 0.02, 0.01
        good = headset.frame(1.0 / 60.0)
        bad = hostile(good, rng)
        state = RobotState(now, model.joint_names, model.home, zero, zero)
        asked = []
        for session, frames in zip(both, ((good, bad), (good,)), strict=True):
            session.feed(now, inputs.Measured(state))
            session.feed(now, inputs.Controller(Mode.TELEOP))
            for frame in frames:
                try:
                    out = session.feed(now, inputs.Binary(1, frame))
                except Exception:  # the question is whether anything at all comes out but an answer
                    crashes += 1
                    continue
                if frame is good:
                    asked.append(None if out.reference is None else checksum(out.reference))
                elif out.reference is not None:
                    steered += 1
        references += asked[0] is not None
        steered += len(asked) == 2 and asked[0] != asked[1]
    return {
        "frames": count,
        "crashes": crashes,
        "steered": steered,
        "references": references,
        "rejected": dict(both[0].rejected),
    }


class _Nobody:
    """A robot that does nothing, and counts what it was told."""

    def __init__(self) -> None:
        self.told = 0

    def lead(self, _: object) -> None:
        """Count."""
        self.told += 1

    def ask_mode(self, *_: object, **__: object) -> None:
        """Count."""
        self.told += 1

    def stop(self, _: object) -> None:
        """Count."""
        self.told += 1

    def record(self, *_: object) -> None:
        """Count."""
        self.told += 1


def rubbish(model: RobotModel, count: int, seed: int = 0) -> dict[str, Any]:
    """Send a live server rubbish over a socket, as fast as it takes it; whether it still answers others."""
    from bytemini_core.web import certificate

    from teleop_vr.retarget import RetargetConfig
    from teleop_vr.service import Service

    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        tls, robot = certificate(Path(folder)), _Nobody()
        service = Service(model, robot, RetargetConfig(), port=0, token="bench", tls=tls, host="127.0.0.1")
        service.start()
        try:
            answered = asyncio.run(_throw(service.server.port, tls.chain, count, rng))
        finally:
            service.stop()
    return {"messages": count, "alive": answered, "told": robot.told}


async def _throw(port: int, chain: Path, count: int, rng: np.random.Generator) -> bool:
    import aiohttp

    trust = ssl.create_default_context(cafile=str(chain))
    base = f"https://localhost:{port}"
    good = SimulatedHeadset().frame(0.01)
    words = ["hello", "claim", "command", "shown", "pong", "fly", 7, None, [], {"type": "hello"}]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        sent = 0
        while sent < count:
            async with session.ws_connect(f"{base}/ws?token=bench") as socket:
                reading = asyncio.create_task(_drain(socket))
                with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                    while sent < count and not socket.closed:
                        sent += 1
                        kind = rng.integers(0, 4)
                        if kind == 0:
                            await socket.send_bytes(rng.bytes(int(rng.integers(0, 300))))
                        elif kind == 1:
                            await socket.send_bytes(hostile(good, rng))
                        elif kind == 2:
                            await socket.send_str(rng.bytes(int(rng.integers(0, 80))).decode("latin1"))
                        else:
                            message = {"type": words[rng.integers(0, 6)], "id": words[rng.integers(0, 10)]}
                            message |= {"camera": words[rng.integers(0, 10)], "want": words[rng.integers(0, 10)]}
                            await socket.send_str(json.dumps(message))
                reading.cancel()
        async with session.get(f"{base}/api/health") as answer:
            if answer.status != 200:
                return False
        async with session.ws_connect(f"{base}/ws?token=bench") as socket:
            await socket.send_json({"type": "hello", "protocol": 1, "client": "after", "want": "observer"})
            async with asyncio.timeout(5.0):
                while True:
                    if json.loads(str((await socket.receive()).data)).get("type") == "welcome":
                        return True


async def _drain(socket: Any) -> None:
    async for _ in socket:
        pass


PARTS = ("live", "track", "engage", "fuzz", "pictures")


def main(argv: list[str]) -> int:
    """Measure the teleoperation: command latency, hand tracking, engaging, hostile frames."""
    parser = argparse.ArgumentParser(prog="bytemini bench teleop", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--robot", default="v1", choices=("v1", "v2"))
    parser.add_argument("--minutes", type=float, default=1.0, help="of the live run (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=90.0, help="headset frames per second (default: %(default)s)")
    parser.add_argument(
        "--priority",
        type=int,
        default=0,
        help="real-time priority of the live run, for a shared machine (default: none)",
    )
    parser.add_argument("--cameras", action="store_true", help="draw and send the cameras in the live run")
    parser.add_argument("--engagements", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--frames", type=int, default=100_000, help="hostile frames (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="run only these parts")
    parser.add_argument("--out", type=Path, help="folder for the processes' logs (default: runs/<time>-bench-teleop)")
    arguments = parser.parse_args(argv)
    model = load_robot(arguments.robot)
    logs = arguments.out or Path("runs") / time.strftime("%Y%m%d-%H%M%S-bench-teleop")
    found: dict[str, Any] = {}
    try:
        if "track" in arguments.only:
            found["in_one_thread"] = track(model, TRACK_SECONDS)
        if "live" in arguments.only:
            seconds = 60.0 * arguments.minutes
            found |= live(model, seconds, arguments.rate, arguments.cameras, logs, arguments.priority)
        if "engage" in arguments.only:
            found |= engage(model, arguments.engagements)
        if "fuzz" in arguments.only:
            found["fuzz"] = fuzz(model, arguments.frames)
            found["fuzz"]["socket"] = rubbish(model, min(arguments.frames, 20_000))
        if "pictures" in arguments.only:
            found["pictures"] = {str(size): pictures(model, 60, size) for size in (224, 480)}
    except RuntimeError as error:
        raise UserError(str(error)) from error
    print(json.dumps(found, indent=2))
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
