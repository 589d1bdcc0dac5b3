"""Cameras without hardware: pyrealsense2.software_device behind the node's own way of finding cameras."""

import itertools
import threading
import time

import numpy as np
import pyrealsense2 as rs

WIDTH, HEIGHT, RATE = 640, 480, 30


class SoftwareCamera:
    """A RealSense of software with a colour and a stereo sensor, fed from a thread of its own.

    `small` frames come from a second, smaller profile that the node did not ask for. The device clock starts at
    `epoch` s and gains `drift` s/s on the host's.
    """

    def __init__(self, serial, width=WIDTH, height=HEIGHT, rate=RATE, units=0.001, drift=0.0, epoch=100.0):
        self.serial, self.rate, self.units, self._drift, self._epoch = serial, rate, units, drift, epoch
        self.present = True
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.name, "Software RealSense")
        self.device.register_info(rs.camera_info.serial_number, serial)
        self._depth_sensor = self.device.add_sensor("Stereo Module")
        self._colour_sensor = self.device.add_sensor("RGB Camera")
        self._depth_sensor.add_read_only_option(rs.option.depth_units, units)
        self._uids = itertools.count()
        self._profiles = {}
        for small, (w, h) in ((False, (width, height)), (True, (width // 2, height // 2))):
            depth = self._depth_sensor.add_video_stream(
                self._stream(rs.stream.depth, rs.format.z16, 2, w, h), not small
            )
            colour = self._colour_sensor.add_video_stream(
                self._stream(rs.stream.color, rs.format.rgb8, 3, w, h), not small
            )
            here = rs.extrinsics()
            here.rotation, here.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0]
            depth.register_extrinsics_to(colour, here)
            self._profiles[small] = (depth, colour)
        self._sizes = {False: (width, height), True: (width // 2, height // 2)}
        self._number = 0
        self._began = time.monotonic()
        self._thread = None
        self._feeding = threading.Event()

    def _stream(self, kind, format_, pixel_bytes, width, height):
        lens = rs.intrinsics()
        lens.width, lens.height, lens.ppx, lens.ppy = width, height, width / 2 - 1.5, height / 2 + 2.5
        lens.fx, lens.fy, lens.model, lens.coeffs = (
            600.0,
            601.0,
            rs.distortion.brown_conrady,
            [0.1, -0.2, 0.0, 0.0, 0.05],
        )
        stream = rs.video_stream()
        stream.type, stream.index, stream.uid, stream.fmt = kind, 0, next(self._uids), format_
        stream.width, stream.height, stream.fps, stream.bpp, stream.intrinsics = (
            width,
            height,
            self.rate,
            pixel_bytes,
            lens,
        )
        return stream

    def device_time(self):
        """Milliseconds of the camera's clock."""
        return 1e3 * (self._epoch + (time.monotonic() - self._began) * (1 + self._drift))

    def emit(self, value=None, *, small=False, stamp=None, number=None, colour=True, depth=True):
        """Send one pair of frames: colour is `value`, depth 1000 + value millimetres."""
        number = self._number if number is None else number
        self._number = number + 1
        stamp = self.device_time() if stamp is None else stamp
        value = number % 200 if value is None else value
        width, height = self._sizes[small]
        for wanted, sensor, profile, pixel_bytes, pixels in (
            (
                depth,
                self._depth_sensor,
                self._profiles[small][0],
                2,
                np.full((height, width), round((1.0 + value * 0.001) / self.units), np.uint16),
            ),
            (colour, self._colour_sensor, self._profiles[small][1], 3, np.full((height, width, 3), value, np.uint8)),
        ):
            if wanted:
                frame = rs.software_video_frame()
                frame.pixels, frame.bpp, frame.stride = pixels, pixel_bytes, width * pixel_bytes
                frame.timestamp, frame.domain = stamp, rs.timestamp_domain.hardware_clock
                frame.frame_number, frame.profile = number, profile.as_video_stream_profile()
                if pixel_bytes == 2:
                    frame.depth_units = self.units
                sensor.on_video_frame(frame)

    def feed(self):
        """Send frames at the camera's rate until `starve`."""
        self._feeding.set()

        def run():
            due = time.monotonic()
            while self._feeding.is_set():
                self.emit()
                due += 1 / self.rate
                time.sleep(max(0.0, due - time.monotonic()))

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def starve(self):
        """Send no more."""
        self._feeding.clear()
        if self._thread is not None:
            self._thread.join()

    def unplug(self):
        """Starve, and be found no more."""
        self.starve()
        self.present = False

    def plug(self):
        """Be found again; the clock and the counter of the camera start again."""
        self._number, self._began, self.present = 0, time.monotonic(), True
        self.feed()


def finder(*cameras):
    """The node's `find` over these cameras."""
    return lambda serial: next((c.device for c in cameras if c.serial == serial and c.present), None)
