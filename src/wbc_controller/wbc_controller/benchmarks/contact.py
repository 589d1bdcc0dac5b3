"""Contact in the simulator: pushing, pressing, wiping, carrying, letting go, two hands on one box.

    python -m wbc_controller.benchmarks.contact --out src/wbc_controller/results

draws one picture of all of them and writes the figures beside it. The v2 robot, its wrenches from the momentum observer
or (`sensor`) from the wrists. Scenes are the simulator's own table; loads, pushes and the box that both hands hold act
as forces on the hands.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.types import SIDES, Array, BaseReference, HandReference, Mode, WholeBodyReference
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import load_robot

from wbc_controller.compliance import Compliance, WristSensor
from wbc_controller.config import WbcConfig
from wbc_controller.controller import WholeBodyController
from wbc_controller.hands import exponential, logarithm
from wbc_controller.horizon import Preview

DT = 0.005
STIFFNESS = Compliance().stiffness[0]
_TABLE = np.array((0.52, 0.36, 0.85))  # the left hand over the table (m)
_TILT = np.array((0.0, -0.8, 0.0))  # its fingers down


def compliance_of(sensor: bool, **numbers: Any) -> Compliance:
    """The default compliance; a sensor in the wrist needs hardly a dead band."""
    if sensor:
        numbers = {"deadband": (0.1, 0.1, 0.1, 0.02, 0.02, 0.02), **numbers}
    return replace(Compliance(sensor=sensor), **numbers)


def quaternion_of(rotation: Array) -> Array:
    """(x, y, z, w) of a rotation matrix."""
    vector = logarithm(rotation)
    angle = float(np.linalg.norm(vector))
    axis = vector / angle if angle > 0.0 else vector
    return np.array((*(np.sin(angle / 2) * axis), np.cos(angle / 2)))


@dataclass(slots=True)
class Trace:
    """What happened, tick by tick: the hands' places (k, 2, 3), the upward force on the left one (k,).

    `forces`: of the table, by the simulator's contacts, at an instant: under sliding fingers it rattles. `felt`: by the
    simulator's sensor in the wrist, with the hand's inertia between.
    """

    places: list[Array] = field(default_factory=list)
    forces: list[float] = field(default_factory=list)
    felt: list[float] = field(default_factory=list)

    def place(self, hand: int = 0) -> Array:
        """(k, 3) of one hand."""
        return np.array(self.places)[:, hand]

    def force(self) -> Array:
        """(k,) N."""
        return np.array(self.forces)


class Contact:
    """The v2 robot in the simulator, its left hand (and, if asked, its right) held at a pose by a compliant controller.

    `targets` (2, 3), `turns` (2, 4): where the hands are asked to be. `push`: called at each tick with this object, for
    the forces (2, 3) that act on the hands from outside (N, odom axes).
    """

    def __init__(
        self,
        sensor: bool = False,
        over_table: bool = False,
        both: bool = False,
        compliance: Compliance | None = None,
        preview: Preview | None = None,
        turn: Array = _TILT,
        step: float = 0.0025,
    ) -> None:
        """`step`: of the simulator's physics (s)."""
        import mujoco  # the simulator depends on this package, not the other way round: imported only where it is used
        from bytemini_sim.model import PhysicsConfig
        from bytemini_sim.tasks import make_task
        from bytemini_sim.world import World

        self._mujoco = mujoco
        self.robot = load_robot("v2")
        physics = PhysicsConfig(step, round(DT / step))
        self.world = World(self.robot, make_task("pick_place").sample(0, None), cameras=(), physics=physics)
        self._instant = mujoco.MjData(self.world.model)
        self._sensor = WristSensor(self.robot)
        compliance = compliance or compliance_of(sensor)
        self.controller = WholeBodyController(self.robot, WbcConfig(compliance=compliance, preview=preview))
        command = self.controller.update(0.0, self.world.state(), wrenches=self.world.wrenches())
        self.world.step(command.joint)
        self.controller.request_mode(Mode.TELEOP)
        self._sides = SIDES if both else SIDES[:1]
        kinematics = Kinematics(self.robot)
        poses = [kinematics.forward(f"{side}_tcp", command.joint.position) for side in SIDES]
        self.targets = np.array([pose[:3, 3] for pose in poses])
        self.turns = np.array([quaternion_of(pose[:3, :3]) for pose in poses])
        if over_table:
            self.targets[0], self.turns[0] = _TABLE, quaternion_of(exponential(turn))
        else:
            self.targets += (0.0, 0.0, 0.15)
        self.push: Callable[[Contact], Array] | None = None
        self.wrench, self.stiffness, self.twist = np.zeros(6), np.zeros(6), np.zeros(6)
        self.base = BaseReference(np.zeros(3), np.zeros(3))
        self._bodies = [self.world.model.body(f"{side}_hand_link").id for side in SIDES]

    def run(self, ticks: int, each: Callable[[int], None] | None = None) -> Trace:
        """Go on for `ticks`; `each` is called before every one of them and may move targets."""
        trace, world = Trace(), self.world
        for i in range(ticks):
            if each is not None:
                each(i)
            hands = tuple(
                HandReference(
                    f"{side}_tcp",
                    np.concatenate((self.targets[SIDES.index(side)], self.turns[SIDES.index(side)])),
                    self.twist if side == SIDES[0] else np.zeros(6),
                    self.wrench if side == SIDES[0] else np.zeros(6),
                    self.stiffness,
                )
                for side in self._sides
            )
            zero = np.zeros(1)
            reference = WholeBodyReference(
                world.time, Mode.TELEOP, ("left_gripper_joint",), zero, zero, zero, base=self.base, hands=hands
            )
            command = self.controller.update(world.time * 1e-9, world.state(), reference, wrenches=world.wrenches())
            if command.status.mode is not Mode.TELEOP:
                raise RuntimeError(f"the controller holds: {command.status.reason}")
            places = np.array([world.frame(f"{side}_tcp")[:3, 3] for side in SIDES])
            if self.push is not None:
                for body, place, force in zip(self._bodies, places, self.push(self), strict=True):
                    world.data.xfrc_applied[body, :3] = force
                    world.data.xfrc_applied[body, 3:] = np.cross(place - world.data.xipos[body], force)
            else:
                world.data.xfrc_applied[self._bodies] = 0.0
            world.step(command.joint)
            trace.places.append(places)
            trace.forces.append(self.table_force())
            trace.felt.append(self.felt())
        return trace

    def felt(self) -> float:
        """Upward force (N) on the left hand, by the simulator's sensor in its wrist."""
        world, side = self.world, SIDES[0]
        link, point = world.frame(f"{side}_hand_link"), world.frame(f"{side}_tcp")[:3, 3]
        return float(self._sensor.wrench(side, world.wrenches()[side], link, point, 0.0)[2])

    def table_force(self) -> float:
        """Upward force (N) of the table on the left hand and fingers."""
        model, data, total = self.world.model, self._instant, 0.0
        # the world's forces are of the last physics step, its contacts already of the next: solve for this instant
        self._mujoco.mj_copyData(data, model, self.world.data)
        self._mujoco.mj_forward(model, data)
        for j in range(data.ncon):
            contact = data.contact[j]
            names = [model.geom(g).name for g in (contact.geom1, contact.geom2)]
            if "table_top" in names and any(name.startswith("left_") for name in names):
                force = np.zeros(6)
                self._mujoco.mj_contactForce(model, data, j, force)
                total += abs(float(contact.frame.reshape(3, 3).T[2] @ force[:3]))
        return total

    def lower(self, metres: float, ticks: int) -> Trace:
        """Move the left hand's target down, evenly."""

        def down(_: int) -> None:
            self.targets[0, 2] -= metres / ticks

        return self.run(ticks, down)


