"""The very node, with sensors and a controller of software."""

import contextlib
import dataclasses
import threading
import time

import numpy as np
import pytest

pytest.importorskip("bytemini_msgs.msg", reason="the workspace is not built: ./bytemini setup")
import rclpy
from bytemini_core.domain import private_domain
from bytemini_core.executor import StreamExecutor
from bytemini_core.ros import (
    LATCHED_QOS,
    SENSOR_QOS,
    action_chunk,
    image_message,
    joint_state_message,
    odometry_message,
    stamp_of,
    to_time,
)
from bytemini_core.types import ActionChunk, RobotState, TaskStatus
from gr3_policy_node.node import PolicyNode
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from rclpy.action import ActionClient
from sensor_msgs.msg import Image, JointState

from bytemini_msgs.action import RunTask
from bytemini_msgs.msg import ActionChunk as ActionChunkMsg
from bytemini_msgs.msg import ChunkReport, WbcStatus
from bytemini_msgs.srv import SetMode
from gr3_policy_node import node as node_module


class Rig:
    """Node, sensors at 50 Hz and 10 Hz, and a controller that grants every mode; spun by a thread."""

    def __init__(self, policy, monkeypatch, robot, **parameters):
        self._apart = contextlib.ExitStack()
        self._apart.enter_context(private_domain())
        arguments = ["--ros-args"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={value}"]
        rclpy.init(args=arguments)
        self.robot, self.policy = robot, policy
        monkeypatch.setattr(node_module, "load_policy", lambda *_: policy)
        self.modes, self.chunks, self.lag = [], [], {}
        self.keeps = True  # whether the controller leaves the robot to whom it gave it
        self.silent = False  # whether it grants a mode long before it says so
        self.cameras = set(policy.metadata.cameras)
        self.clients = {}
        self.world = rclpy.create_node("world", use_global_arguments=False)
        make = self.world.create_publisher
        self.joints = make(JointState, "joint_states", SENSOR_QOS)
        self.odometry = make(Odometry, "odom", SENSOR_QOS)
        self.images = {c: make(Image, f"camera/{c}/color/image_raw", SENSOR_QOS) for c in self.cameras}
        self.mode = make(WbcStatus, "wbc/mode", LATCHED_QOS)
        self.reports = make(ChunkReport, "trajectory/chunk_report", 10)
        self.world.create_service(SetMode, "wbc/set_mode", self._on_mode)
        self.world.create_subscription(ActionChunkMsg, "policy/action_chunk", self._on_chunk, 10)
        self.ticks = 0
        self.world.create_timer(0.02, self._tick)
        self.client = ActionClient(self.world, RunTask, "run_task")
        self.node = PolicyNode()
        self.executor = StreamExecutor()
        self.executor.add_node(self.node)
        self.world_executor = rclpy.executors.SingleThreadedExecutor()
        self.world_executor.add_node(self.world)
        self.spinning = True
        self.threads = [threading.Thread(target=self._spin, args=(e,)) for e in (self.executor, self.world_executor)]
        for thread in self.threads:
            thread.start()

    def _spin(self, executor):
        while self.spinning:
            executor.spin_once(timeout_sec=0.05)

    def _on_mode(self, request, response):
        self.modes.append(request.mode)
        if not self.silent:  # a latched word is the newest one: that of POLICY may never be heard
            self.say(request.mode) if self.keeps else self.say("HOLD", "no sign of life from policy")
        response.success = True
        return response

    def say(self, mode, reason="", stamp=None):
        """A controller's word, of now or of a stamp."""
        word = WbcStatus(mode=mode, reason=reason)
        word.header.stamp = to_time(self.world.get_clock().now().nanoseconds if stamp is None else stamp)
        self.mode.publish(word)

    def _on_chunk(self, message):
        chunk = action_chunk(message)
        self.chunks.append(chunk)
        report = ChunkReport(sequence=chunk.sequence, accepted=True, delay_actions=1.5)
        report.header.stamp = message.header.stamp
        self.reports.publish(report)

    def _tick(self):
        now = self.world.get_clock().now().nanoseconds
        zeros = np.zeros(19)
        state = RobotState(now, self.robot.joint_names, self.robot.home, zeros, zeros)
        self.joints.publish(joint_state_message(state))
        self.odometry.publish(odometry_message(state))
        self.ticks += 1
        if self.ticks % 5 == 0:
            picture = np.full((*self.policy.metadata.image_size, 3), 3, dtype=np.uint8)
            for i, camera in enumerate(sorted(self.cameras)):  # no two cameras share a stamp
                stamp = now - 3_000_000 * (i + 1) - self.lag.get(camera, 0)
                self.images[camera].publish(image_message(picture, stamp, camera))

    def until(self, condition, seconds=15.0, what="it did not come about"):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.02)
        raise AssertionError(what)

    def ready(self):
        assert self.client.wait_for_server(15.0)
        self.until(lambda: self.node._missing() == "", what="observations")

    def send(self, instruction="put it there", time_limit=20.0):
        future = self.client.send_goal_async(RunTask.Goal(instruction=instruction, time_limit=time_limit))
        self.until(future.done, what="an answer to the goal")
        return future.result()

    def run(self, instruction="put it there", time_limit=20.0):
        handle = self.send(instruction, time_limit)
        assert handle.accepted
        future = handle.get_result_async()
        self.until(future.done, what="the end of the task")
        return future.result().result

    def cancel(self, handle):
        result = handle.get_result_async()
        handle.cancel_goal_async()
        self.until(result.done, what="the end")
        self.until(lambda: "HOLD" in self.modes, what="the robot is given back")

    def call(self, kind, name, request):
        if name not in self.clients:  # one each: a new one has to be discovered anew
            self.clients[name] = self.world.create_client(kind, f"gr3_policy/{name}")
        client = self.clients[name]
        assert client.wait_for_service(30.0)
        future = client.call_async(request)
        self.until(future.done, what=name)
        return future.result()

    def change(self, transition):
        return self.call(ChangeState, "change_state", ChangeState.Request(transition=Transition(id=transition))).success

    def state(self):
        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def close(self):
        self.spinning = False
        for thread in self.threads:
            thread.join()
        self.node.destroy_node()
        self.world.destroy_node()
        rclpy.try_shutdown()
        self._apart.close()


