from __future__ import annotations

import numpy as np
import pytest
from bytemini_core.types import Mode
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import load_robot
from hypothesis import given, settings
from hypothesis import strategies as st
from wbc_controller.admittance import Admittance
from wbc_controller.benchmarks import contact
from wbc_controller.compliance import Compliance
from wbc_controller.config import WbcConfig
from wbc_controller.hands import exponential
from wbc_controller.model import robot_problem
from wbc_controller.solver import CompiledTick, FallbackTick

# bytemini_sim depends on this package, so that package.xml cannot name it
pytest.importorskip("mujoco")
pytest.importorskip("bytemini_sim.world")

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


@pytest.mark.parametrize(("push", "sensor"), [((-20.0, 0, 0), True), ((0, 20.0, 0), False), ((0, 0, 40.0), True)])
def test_pushed_hand_yields_by_its_stiffness_and_returns(push: tuple, sensor: bool) -> None:
    result = contact.pushed(push, sensor)
    assert result["yield_mm"] == pytest.approx(result["expected_mm"], rel=0.15)
    assert result["left_over_mm"] < 2.0
    assert result["overshoot_mm"] < 10.0
    assert result["position_limits_crossed"] == 0


@pytest.mark.parametrize(("force", "sensor"), [(5.0, True), (5.0, False), (30.0, True)])
def test_hand_presses_the_table_with_the_force_it_is_asked_for(force: float, sensor: bool) -> None:
    result = contact.pressed(force, sensor)
    assert result["force_n"] == pytest.approx(force, rel=0.15)
    assert result["ripple_n"] < 0.1 * force


def test_hand_renders_its_stiffness_against_the_table() -> None:
    assert contact.sunk(0.05, 200.0, sensor=True)["stiffness"] == pytest.approx(200.0, rel=0.15)


def test_table_is_wiped_with_an_even_force_while_the_base_moves() -> None:
    result = contact.wiped(5.0, sensor=True)
    assert 3.5 < result["least_in_a_tick_n"] < result["most_in_a_tick_n"] < 6.5
    assert result["wiped_m"] > 0.1
    assert result["base_m"] > 0.05


def test_load_is_carried_without_loss_of_tracking_when_told() -> None:
    told, untold = (contact.carried(3.0, told, sensor=True)["error_mm"] for told in (True, False))
    assert told < 5.0
    assert told < 0.3 * untold


def test_surface_that_vanishes_lets_the_hand_fall_no_further_than_its_spring() -> None:
    result = contact.released(20.0, sensor=True)
    assert result["fall_mm"] < 1.2e3 * result["force_n"] / contact.STIFFNESS
    assert result["fastest_m_s"] < 1.2
    assert result["position_limits_crossed"] == 0


def test_force_inside_a_box_in_both_hands_is_what_their_springs_say() -> None:
    result = contact.boxed(0.02, sensor=True)
    assert result["steady_n"] == pytest.approx(result["expected_n"], rel=0.25)
    assert result["most_n"] < 2.0 * result["expected_n"]


def test_compliance_that_lacks_its_sensor_holds(make_bench) -> None:
    bench = make_bench(load_robot("v1"), WbcConfig(compliance=Compliance(sensor=True)))
    bench.controller.request_mode(Mode.TELEOP)
    status = bench.step(bench.reference(source=Mode.TELEOP)).status
    assert status.mode is Mode.HOLD
    assert "wrenches of both wrists" in status.reason


def test_compiled_admittance_is_the_one_in_numpy() -> None:
    problem, rng = robot_problem(load_robot("v1"), DT), np.random.default_rng(5)
    solvers = (CompiledTick(problem), FallbackTick(problem))
    hands = [[solver.parameters[problem.layout.fields[f"{s}_hand"]] for s in ("left", "right")] for solver in solvers]
    yielding = [[Admittance(Compliance(), DT, memory) for memory in solver.yielding] for solver in solvers]
    for k in range(300):
        target = np.concatenate((exponential(rng.normal(size=3)).ravel(), rng.normal(size=3), rng.normal(size=6)))
        asked = [rng.normal(size=6) * 30.0, rng.normal(size=6) * (k % 2), 0.01 * rng.normal(size=6), np.zeros(6)]
        for solver, both, admittances in zip(solvers, hands, yielding, strict=True):
            for hand, admittance in zip(both, admittances, strict=True):
                hand[:18] = target
                admittance.ask(*asked)
            solver.admit()
        np.testing.assert_allclose(hands[0], hands[1], atol=1e-9)
        np.testing.assert_allclose(solvers[0].yielding, solvers[1].yielding, atol=1e-9)
    before = hands[0][0].copy()
    solvers[0].admit()  # once a tick, not once a call
    np.testing.assert_array_equal(hands[0][0], before)


def test_friction_and_load_are_fed_forward(make_bench) -> None:
    bench = make_bench(load_robot("v2"))
    bench.controller.carry(3.0, 0.0)
    told = bench.step().joint.effort
    bench.controller.carry(0.0, 0.0)
    without = bench.step().joint.effort
    lift = bench.robot.indices(("lift_joint",))[0]
    assert (told - without)[lift] == pytest.approx(3.0 * 9.81, rel=1e-3)
    bench.controller.request_mode(Mode.POLICY)
    for _ in range(60):
        command = bench.step(bench.reference(("head_yaw_joint",), (0.3,), np.array((0.5,))))
    head = bench.robot.indices(("head_yaw_joint",))[0]
    still = Kinematics(bench.robot).gravity(command.joint.position)[head]
    assert command.joint.effort[head] - still == pytest.approx(0.05 * command.joint.velocity[head], abs=1e-9)
    with pytest.raises(ValueError, match="loads are"):
        bench.controller.carry(-1.0, 0.0)


def test_grip_presses_with_the_force_that_is_set(make_bench) -> None:
    bench = make_bench(load_robot("v1"), WbcConfig(grip_force=10.0))
    robot = bench.robot
    gripper = robot.indices(("left_gripper_joint",))[0]
    bench.controller.request_mode(Mode.POLICY)
    for _ in range(300):
        reference = bench.reference(("left_gripper_joint",), (0.0,))
        command = bench.controller.update(bench.t, bench.state(), reference)
        bench.position[gripper] = max(command.joint.position[gripper], 0.02)  # something is between the fingers
        bench.tick += 1
    pressed = robot.stiffness[gripper] * (0.02 - command.joint.position[gripper])
    assert pressed == pytest.approx(10.0, abs=1e-6)