def pushed(force: tuple[float, float, float], sensor: bool) -> dict[str, Any]:
    """A push on a hand in the air, held for 2.5 s and let go at once."""
    contact = Contact(sensor)
    before = contact.run(600).place()[-1]
    contact.push = lambda _: np.array((force, (0.0, 0.0, 0.0)))
    during = contact.run(500).place()
    contact.push = None
    after = contact.run(500).place()
    axis = int(np.argmax(np.abs(force)))
    return {
        "yield_mm": float(during[-1, axis] - before[axis]) * 1e3,
        "expected_mm": force[axis] / STIFFNESS * 1e3,
        "left_over_mm": float(np.linalg.norm(after[-1] - before)) * 1e3,
        "overshoot_mm": float(np.max((after - before)[:, axis] * -np.sign(force[axis]))) * 1e3,
        "position_limits_crossed": contact.world.limits.position,
        "trace": (np.concatenate((during, after)) - before)[:, axis] * 1e3,
    }


def pressed(force: float, sensor: bool) -> dict[str, Any]:
    """The table pressed with a force that is asked for."""
    contact = Contact(sensor, over_table=True)
    contact.run(300)
    contact.lower(0.16, 700)
    contact.wrench = np.array((0.0, 0.0, -force, 0.0, 0.0, 0.0))
    trace = contact.run(700)
    felt = np.array(trace.felt)
    return {
        "force_n": float(np.mean(trace.force()[-200:])),
        "felt_n": float(np.mean(felt[-200:])),
        "ripple_n": float(np.ptp(felt[-200:])),
        "trace": felt,
    }