@pytest.fixture
def start(monkeypatch, robot):
    rigs = []

    def make(policy, **parameters):
        rigs.append(Rig(policy, monkeypatch, robot, **parameters))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def speaker(policies):
    """A policy whose task status, from the n-th chunk on, is `says`."""

    class Speaker(policies[0]):
        says, after, prefixes = TaskStatus.ONGOING, 3, ()

        def infer(self, observation, prefix=None, noise=None):
            chunk = super().infer(observation, prefix, noise)
            self.prefixes = (*self.prefixes, prefix)
            self.after -= 1
            if self.after >= 0:
                return chunk
            status = np.full(chunk.horizon, int(self.says), dtype=np.int8)
            return ActionChunk(chunk.stamp, 0, chunk.names, 0.1, chunk.values, status, chunk.confidence)

    return Speaker


def test_from_the_goal_to_its_end_with_cameras_that_share_no_stamp(start, speaker):
    policy = speaker(prefix=True)
    rig = start(policy)
    rig.ready()
    policy.says, policy.after = TaskStatus.TERMINATED, 6
    result = rig.run()
    assert result.status == RunTask.Result.TERMINATED
    assert result.chunks == 9, "six while under way, three that agree"
    rig.until(lambda: rig.modes == ["POLICY", "HOLD"], what="the robot is given back")
    prefixes = [prefix for prefix in policy.prefixes if prefix is not None]
    assert prefixes
    assert all(prefix.shape == (2, 19) for prefix in prefixes), "ceil of the 1.5 actions that the reports say"
    driven = [chunk for chunk in rig.chunks if chunk.instruction]
    assert [chunk.sequence for chunk in driven] == list(range(9))


def test_invalid_refuses_and_holds(start, speaker):
    policy = speaker()
    rig = start(policy)
    rig.ready()
    policy.says, policy.after = TaskStatus.INVALID, 0
    result = rig.run("put the unicorn into the basket")
    assert result.status == RunTask.Result.INVALID
    rig.until(lambda: rig.modes == ["POLICY", "HOLD"], what="the controller holds")


def test_a_missing_camera_refuses_the_task_before_the_robot_is_taken(start, echo):
    rig = start(echo)
    rig.ready()
    rig.cameras.discard("left_wrist")
    time.sleep(1.2)
    result = rig.run()
    assert result.status == RunTask.Result.FAULTED
    assert "no left_wrist for 1 s" in result.message
    assert "POLICY" not in rig.modes


def test_a_task_that_waits_for_its_inputs_is_not_judged_by_the_end_of_the_one_before(start, echo):
    rig = start(echo)
    rig.ready()
    rig.cancel(rig.send())
    rig.cameras.discard("left_wrist")
    time.sleep(1.2)
    assert "no left_wrist for 1 s" in rig.run().message


def test_a_camera_that_stops_ends_the_task(start, echo):
    rig = start(echo)
    rig.ready()
    handle = rig.send()
    rig.until(lambda: rig.chunks, what="chunks")
    rig.cameras.discard("head")
    future = handle.get_result_async()
    rig.until(future.done, what="the end")
    assert future.result().result.status == RunTask.Result.FAULTED
    assert "no head for 1 s" in future.result().result.message


