"""The very node, with cameras of software."""

import contextlib
import io
import threading
import time

import numpy as np
import pytest

pytest.importorskip(
    "pyrealsense2", reason="pyrealsense2 is not installed (or libusb-1.0-0 is missing): ./bytemini setup"
)
pytest.importorskip("bytemini_msgs.msg", reason="the workspace is not built: ./bytemini setup")
import rclpy
from bytemini_cameras.frames import Calibration, image_template, info_message
from bytemini_cameras.node import LOST, CameraNode
from bytemini_cameras.software import HEIGHT, WIDTH, SoftwareCamera, finder
from bytemini_core.domain import private_domain
from bytemini_core.executor import StreamExecutor
from bytemini_core.ros import SENSOR_QOS, from_time, image_array, image_message, stamp_of
from bytemini_core.watchdog import TOPIC
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from PIL import Image as Picture
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header


class Rig:
    """The node and a listener, spun by a thread."""

    def __init__(self, cameras, names=("head",), active=True, **parameters):
        self._apart = contextlib.ExitStack()
        self._apart.enter_context(private_domain())
        arguments = ["--ros-args"]
        for name, camera in zip(names, cameras, strict=True):
            arguments += ["-p", f"{name}_serial:='{camera.serial}'"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={value}"]
        rclpy.init(args=arguments)
        self.node = CameraNode(finder(*cameras))
        self.listener = rclpy.create_node("listener", use_global_arguments=False)
        self.messages = {}
        self.executor = StreamExecutor()
        for node in (self.node, self.listener):
            self.executor.add_node(node)
        self.health = {}
        self.listener.create_subscription(DiagnosticArray, "/diagnostics", self._on_health, 10)
        self.cameras = cameras
        self._spinning = True
        self._thread = threading.Thread(target=self._spin)
        if active:
            self.node.activate()
        self._thread.start()

    def _spin(self):
        while self._spinning:
            self.executor.spin_once(timeout_sec=0.05)

    def _on_health(self, message):
        for status in message.status:
            self.health[status.name] = (status.level[0], status.message, {v.key: v.value for v in status.values})

    def hear(self, kind, topic):
        messages = self.messages[topic] = []
        self.listener.create_subscription(kind, topic, messages.append, SENSOR_QOS)
        return messages

    def until(self, condition, seconds=10.0):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.02)
        raise AssertionError(f"it did not come about; health: {self.health}")

    def close(self):
        for camera in self.cameras:
            camera.starve()
        self._spinning = False
        self._thread.join()
        self.node.destroy_node()
        self.listener.destroy_node()
        rclpy.try_shutdown()
        self._apart.close()


@pytest.fixture
def rig():
    rigs = []

    def make(*arguments, **parameters):
        rigs.append(Rig(*arguments, **parameters))
        return rigs[-1]

    yield make
    for one in rigs:
        one.close()