def sunk(depth: float, stiffness: float, sensor: bool) -> dict[str, Any]:
    """The hand asked to a place below the table: the stiffness that it renders against the surface."""
    contact = Contact(sensor, over_table=True)
    contact.stiffness = np.array((stiffness,) * 3 + (20.0,) * 3)
    contact.run(300)
    places, forces = [], []
    for metres, ticks in ((0.16, 700), (0.0, 400), (depth, 300), (0.0, 500)):
        trace = contact.lower(metres, ticks)
        places.append(trace.place()[-1, 2])
        forces.append(float(np.mean(trace.force()[-100:])))
    rise = depth - (places[1] - places[3])
    return {"stiffness": (forces[3] - forces[1]) / rise, "asked": stiffness, "force_n": forces[3]}


def wiped(force: float, sensor: bool, preview: Preview | None = None) -> dict[str, Any]:
    """The table wiped with a force: hand and base move backwards together, the fingers trailing.

    `least_n`, `most_n`: of the force on the wrist over 50 ms. In steps of 2.5 ms the pads' contacts (time constant: 5)
    ring at 60 to 90 Hz under sliding fingers, which hides what the hand does: hence finer ones. Where the sensor says
    at once what presses, less damping than an observer or a preview needs lets the hand follow more quickly.
    """
    numbers: dict[str, Any] = {"stiffness": (1000.0, 1000.0, STIFFNESS, 60.0, 60.0, 60.0)}
    if sensor:
        numbers["damping"] = (160.0, 160.0, 60.0, 12.0, 12.0, 12.0)
    compliance = compliance_of(sensor, **numbers)
    contact = Contact(sensor, over_table=True, compliance=compliance, preview=preview, step=0.0005)
    contact.run(300)
    contact.lower(0.16, 700)
    contact.wrench = np.array((0.0, 0.0, -force, 0.0, 0.0, 0.0))
    contact.run(500)
    start = contact.targets[0].copy()
    begin = 0.0

    def stroke(i: int) -> None:
        t = i * DT - begin
        s = min(t / 0.5, 1.0)
        speed = -0.05 * s * s * (3.0 - 2.0 * s)
        contact.targets[0, 0] += speed * DT
        contact.twist = np.array((speed, 0.0, 0.0, 0.0, 0.0, 0.0))
        pose = np.array((0.5 * (contact.targets[0, 0] - start[0]), 0.0, 0.0))
        contact.base = BaseReference(pose, np.array((0.5 * speed, 0.0, 0.0)))

    trace = contact.run(700, stroke)
    forces = np.array(trace.felt)[150:]
    smooth = np.convolve(forces, np.full(10, 0.1), "valid")
    return {
        "least_n": float(np.min(smooth)),
        "most_n": float(np.max(smooth)),
        "least_in_a_tick_n": float(np.min(forces)),
        "most_in_a_tick_n": float(np.max(forces)),
        "mean_n": float(np.mean(forces)),
        "wiped_m": float(np.abs(trace.place()[-1, 0] - trace.place()[0, 0])),
        "base_m": float(abs(contact.world.state().base_pose[0])),
        "trace": np.array(trace.felt),
    }


def carried(load: float, told: bool, sensor: bool) -> dict[str, Any]:
    """A load hung on the hand while it moves on a circle; `told`: the controller knows of it."""
    contact = Contact(sensor, compliance=compliance_of(sensor, stiffness=(1500.0,) * 3 + (60.0,) * 3))
    contact.run(600)
    middle = contact.targets[0].copy()
    if told:
        contact.controller.carry(load, 0.0)
    contact.push = lambda _: np.array(((0.0, 0.0, -9.81 * load), (0.0, 0.0, 0.0)))
    errors = []

    def circle(i: int) -> None:
        s = min(i * DT, 1.0)
        w = 1.5
        angle = w * i * DT
        size = 0.05 * s * s * (3.0 - 2.0 * s)
        contact.targets[0] = middle + size * np.array((0.0, np.sin(angle), np.cos(angle) - 1.0))
        errors.append(contact.targets[0].copy())

    trace = contact.run(1200, circle)
    off = np.linalg.norm(trace.place()[1:] - np.array(errors)[:-1], axis=1)[600:]
    return {"error_mm": float(np.max(off)) * 1e3, "trace": off * 1e3}