def test_a_robot_that_is_taken_away_at_once_ends_the_task(start, echo):
    rig = start(echo)
    rig.ready()
    rig.keeps = False
    result = rig.run()
    assert result.status == RunTask.Result.FAULTED
    assert "HOLD: no sign of life from policy" in result.message
    rig.keeps = True
    handle = rig.send()
    rig.until(lambda: len([c for c in rig.chunks if c.instruction]) > 15, what="a task that goes on")
    rig.cancel(handle)


def test_what_the_controller_said_before_it_was_asked_ends_no_task(start, echo):
    """Its first word, that it sees no robot yet, may come late, and the word that it drives later still."""
    rig = start(echo)
    rig.ready()
    rig.silent = True
    handle = rig.send()
    rig.until(lambda: rig.modes == ["POLICY"], what="the request")
    rig.say("HOLD", "no robot state yet", stamp=0)
    time.sleep(1.5)
    rig.silent = False
    rig.say("POLICY")
    rig.until(lambda: len([c for c in rig.chunks if c.instruction]) > 15, what="a task that goes on")
    rig.cancel(handle)


def test_a_frozen_view_is_refused_with_the_reason(start, echo):
    rig = start(echo)
    rig.ready()
    rig.lag["left_wrist"] = 400_000_000  # it goes on publishing, but what it publishes is old
    time.sleep(2.0)
    result = rig.run()
    assert result.status == RunTask.Result.FAULTED
    assert "left_wrist is 0.4" in result.message
    assert "behind the newest picture" in result.message


def test_a_policy_that_looks_at_nothing_is_asked_once_per_period(start, policies):
    class Blind(policies[0]):
        def __init__(self):
            super().__init__()
            self.metadata = dataclasses.replace(self.metadata, cameras=())

        def chunk(self, observation):
            return super().chunk(dataclasses.replace(observation, images={"head": np.zeros(1)}))

    rig = start(Blind())
    rig.ready()
    handle = rig.send()
    rig.until(lambda: len(rig.chunks) >= 4, what="chunks")
    rig.cancel(handle)
    assert min(np.diff([chunk.stamp for chunk in rig.chunks])) >= 100_000_000


def test_the_life_cycle(start, policies):
    policy = policies[0]()
    rig = start(policy, autostart="false")
    assert rig.state() == "unconfigured"
    assert rig.client.wait_for_server(15.0)
    assert not rig.send().accepted, "nobody is active"
    assert rig.change(Transition.TRANSITION_CONFIGURE)
    assert rig.state() == "inactive"
    assert not policy.threads, "not warm yet"
    assert rig.change(Transition.TRANSITION_ACTIVATE)
    assert policy.threads, "warmed up before it is active"
    rig.ready()
    handle = rig.send()
    rig.until(lambda: rig.chunks, what="chunks")
    assert rig.change(Transition.TRANSITION_DEACTIVATE)
    future = handle.get_result_async()
    rig.until(future.done, what="the end")
    assert future.result().result.status == RunTask.Result.PREEMPTED
    rig.until(lambda: rig.modes == ["POLICY", "HOLD"], what="the robot is given back")
    assert rig.change(Transition.TRANSITION_ACTIVATE)
    rig.ready()
    assert rig.change(Transition.TRANSITION_DEACTIVATE)
    assert rig.change(Transition.TRANSITION_CLEANUP)
    assert rig.state() == "unconfigured"


def test_a_policy_that_cannot_warm_up_is_not_activated(start, policies):
    class Broken(policies[0]):
        def infer(self, observation, prefix=None, noise=None):
            raise ValueError("the graph wants other pictures")

    rig = start(Broken(), autostart="false")
    assert rig.change(Transition.TRANSITION_CONFIGURE)
    assert not rig.change(Transition.TRANSITION_ACTIVATE)
    assert rig.state() == "inactive"


def test_at_the_start_the_reason_is_the_nodes_last_word(monkeypatch):
    def refuse(*_):
        raise ValueError("no checkpoint folder /none")

    monkeypatch.setattr(node_module, "load_policy", refuse)
    with private_domain():
        rclpy.init()
        try:
            with pytest.raises(ValueError, match="policy expert: no checkpoint folder /none"):
                PolicyNode()
        finally:
            rclpy.try_shutdown()


def test_stamps_are_those_of_the_newest_picture(start, echo):
    rig = start(echo)
    seen = []
    rig.world.create_subscription(Image, "camera/head/color/image_raw", lambda m: seen.append(stamp_of(m)), SENSOR_QOS)
    rig.ready()
    handle = rig.send()
    rig.until(lambda: len(rig.chunks) >= 3, what="chunks")
    rig.cancel(handle)
    assert {chunk.stamp for chunk in rig.chunks[:3]} <= set(seen)
