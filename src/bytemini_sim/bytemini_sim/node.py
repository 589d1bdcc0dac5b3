"""ROS node of the simulator: the robot's driver, its cameras and its room, behind the topics of the real ones.

In lock step physics advances only when the command for the present stamp has come, as fast as the machine allows; in
real time it advances by the wall clock, with the newest command, and holds when that is too old. Observations (cameras
and ground truth) are taken at stamps that are whole multiples of the observation period.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import rclpy
from bytemini_core.diagnostics import Health, Level, Meter, Reporter
from bytemini_core.executor import StreamExecutor
from bytemini_core.join import StampJoin
from bytemini_core.node import parameter, run_node
from bytemini_core.ros import (
    LATCHED_QOS,
    command_qos,
    depth_message,
    image_message,
    image_qos,
    joint_command,
    joint_state_message,
    odometry_message,
    odometry_transform,
    power_message,
    scene_message,
    sensor_qos,
    stamp_of,
    to_time,
)
from bytemini_core.types import CAMERAS, NANOSECONDS, OBSERVATION_PERIOD, SIDES, JointCommand, PowerState
from bytemini_core.watchdog import HOLDING, PATIENCE, SILENCE
from bytemini_description.robot import VERSIONS, load_robot
from geometry_msgs.msg import TwistStamped, WrenchStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool
from tf2_msgs.msg import TFMessage

from bytemini_msgs.msg import JointCommand as JointCommandMsg
from bytemini_msgs.msg import PowerState as PowerStateMsg
from bytemini_msgs.msg import SceneState as SceneStateMsg
from bytemini_msgs.srv import ResetWorld, ScoreEpisode
from bytemini_sim._mujoco import mujoco
from bytemini_sim.episode import OUTSIDE_SIZE
from bytemini_sim.model import OUTSIDE_CAMERA
from bytemini_sim.power import EMPTY, HOT, LOW, TOO_HOT, VOLTAGE, PowerModel
from bytemini_sim.services import fill_score
from bytemini_sim.tasks import make_scorer, make_task
from bytemini_sim.world import WRIST_LAG, World

CATCH_UP = 0.02
"""Seconds by which real time may be made up for."""

COMMAND_WAIT = 10.0
"""Seconds of the machine's own clock after which, in lock step, the run is paused for want of a command."""


