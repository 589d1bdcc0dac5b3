from __future__ import annotations

import numpy as np
import pytest
from bytemini_core.types import BaseReference, HandReference, Mode
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import load_robot
from wbc_controller.config import WbcConfig
from wbc_controller.hands import logarithm
from wbc_controller.horizon import Preview

DT = 0.005


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_stop_at_any_moment_of_a_fast_motion_leads_to_rest_within_limits(make_bench, version: str) -> None:
    """All joints and the base swing near their speed limits; an emergency stop falls on every phase of it."""
    bench = make_bench(load_robot(version))
    robot, control = bench.robot, bench.controller
    names = (*robot.arm_joints("left"), *robot.arm_joints("right"), "lift_joint", "head_yaw_joint")
    index = robot.indices(names)
    room = 0.9 * np.minimum(robot.upper[index] - robot.home[index], robot.home[index] - robot.lower[index])
    swing = np.minimum(room, 0.8)
    w = 0.8 * np.minimum(robot.velocity[index] / np.maximum(swing, 1e-3), np.sqrt(robot.acceleration[index] / 1.0))
    w = np.minimum(w, 6.0)
    fastest, stops = 0.0, 40
    for stop in range(stops):
        control.request_mode(Mode.HOLD, reset=True)
        control.request_mode(Mode.POLICY)
        begin = bench.t
        for _ in range(110 + 3 * stop):
            t = bench.t - begin
            q, v = robot.home[index] + swing * np.sin(w * t), swing * w * np.cos(w * t)
            twist = np.array((0.4 * np.cos(2 * t), 0.3 * np.sin(3 * t), 0.8 * np.cos(t)))
            reference = bench.reference(
                names, robot.clamp_wrist(_full(robot, index, q))[index], v, base=BaseReference(None, twist)
            )
            command = bench.step(reference)
            assert command.status.mode is Mode.POLICY, command.status.reason
        speed = np.abs(bench.velocity)
        fastest = max(fastest, float(np.max(speed[3:][index] / robot.velocity[index])))
        control.request_mode(Mode.ESTOP)
        hardest = np.concatenate((robot.base_acceleration, robot.acceleration))
        for _ in range(int(np.ceil(np.max(speed / hardest) / DT)) + 1):
            command = bench.step()
        assert not command.joint.velocity.any()
        assert not command.joint.base_twist.any()
        assert control._solver.nearest(np.concatenate((np.zeros(3), bench.position))) > 0.0
    assert fastest > 0.5
    assert not bench.violations


def _full(robot, index: np.ndarray, q: np.ndarray) -> np.ndarray:
    position = robot.home.copy()
    position[index] = np.clip(q, robot.lower[index], robot.upper[index])
    return position


@pytest.mark.parametrize(("preview", "most"), [(None, 1.0), (Preview(), 0.75)], ids=["tick", "preview"])
def test_arm_goes_through_its_outstretched_posture(make_bench, preview: Preview | None, most: float) -> None:
    """The hand is led 0.3 m beyond its reach and back at 0.2 m/s, base and lift standing.

    The tick alone sees the way back only when it is there: the elbow starts late and closes the lag of 10 mm at up to
    its speed limit. The preview bends it in time.
    """
    bench = make_bench(load_robot("v1"), WbcConfig(preview=preview))
    robot = bench.robot
    bench.controller.request_mode(Mode.TELEOP)
    pose = Kinematics(robot).forward("left_tcp", bench.position)
    vector = logarithm(pose[:3, :3])
    angle = np.linalg.norm(vector)
    quaternion = np.r_[np.sin(angle / 2) * vector / angle, np.cos(angle / 2)]
    base, lift = BaseReference(np.zeros(3), np.zeros(3)), robot.home[robot.indices(("lift_joint",))]
    reach, speed = 0.6, 0.2
    fastest, late = 0.0, 0.0
    arm = robot.indices(robot.arm_joints("left"))
    for k in range(round(2 * reach / speed / DT) + 300):
        t = k * DT
        outward = speed * t < reach
        out = min(speed * t, max(2 * reach - speed * t, 0.0))
        twist = np.zeros(6)
        if out > 0.0:
            twist[0] = speed if outward else -speed
        target = HandReference("left_tcp", np.r_[pose[:3, 3] + (out, 0.0, 0.0), quaternion], twist)
        command = bench.step(bench.reference(("lift_joint",), lift, source=Mode.TELEOP, base=base, hands=(target,)))
        assert command.status.mode is Mode.TELEOP, command.status.reason
        fastest = max(fastest, float(np.max(np.abs(command.joint.velocity[arm]) / robot.velocity[arm])))
        now = Kinematics(robot).forward("left_tcp", bench.position, bench.base)[:3, 3]
        off = float(np.linalg.norm(now - target.pose[:3]))
        if not outward and out < 0.2:
            late = max(late, off)
    assert fastest < most
    assert late < 0.02
    assert off < 2e-3
    assert not bench.violations