def released(force: float, sensor: bool) -> dict[str, Any]:
    """The surface under a pressing hand gone at once."""
    contact = Contact(sensor, over_table=True)
    contact.run(300)
    contact.lower(0.16 + force / STIFFNESS, 800)
    pressing = contact.run(300)
    model = contact.world.model
    model.geom("table_top").contype, model.geom("table_top").conaffinity = 0, 0
    after = contact.run(400).place()
    fall = pressing.place()[-1, 2] - after[:, 2]
    return {
        "force_n": float(np.mean(pressing.force()[-100:])),
        "fall_mm": float(np.max(fall)) * 1e3,
        "fastest_m_s": float(np.max(np.abs(np.diff(after[:, 2])))) / DT,
        "position_limits_crossed": contact.world.limits.position,
        "trace": fall * 1e3,
    }


def boxed(squeeze: float, sensor: bool, stiff: float = 5000.0) -> dict[str, Any]:
    """Both hands on one box that is `squeeze` wider than their targets think, lifted and carried: the force inside."""
    contact = Contact(sensor, both=True)
    contact.run(600)
    inside: list[float] = []
    places = np.array([contact.world.frame(f"{side}_tcp")[:3, 3] for side in SIDES])
    rest, before = places[0] - places[1], places[0] - places[1]

    def box(c: Contact) -> Array:
        nonlocal before
        now = np.array([c.world.frame(f"{side}_tcp")[:3, 3] for side in SIDES])
        across = now[0] - now[1]
        force = -stiff * (across - rest) - 30.0 * (across - before) / DT
        before = across
        inside.append(float(np.linalg.norm(force)))
        return np.array((force, -force))

    contact.push = box
    outward = rest / np.linalg.norm(rest)

    def move(i: int) -> None:
        if i < 200:  # the targets come nearer to one another than the box lets the hands
            contact.targets -= np.outer((0.5, -0.5), outward) * squeeze / 200
        elif i < 800:
            contact.targets += np.array((0.05, 0.0, 0.1)) / 600

    contact.run(1000, move)
    return {
        "most_n": float(np.max(inside)),
        "steady_n": float(np.mean(inside[-100:])),
        "expected_n": 0.5 * STIFFNESS * squeeze,
        "trace": np.array(inside),
    }


def main(argv: list[str]) -> int:
    """Run all contact proofs of the whole-body controller and draw them."""
    parser = argparse.ArgumentParser(prog="contact", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the picture and the figures")
    parser.add_argument(
        "--observer", action="store_true", help="wrenches from the joints' efforts, not from the wrists"
    )
    arguments = parser.parse_args(argv)
    from tqdm import tqdm

    sensor = not arguments.observer
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        "push of 40 N, let go: mm": lambda: pushed((0.0, 0.0, 40.0), sensor),
        "push of 20 N, let go: mm": lambda: pushed((-20.0, 0.0, 0.0), sensor),
        "press with 5 N: N": lambda: pressed(5.0, sensor),
        "press with 15 N: N": lambda: pressed(15.0, sensor),
        "press with 30 N: N": lambda: pressed(30.0, sensor),
        "stiffness 200 against the table": lambda: sunk(0.05, 200.0, sensor),
        "stiffness 400 against the table": lambda: sunk(0.05, 400.0, sensor),
        "wipe with 5 N, base moving: N": lambda: wiped(5.0, sensor),
        "carry 3 kg, told: error mm": lambda: carried(3.0, True, sensor),
        "carry 3 kg, not told: error mm": lambda: carried(3.0, False, sensor),
        "surface gone under a pressing hand: fall mm": lambda: released(20.0, sensor),
        "box in both hands, 20 mm tight: N": lambda: boxed(0.02, sensor),
    }
    results = {name: job() for name, job in tqdm(jobs.items())}
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawn = {name: result.pop("trace") for name, result in results.items() if "trace" in result}
    figure, axes = plt.subplots(2, 5, figsize=(16, 5.5), constrained_layout=True)
    for axis, (name, trace) in zip(axes.flat, drawn.items(), strict=False):
        axis.plot(np.arange(len(trace)) * DT, trace, linewidth=0.9)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
    arguments.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out / "contact.png", dpi=70)
    (arguments.out / "contact.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
