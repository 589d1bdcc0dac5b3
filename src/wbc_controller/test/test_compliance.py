from __future__ import annotations

import numpy as np
import pytest
from bytemini_core.types import BaseReference, HandReference, Mode, WholeBodyReference
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import load_robot
from hypothesis import given, settings
from hypothesis import strategies as st
from wbc_controller.compliance import Admittance, Compliance
from wbc_controller.config import WbcConfig
from wbc_controller.controller import WholeBodyController
from wbc_controller.hands import exponential, logarithm

# bytemini_sim depends on this package, so that package.xml cannot name it
mujoco = pytest.importorskip("mujoco")
tasks = pytest.importorskip("bytemini_sim.tasks")
world = pytest.importorskip("bytemini_sim.world")

DT = 0.005
positive = st.lists(st.floats(0.01, 1e3), min_size=6, max_size=6).map(tuple)


@given(positive, positive, positive, st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_admittance_is_passive(stiffness: tuple, damping: tuple, inertia: tuple, seed: int) -> None:
    """Stored energy never grows by more than the work that was put in."""
    compliance = Compliance(stiffness, damping, inertia, (1e9,) * 6, (0.0,) * 6)
    hand, rng = Admittance(compliance, DT), np.random.default_rng(seed)
    k, m = np.array(stiffness), np.array(inertia)
    work, wrench = 0.0, np.zeros(6)
    for i in range(200):
        if i % 20 == 0:
            wrench = 50.0 * rng.normal(size=6)
        hand.step(wrench, np.zeros(6), np.zeros(6), np.zeros(6))
        work += float(wrench @ hand.rate) * DT
        energy = 0.5 * float(m @ hand.rate**2 + k @ hand.offset**2)
        assert energy <= work + 1e-9 * (1.0 + abs(work))


def test_admittance_rests_at_force_over_stiffness_and_saturates() -> None:
    hand = Admittance(Compliance(deadband=(0.0,) * 6), DT)
    for _ in range(4000):
        hand.step(np.array((20.0, 0, 0, 0, 0, 0)), np.zeros(6), np.zeros(6), np.zeros(6))
    assert hand.offset[0] == pytest.approx(20.0 / 400.0, rel=0.01)
    for _ in range(4000):
        hand.step(np.array((20.0, 0, 0, 0, 0, 0)), np.zeros(6), np.zeros(6), np.array((200.0, 0, 0, 0, 0, 0)))
    assert hand.offset[0] == pytest.approx(20.0 / 200.0, rel=0.01)
    for _ in range(400):  # 90 N against a limit of 60 N: it goes away at (90 - 60) / D
        hand.step(np.array((90.0, 0, 0, 0, 0, 0)), np.zeros(6), np.zeros(6), np.zeros(6))
    assert hand.rate[0] == pytest.approx(30.0 / 160.0, rel=0.05)


@pytest.mark.parametrize(
    ("name", "value"),
    [("inertia", (0.0,) * 6), ("damping", (1.0,) * 5), ("stiffness", (-1.0,) * 6), ("observer", float("nan"))],
)
def test_compliance_that_makes_no_sense_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        Compliance(**{name: value})


class Contact:
    """The v2 robot in the simulator, left hand held at a pose by a compliant controller."""

    def __init__(self, target: np.ndarray | None, turn: np.ndarray) -> None:
        self.robot = load_robot("v2")
        self.world = world.World(self.robot, tasks.make_task("pick_place").sample(0, None), cameras=())
        self.controller = WholeBodyController(self.robot, WbcConfig(compliance=Compliance()))
        command = self.controller.update(0.0, self.world.state())
        self.world.step(command.joint)
        self.controller.request_mode(Mode.TELEOP)
        pose = Kinematics(self.robot).forward("left_tcp", command.joint.position)
        rotation = pose[:3, :3] if target is None else exponential(turn)
        self.target = pose[:3, 3] + (0, 0, 0.15) if target is None else target
        vector = logarithm(rotation)
        angle = np.linalg.norm(vector)
        axis = vector / angle if angle > 0 else vector
        self.quaternion = np.array((*np.sin(angle / 2) * axis, np.cos(angle / 2)))
        self.body = self.world.model.body("left_hand_link").id

    def run(self, ticks: int, wrench: np.ndarray | None = None, push: np.ndarray | None = None, down: float = 0.0):
        wrench = np.zeros(6) if wrench is None else wrench
        room = self.world
        places, forces = np.zeros((ticks, 3)), np.zeros(ticks)
        for i in range(ticks):
            self.target = self.target - (0, 0, down / ticks)
            pose = np.concatenate((self.target, self.quaternion))
            reference = WholeBodyReference(
                room.time,
                Mode.TELEOP,
                ("left_gripper_joint",),
                *np.zeros((3, 1)),
                base=BaseReference(np.zeros(3), np.zeros(3)),
                hands=(HandReference("left_tcp", pose, wrench=wrench),),
            )
            command = self.controller.update(room.time * 1e-9, room.state(), reference)
            assert command.status.mode is Mode.TELEOP, command.status.reason
            places[i] = room.frame("left_tcp")[:3, 3]
            if push is not None:
                room.data.xfrc_applied[self.body, :3] = push
                lever = places[i] - room.data.xipos[self.body]
                room.data.xfrc_applied[self.body, 3:] = np.cross(lever, push)
            room.step(command.joint)
            forces[i] = self.table_force()
        room.data.xfrc_applied[self.body] = 0.0
        return places, forces

    def table_force(self) -> float:
        """Upward force of the table on the left fingers."""
        room, total = self.world, 0.0
        for j in range(room.data.ncon):
            contact = room.data.contact[j]
            names = [room.model.geom(g).name for g in (contact.geom1, contact.geom2)]
            if "table_top" in names and any(name.startswith("left_") for name in names):
                force = np.zeros(6)
                mujoco.mj_contactForce(room.model, room.data, j, force)
                total += abs(float(contact.frame.reshape(3, 3)[0, 2] * force[0]))
        return total


@pytest.mark.parametrize("push", [(-20.0, 0, 0), (0, 20.0, 0), (0, 0, 40.0)])
def test_pushed_hand_yields_by_its_stiffness_and_returns(push: tuple) -> None:
    contact = Contact(None, np.zeros(3))
    before = contact.run(600)[0][-1]
    pushed = contact.run(500, push=np.array(push))[0][-1] - before
    axis = int(np.argmax(np.abs(push)))
    assert pushed[axis] == pytest.approx(push[axis] / 400.0, rel=0.15)
    places, _ = contact.run(500)  # let go at once
    assert np.linalg.norm(places[-1] - before) < 2e-3
    assert np.max((places - before)[:, axis] * -np.sign(push[axis])) < 0.01
    assert contact.world.limits.position == 0


@pytest.mark.parametrize("force", [5.0, 30.0])
def test_hand_presses_the_table_with_the_force_it_is_asked_for(force: float) -> None:
    contact = Contact(np.array((0.52, 0.36, 0.85)), np.array((0, -0.8, 0)))
    contact.run(300)
    contact.run(700, down=0.16)
    _, forces = contact.run(700, wrench=np.array((0, 0, -force, 0, 0, 0)))
    assert np.mean(forces[-200:]) == pytest.approx(force, rel=0.15)
    assert np.ptp(forces[-200:]) < 0.1 * force