class SimNode(Node):
    """A world with topics and services."""

    def __init__(self) -> None:
        super().__init__("bytemini_sim")
        version = parameter(self, "robot", "v1", "version of the robot", choices=VERSIONS)
        task = parameter(self, "task", "pick_place", "task whose scene is set up at the start")
        setting = parameter(self, "setting", "basic", "setting of the task")
        seed = parameter(self, "seed", 0, "seed of the first scene", bounds=(0, 2**31 - 1))
        instruction = parameter(self, "instruction", "", "what to do in it; '' to draw it from the seed")
        self._lockstep = parameter(self, "lockstep", False, "wait for the command of every stamp; start paused")
        cameras = parameter(self, "cameras", True, "draw the three cameras")
        self._depth = parameter(self, "depth", False, "also publish aligned depth")
        self._outside = parameter(self, "outside", False, "also publish the view from outside, for videos")
        size = parameter(self, "image_size", 224, "height and width of the pictures, pixels", bounds=(16, 1280))
        charge = parameter(self, "charge", 100.0, "of the battery at the start, percent", bounds=(0.0, 100.0))
        period = parameter(
            self, "observation_period", OBSERVATION_PERIOD, "s between observations", bounds=(0.005, 10.0)
        )
        lag = parameter(self, "wrist_lag", False, f"delay wrist commands by the reported {WRIST_LAG} s")
        self._period = round(period * NANOSECONDS)
        scene = make_task(task, setting).sample(seed, instruction or None)
        self._world = World(
            load_robot(version),
            scene,
            cameras=CAMERAS if cameras else (),
            image_size=(size, size),
            wrist_lag=WRIST_LAG if lag else 0.0,
        )
        # All drawing happens in this one thread, beside the physics.
        self._painter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="painter")
        self._painting: Future[None] | None = None
        if cameras or self._outside:
            self._in_painter(self._world.photograph, "head", (16, 16), False)  # no OpenGL: say so now
        self._scorer = make_scorer(self._world)
        self._offset = 0
        self._episode = 0
        self._running = not self._lockstep
        self._command: JointCommand | None = None
        self._due = 0.0
        self._holding: bool | None = None
        self._join = StampJoin(("joints", "base"))
        self._power = PowerModel(self._world.robot.effort, charge)
        self._ticks, self._drawn, self._left_out = Meter(), Meter(), 0

        qos, pictures = sensor_qos(self._lockstep), image_qos(self._lockstep)
        self._clock_publisher = self.create_publisher(Clock, "/clock", 10)
        self._joints = self.create_publisher(JointState, "joint_states", qos)
        self._odometry = self.create_publisher(Odometry, "odom", qos)
        self._scene = self.create_publisher(SceneStateMsg, "sim/scene_state", qos)
        self._transforms = self.create_publisher(TFMessage, "/tf", 10)
        self._powers = self.create_publisher(PowerStateMsg, "power", qos)
        self._wrenches = {side: self.create_publisher(WrenchStamped, f"wrench/{side}", qos) for side in SIDES}
        self._images = {
            (camera, kind): self.create_publisher(Image, f"camera/{camera}/{topic}", pictures)
            for camera in (*self._world.cameras, *((OUTSIDE_CAMERA,) if self._outside else ()))
            for kind, topic in (("color", "color/image_raw"), ("depth", "aligned_depth_to_color/image_raw"))
            if kind == "color" or (self._depth and camera != OUTSIDE_CAMERA)
        }
        self._infos = {
            camera: self.create_publisher(CameraInfo, f"camera/{camera}/color/camera_info", pictures)
            for camera in self._world.cameras
        }
        self._holds = self.create_publisher(Bool, HOLDING, LATCHED_QOS)
        commands = command_qos(self._lockstep)
        self.create_subscription(JointCommandMsg, "joint_command", lambda m: self._on_command("joints", m), commands)
        self.create_subscription(TwistStamped, "cmd_vel", lambda m: self._on_command("base", m), commands)
        self.create_service(ResetWorld, "sim/reset", self._on_reset)
        self.create_service(ScoreEpisode, "sim/score", self._on_score)
        self.create_service(SetBool, "sim/run", self._on_run)
        self._layout = self.create_publisher(SceneStateMsg, "sim/scene", LATCHED_QOS)
        self._layout.publish(scene_message(self._world.scene_state()))
        self._reporter = Reporter(self, self._report)
        self.get_logger().info(f"{task}, {setting}, seed {seed}: {scene.instruction}")

    def destroy_node(self) -> None:
        """Let the picture under way be finished first."""
        self._painter.shutdown()
        super().destroy_node()

    @property
    def now(self) -> int:
        """Stamp of this instant: it never goes back, whatever is reset."""
        return self._offset + self._world.time

    # The loop

    def run(self, executor: StreamExecutor, over: Callable[[], bool]) -> None:
        """Simulate until the context ends, or it is over."""
        while rclpy.ok() and not over():
            if not self._running:
                executor.spin_once(timeout_sec=0.1)
                continue
            episode = self._episode
            self._publish()
            command = self._await(executor) if self._lockstep else self._newest(executor)
            if self._running and episode == self._episode:
                self._world.step(command)
                self._scorer.update()

    def _await(self, executor: StreamExecutor) -> JointCommand | None:
        """Lock step: the command for this very stamp."""
        episode, deadline = self._episode, time.monotonic() + COMMAND_WAIT
        while rclpy.ok() and self._running and episode == self._episode:
            if self._command is not None and self._command.stamp == self.now:
                return self._command
            if time.monotonic() > deadline:
                self._running = False
                self.get_logger().error(
                    f"no command for stamp {self.now / NANOSECONDS:.3f} s within {COMMAND_WAIT:g} s, paused: "
                    "is the whole-body controller running in lock step?"
                )
            executor.spin_once(timeout_sec=0.5)
        return None

    def _newest(self, executor: StreamExecutor) -> JointCommand | None:
        """Real time: wait until this tick is over, then take the newest command unless it is too old."""
        # Time lost to a busy machine is not made up for in a burst, which would outrun the other nodes.
        self._due = max(self._due + self._world.physics.tick / NANOSECONDS, time.monotonic() - CATCH_UP)
        while (left := self._due - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=left)
        executor.spin_once(timeout_sec=0)
        self._say_whether_holding(not self._fresh())
        return self._command if self._fresh() else None

    def _fresh(self) -> bool:
        return self._command is not None and self.now - self._command.stamp <= SILENCE * NANOSECONDS

    def may_end(self) -> bool:
        """Whether nobody drives the robot any more: a driver outlives the controller, and holds.

        A controller that only waits for a processor is waited for.
        """
        driven = self._command is not None and self.now - self._command.stamp <= PATIENCE * NANOSECONDS
        return self._lockstep or not driven

    def _say_whether_holding(self, holding: bool) -> None:
        if holding is not self._holding:
            self._holding = holding
            self._holds.publish(Bool(data=holding))

    def _publish(self) -> None:
        now = self.now
        state = dataclasses.replace(self._world.state(), stamp=now)
        observed = now % self._period == 0
        self._ticks.add()
        # Joints last: who is woken by them finds the rest of this stamp already there. In lock step every stage goes by
        # stamps; the clock is for those who only look on.
        if observed or not self._lockstep:
            self._clock_publisher.publish(Clock(clock=to_time(now)))
        odometry = odometry_message(state)
        self._odometry.publish(odometry)
        self._joints.publish(joint_state_message(state))
        if observed:
            power = self._power
            power.step(self._period / NANOSECONDS, state.effort, state.velocity)
            left = (power.charge, power.power, power.power / VOLTAGE, state.names, power.temperature)
            self._powers.publish(power_message(PowerState(now, *left)))
            self._publish_observation(now)
            self._transforms.publish(TFMessage(transforms=[odometry_transform(odometry)]))

    def _publish_observation(self, now: int) -> None:
        scene = dataclasses.replace(self._world.scene_state(), stamp=now)
        self._scene.publish(scene_message(scene))
        for side, wrench in self._world.wrenches().items():
            message = WrenchStamped()
            message.header.stamp, message.header.frame_id = to_time(now), f"{side}_hand_link"
            force, torque = message.wrench.force, message.wrench.torque
            force.x, force.y, force.z, torque.x, torque.y, torque.z = wrench.tolist()
            self._wrenches[side].publish(message)
        if not self._images:
            return
        if self._painting is not None:
            if not self._painting.done() and not self._lockstep:
                self._left_out += 1
                self.get_logger().warning(
                    "a set of pictures was left out: drawing is too slow", throttle_duration_sec=5
                )
                return
            self._painting.result()
        self._painting = self._painter.submit(self._paint, self._world.freeze(), now)

    def _paint(self, instant: mujoco.MjData, now: int) -> None:
        """Draw and publish one set of pictures; in the painter's thread."""
        began = time.perf_counter()
        if self._depth:
            for camera, (image, depth) in self._world.images_and_depth(instant).items():
                self._images[camera, "depth"].publish(depth_message(depth, now, _optical(camera)))
                self._publish_image(camera, image, now)
        else:
            for camera, image in self._world.images(instant).items():
                self._publish_image(camera, image, now)
        if self._outside:
            image = self._world.photograph(OUTSIDE_CAMERA, OUTSIDE_SIZE, pretty=False, instant=instant)
            self._images[OUTSIDE_CAMERA, "color"].publish(image_message(image, now, "odom"))
        self._drawn.add(time.perf_counter() - began)

    def _report(self) -> dict[str, Health]:
        """For /diagnostics; temperatures and charge are simulated."""
        rate, (drawn, draw, _) = self._ticks.take()[0], self._drawn.take()
        power, robot = self._power, self._world.robot
        hottest = int(power.temperature.argmax())
        heat, charge = power.temperature[hottest], power.charge
        level, message = Level.OK, ""
        if heat > HOT:
            level = Level.ERROR if heat > TOO_HOT else Level.WARN
            message = f"{robot.joint_names[hottest]} has a temperature of {heat:.0f} °C"
        if charge < LOW:
            level = Level.ERROR if charge < EMPTY else max(level, Level.WARN)
            message = f"the battery is at {charge:.0f} %"
        values = {
            "tick_rate": rate,
            "realtime_percent": 100 * rate * self._world.physics.tick / NANOSECONDS,
            "picture_rate": drawn,
            "draw_ms": 1e3 * draw,
            "pictures_left_out": self._left_out,
            "battery_percent": charge,
            "power_w": power.power,
            "hottest_joint": robot.joint_names[hottest],
            "hottest_c": heat,
        }
        degrees = zip(robot.joint_names, power.temperature.tolist(), strict=True)
        joints = {f"{name.removesuffix('_joint')}_c": value for name, value in degrees}
        return {"": Health(level, message, values), "joint temperatures": Health(values=joints)}

    def _in_painter(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call what touches OpenGL in the painter's thread, after what is being drawn."""
        return self._painter.submit(function, *arguments).result()

    def _publish_image(self, camera: str, image: Any, now: int) -> None:
        self._infos[camera].publish(self._camera_info(camera, now))
        self._images[camera, "color"].publish(image_message(image, now, _optical(camera)))

    def _camera_info(self, camera: str, now: int) -> CameraInfo:
        height, width = self._world.image_size
        matrix = self._world.intrinsics(camera)
        info = CameraInfo(height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5)
        info.header.stamp, info.header.frame_id = to_time(now), _optical(camera)
        info.k = matrix.ravel()
        info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        info.p = [*matrix[0], 0.0, *matrix[1], 0.0, *matrix[2], 0.0]
        return info

    # Callbacks

    def _on_command(self, name: str, message: Any) -> None:
        both = self._join.add(name, stamp_of(message), message)
        if both is None:
            return
        try:
            self._command = joint_command(both["joints"], both["base"])
            self._world.robot.indices(self._command.names)
        except (ValueError, KeyError) as error:
            self._command = None
            self.get_logger().warning(f"refused: {error}", throttle_duration_sec=1.0)

    def _on_reset(self, request: ResetWorld.Request, response: ResetWorld.Response) -> ResetWorld.Response:
        here = self._world.scene
        try:
            task = make_task(request.task or here.task, request.setting or ("basic" if request.task else here.setting))
            scene = task.sample(request.seed, request.instruction or None)
        except ValueError as error:
            response.message = str(error)
            return response
        # The clock goes on at the next whole second: a gap that tells every node that the robot has been put elsewhere.
        self._offset = (self.now // NANOSECONDS + 2) * NANOSECONDS
        self._episode += 1
        self._command = None
        self._in_painter(self._world.reset, scene)
        self._scorer = make_scorer(self._world)
        self._running = not self._lockstep
        self._layout.publish(scene_message(self._world.scene_state()))
        response.success, response.instruction = True, scene.instruction
        return response

    def _on_score(self, _: ScoreEpisode.Request, response: ScoreEpisode.Response) -> ScoreEpisode.Response:
        scene = dataclasses.replace(self._world.scene_state(), stamp=self.now)
        return fill_score(response, self._scorer.result(), scene)

    def _on_run(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._running = request.data
        response.success = True
        return response


def _optical(camera: str) -> str:
    return f"{camera}_camera_optical_frame"


def main() -> int:
    """Console entry."""
    return run_node(SimNode, SimNode.run, SimNode.may_end)


if __name__ == "__main__":
    sys.exit(main())
