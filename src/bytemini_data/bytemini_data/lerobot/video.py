"""Pictures to mp4 and back: constant frame rate, and any frame found without reading those before it.

H.264 with a key frame every second frame and no frames that refer forward: a frame costs at most two to decode. Reading
keeps no file open: an index says where in the file each coded frame is, and a decoder gets just those bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from numpy.typing import NDArray

from bytemini_data.lerobot.schema import DatasetError

CODEC = "libx264"
OPTIONS = {"crf": "18", "tune": "fastdecode"}
SMALL, QUICK = "veryfast", "ultrafast"
"""Presets of the encoder: `QUICK` takes half the time for twice the bytes, which recording live is glad of."""
KEY_FRAME_EVERY = 2

Pixels = NDArray[np.uint8]


class VideoWriter:
    """Writes one mp4. A context manager; leaving it without an error completes the file.

    Args:
        path: of the file.
        fps: frames per second.
        size: (height, width); both even.
        preset: `SMALL` or `QUICK`.
    """

    def __init__(self, path: Path, fps: int, size: tuple[int, int], preset: str = SMALL) -> None:
        height, width = size
        if height % 2 or width % 2:
            raise ValueError(f"picture size is {width} x {height}, expected even numbers: H.264 halves its colours")
        self._container = av.open(str(path), "w")
        stream: Any = self._container.add_stream(CODEC, rate=fps, options={**OPTIONS, "preset": preset})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = self._tick = Fraction(1, fps)
        context.gop_size, context.max_b_frames, context.thread_count = KEY_FRAME_EVERY, 0, 1
        self._stream = stream
        self._size = size
        self.frames = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, picture: Pixels) -> None:
        """Append an RGB (H, W, 3) picture.

        Raises:
            ValueError: it has another size or type.
        """
        if picture.shape != (*self._size, 3) or picture.dtype != np.uint8:
            raise ValueError(f"picture is {picture.dtype} {picture.shape}, expected uint8 {(*self._size, 3)}")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts = self.frames
        frame.time_base = self._tick
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        self.frames += 1

    def close(self) -> None:
        """Complete the file; a second call does nothing."""
        if self._stream is None:
            return
        for packet in self._stream.encode():
            self._container.mux(packet)
        self._container.close()
        self._stream = None


@dataclass(frozen=True)
class VideoIndex:
    """Where the coded frames of a file are, in the order in which they are shown.

    `offset`, `size`: (n,) bytes in the file. `time`: (n,) seconds. `key`: (n,) the frame that decoding starts at. All
    coded frames are decoded in file order, which `decode_order` holds per shown frame.
    """

    path: Path
    codec: str
    extradata: bytes
    shape: tuple[int, int]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    pts: NDArray[np.int64]
    key: NDArray[np.int64]
    shown: NDArray[np.int64]
    time: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.shown)


def index_video(path: Path) -> VideoIndex:
    """Find every coded frame of a file.

    Raises:
        DatasetError: it is missing, cut short, or holds no video.
    """
    if not path.is_file():
        raise DatasetError(f"{path} is missing")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DatasetError(f"{path} holds no video")
            stream = container.streams.video[0]
            context = stream.codec_context
            if context is None:
                raise DatasetError(f"{path} holds a video of a kind that is not known")
            packets = [
                (packet.pos, packet.size, packet.pts, packet.is_keyframe)
                for packet in container.demux(stream)
                if packet.size and packet.pts is not None
            ]
            base = float(stream.time_base or 1)
            codec, extradata = context.codec.canonical_name, bytes(context.extradata or b"")
            shape = (context.height, context.width)
    except (av.FFmpegError, OSError) as error:
        raise DatasetError(f"{path} is no readable video, cut short perhaps: {error}") from None
    if not packets or not packets[0][3]:
        raise DatasetError(f"{path} holds no frame that can be decoded")
    end = path.stat().st_size
    offset, size, pts = (np.array([packet[i] for packet in packets], dtype=np.int64) for i in range(3))
    if (offset < 0).any() or (offset + size > end).any():
        raise DatasetError(f"{path} is cut short: a frame ends beyond byte {end}")
    keys = np.array([packet[3] for packet in packets])
    key = np.maximum.accumulate(np.where(keys, np.arange(len(packets)), 0))
    shown = np.argsort(pts, kind="stable")
    return VideoIndex(
        path, codec, extradata, shape, offset, size, pts, key, shown, np.asarray(pts[shown] * base, dtype=np.float64)
    )


class Decoder:
    """Decodes single frames of indexed videos; each thread has decoders of its own."""

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        """Prepare. `size`: (height, width) to scale pictures to; None leaves them as they are."""
        self._size = size
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {"_size": self._size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._size = state["_size"]
        self._local = threading.local()

    def _context(self, index: VideoIndex) -> Any:
        contexts = self._local.__dict__.setdefault("contexts", {})
        key = (index.codec, index.extradata)
        if key not in contexts:
            if len(contexts) >= 8:
                contexts.clear()
            context: Any = av.CodecContext.create(index.codec, "r")
            context.thread_count = 1
            context.extradata = index.extradata
            context.width, context.height = index.shape[1], index.shape[0]
            contexts[key] = context
        return contexts[key]

    def read(self, index: VideoIndex, frames: Sequence[int]) -> Pixels:
        """(n, H, W, 3) uint8 RGB of the frames asked for, by their place in the order shown.

        Raises:
            DatasetError: the file has changed or is corrupt.
            IndexError: no such frame.
        """
        height, width = self._size or index.shape
        out = np.empty((len(frames), height, width, 3), dtype=np.uint8)
        wanted = {int(index.pts[index.shown[frame]]): i for i, frame in reversed(list(enumerate(frames)))}
        groups: dict[int, int] = {}
        for frame in frames:
            coded = int(index.shown[frame])
            start = int(index.key[coded])
            groups[start] = max(groups.get(start, start), coded)
        found = 0
        try:
            with index.path.open("rb", buffering=0) as stream:
                for start, last in groups.items():
                    found += self._decode_group(index, stream, start, last, wanted, out)
        except (av.FFmpegError, OSError) as error:
            raise DatasetError(f"{index.path} cannot be decoded: {error}") from None
        if found != len(wanted):
            raise DatasetError(f"{index.path} is corrupt: {len(wanted) - found} of {len(wanted)} frames do not decode")
        for i, frame in enumerate(frames):
            first = wanted[int(index.pts[index.shown[frame]])]
            if first != i:
                out[i] = out[first]
        return out

    def _decode_group(
        self, index: VideoIndex, stream: Any, start: int, last: int, wanted: dict[int, int], out: Pixels
    ) -> int:
        """Decode the coded frames from a key frame to `last`; how many of the wanted were among them."""
        context = self._context(index)
        frames = []
        for coded in range(start, last + 1):
            stream.seek(int(index.offset[coded]))
            packet = av.Packet(stream.read(int(index.size[coded])))
            packet.pts = packet.dts = int(index.pts[coded])
            frames += context.decode(packet)
        frames += context.decode(None)
        context.flush_buffers()
        found = 0
        for frame in frames:
            place = wanted.get(frame.pts)
            if place is not None:
                out[place] = self._rgb(frame, out.shape[1:3])
                found += 1
        return found

    def _rgb(self, frame: Any, shape: tuple[int, ...]) -> Pixels:
        reformatter = self._local.__dict__.get("reformatter")
        if reformatter is None:
            reformatter = self._local.reformatter = av.video.reformatter.VideoReformatter()
        rgb = reformatter.reformat(frame, width=shape[1], height=shape[0], format="rgb24")
        plane: Any = rgb.planes[0]
        rows = np.frombuffer(plane, dtype=np.uint8).reshape(shape[0], plane.line_size)
        return rows[:, : shape[1] * 3].reshape(*shape, 3)