def test_topics_and_content_are_those_of_the_simulator(rig):
    cameras = [SoftwareCamera(serial) for serial in ("11", "22", "33")]
    names = ("head", "left_wrist", "right_wrist")
    here = rig(cameras, names)
    heard = {
        name: (
            here.hear(Image, f"camera/{name}/color/image_raw"),
            here.hear(CameraInfo, f"camera/{name}/color/camera_info"),
            here.hear(Image, f"camera/{name}/aligned_depth_to_color/image_raw"),
        )
        for name in names
    }
    for camera in cameras:
        camera.feed()
    here.until(lambda: all(len(messages) > 5 for topics in heard.values() for messages in topics))
    for name, (colours, infos, depths) in heard.items():
        depth = depths[-1]
        colour = next(m for m in colours if stamp_of(m) == stamp_of(depth))  # of one instant, to the nanosecond
        info = next(m for m in infos if stamp_of(m) == stamp_of(depth))
        assert {m.header.frame_id for m in (colour, info, depth)} == {f"{name}_camera_optical_frame"}
        picture = image_array(colour)
        assert picture.shape == (HEIGHT, WIDTH, 3)
        assert (depth.encoding, depth.step, depth.is_bigendian) == ("16UC1", WIDTH * 2, 0)
        values = np.frombuffer(depth.data, np.uint16).reshape(HEIGHT, WIDTH)
        assert values[HEIGHT // 2, WIDTH // 2] == 1000 + int(picture[0, 0, 0])
        assert (info.width, info.height, info.distortion_model) == (WIDTH, HEIGHT, "plumb_bob")
        np.testing.assert_allclose(info.k, [600, 0, 318.5, 0, 601, 242.5, 0, 0, 1])
        np.testing.assert_allclose(info.d, [0.1, -0.2, 0, 0, 0.05], rtol=1e-6)
        now = time.time_ns()
        assert 0 <= now - stamp_of(colour) < 10e9


def test_a_message_by_template_is_the_message_that_ros_makes():
    random_ = np.random.default_rng(0)
    for width, height in ((3, 1), (5, 2), (64, 48)):
        pixels = random_.integers(0, 255, (height, width, 3), np.uint8)
        template = image_template(width, height, "rgb8", "a_frame")
        for stamp in (0, 1_700_000_000_123_456_789):
            data = template.filled(stamp, memoryview(pixels))
            assert deserialize_message(data, Image) == image_message(pixels, stamp, "a_frame")
    info = info_message(Calibration(64, 48, (1.0, 2.0, 3.0, 4.0)), "f", 5)
    assert deserialize_message(serialize_message(info), CameraInfo).k[4] == 2.0


def test_unplugged_and_plugged_in_again(rig):
    camera, other = SoftwareCamera("11"), SoftwareCamera("22")
    here = rig([camera, other], ("head", "left_wrist"), depth=False)
    colours, others = (here.hear(Image, f"camera/{name}/color/image_raw") for name in ("head", "left_wrist"))
    camera.feed()
    other.feed()
    here.until(lambda: len(colours) > 5)
    camera.unplug()
    here.until(lambda: here.health.get("cameras: head", (0,))[0] == 2)
    assert "serial number 11" in here.health["cameras: head"][1] or "no good frame" in here.health["cameras: head"][1]
    count, others_before = len(colours), len(others)
    here.until(lambda: len(others) > others_before + 10)  # the other goes on
    assert here.health["cameras: left_wrist"][0] < 2
    camera.plug()
    here.until(lambda: len(colours) > count + 10)
    here.until(lambda: here.health["cameras: head"][0] < 2)
    assert here.health["cameras: head"][2]["connections"] == "2"
    stamps = [stamp_of(m) for m in colours]
    assert stamps == sorted(set(stamps))


def test_a_stall_is_noticed_and_survived(rig):
    camera = SoftwareCamera("11")
    here = rig([camera], depth=False)
    colours = here.hear(Image, "camera/head/color/image_raw")
    camera.feed()
    here.until(lambda: len(colours) > 5)
    camera.starve()
    here.until(lambda: here.health.get("cameras: head", (0, ""))[1].endswith("opened anew"))
    count = len(colours)
    camera.feed()
    here.until(lambda: len(colours) > count + 5)


def test_a_picture_that_freezes_under_new_stamps_is_not_shown_on_and_no_sign_of_life_is_given(rig):
    camera = SoftwareCamera("11")
    here = rig([camera], depth=False)
    colours = here.hear(Image, "camera/head/color/image_raw")
    alive = here.hear(Header, TOPIC)
    camera.feed()
    here.until(lambda: len(colours) > 5 and alive)
    camera.frozen = True
    here.until(lambda: "the same picture" in here.health.get("cameras: head", (0, ""))[1])
    assert here.health["cameras: head"][0] == 2
    count = len(colours)

    def pause():
        return max(np.diff([from_time(m.stamp) for m in alive])) / 1e9

    here.until(lambda: pause() > 0.9 * LOST)  # then it goes on without that camera
    assert len(colours) == count  # neither before nor after it was opened anew
    camera.frozen = False
    here.until(lambda: len(colours) > count + 5)


def test_frames_of_a_wrong_size_and_repeated_ones_are_left_out_and_counted(rig):
    camera = SoftwareCamera("11")
    here = rig([camera], depth=False)
    colours = here.hear(Image, "camera/head/color/image_raw")
    here.until(lambda: here.listener.count_publishers("camera/head/color/image_raw") == 1)
    time.sleep(0.5)
    for _ in range(3):
        camera.emit(7)
        time.sleep(0.05)
    camera.emit(8, small=True)
    stamp = camera.device_time()
    for number in (10, 11):  # one frame under two numbers: 4 to 9 are missing
        camera.emit(9, stamp=stamp, number=number)
        time.sleep(0.05)
    here.until(lambda: here.health.get("cameras: head", (0, "", {}))[2].get("repeated") == "1")
    values = here.health["cameras: head"][2]
    assert (values["wrong_size"], values["frames"]) == ("1", "4")
    assert int(values["dropped"]) == 7  # the small one too is a picture that did not come
    assert [int(m.data[0]) for m in colours] == [7, 7, 7, 9]


def test_depth_in_other_units_becomes_millimetres(rig):
    camera = SoftwareCamera("11", units=0.0001)
    here = rig([camera])
    depths = here.hear(Image, "camera/head/aligned_depth_to_color/image_raw")
    camera.feed()
    here.until(lambda: len(depths) > 3)
    centre = np.frombuffer(depths[-1].data, np.uint16).reshape(HEIGHT, WIDTH)[HEIGHT // 2, WIDTH // 2]
    assert 1000 <= centre < 1200


def test_compressed_pictures_on_request(rig):
    camera = SoftwareCamera("11")
    here = rig([camera], depth=False, compressed=True)
    jpegs = here.hear(CompressedImage, "camera/head/color/image_raw/compressed")
    camera.feed()
    here.until(lambda: len(jpegs) > 3)
    picture = np.asarray(Picture.open(io.BytesIO(bytes(jpegs[-1].data))))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert np.ptp(picture) <= 2
    assert jpegs[-1].format.startswith("rgb8; jpeg")


def test_the_lifecycle_services_open_and_close_the_cameras(rig):
    camera = SoftwareCamera("11")
    here = rig([camera], active=False, depth=False)
    colours = here.hear(Image, "camera/head/color/image_raw")
    camera.feed()
    change = here.listener.create_client(ChangeState, "cameras/change_state")
    state = here.listener.create_client(GetState, "cameras/get_state")
    assert change.wait_for_service(10)
    assert state.wait_for_service(10)

    def ask(client, request):
        future = client.call_async(request)
        here.until(future.done)
        return future.result()

    def go(transition):
        return ask(change, ChangeState.Request(transition=Transition(id=transition))).success

    assert not go(Transition.TRANSITION_ACTIVATE)  # not configured yet
    assert go(Transition.TRANSITION_CONFIGURE)
    time.sleep(0.3)
    assert not colours
    assert go(Transition.TRANSITION_ACTIVATE)
    here.until(lambda: len(colours) > 5)
    assert go(Transition.TRANSITION_DEACTIVATE)
    time.sleep(0.2)
    count = len(colours)
    time.sleep(0.3)
    assert len(colours) == count
    assert go(Transition.TRANSITION_ACTIVATE)
    here.until(lambda: len(colours) > count + 5)
    assert go(Transition.TRANSITION_DEACTIVATE)
    assert go(Transition.TRANSITION_CLEANUP)
    assert ask(state, GetState.Request()).current_state.label == "unconfigured"


def test_what_the_camera_does_not_offer_is_said_with_what_it_does(rig):
    here = rig([SoftwareCamera("11", width=320, height=240)], depth=False)
    here.until(lambda: "320x240 at 30 Hz" in here.health.get("cameras: head", (0, ""))[1])
    assert "640x480 at 30 Hz" in here.health["cameras: head"][1]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"head_serial": 123}, "quotes"),
        ({"head_serial": "'1'", "left_wrist_serial": "'1'"}, "same camera"),
        ({"width": 0}, "width"),
        ({"rate": "fast"}, "rate"),
        ({}, "could not configure"),
    ],
)
def test_bad_parameters_refuse_to_start_and_are_named(parameters, reason):
    arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    with private_domain():
        rclpy.init(args=["--ros-args", *arguments] if arguments else [])
        try:
            with pytest.raises(ValueError, match=reason):
                CameraNode(finder()).activate()
        finally:
            rclpy.try_shutdown()
