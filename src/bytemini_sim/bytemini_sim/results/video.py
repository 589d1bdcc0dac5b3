"""A film of an episode that explains itself: outside view, the robot's own three views, and what it thinks it is doing.

H.264 in MP4, playable in a browser before it is fully loaded, at most 1.2 Mbit/s (15 s stay under 2.5 MB). PyAV and
Pillow are loaded when a film is begun; its font is the one that Pillow brings along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from bytemini_core.types import CAMERAS, NANOSECONDS, Mode, TaskStatus
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

    from bytemini_sim.episode import Episode

Pixels = NDArray[np.uint8]

WIDTH, HEIGHT = 960, 540
MOST_BITS = 1_200_000
CLOSING_SECONDS = 1.5
"""How long the last picture stands with the verdict on it."""

_BACKGROUND = (24, 27, 31)
_PLATE = (38, 42, 48)
_TEXT = (240, 240, 240)
_DIM = (160, 168, 178)
_STATUS_COLORS = {
    TaskStatus.ONGOING: (86, 180, 233),
    TaskStatus.TERMINATED: (0, 178, 128),
    TaskStatus.INVALID: (230, 120, 40),
}
_GOOD, _BAD = (0, 120, 84), (186, 62, 0)


@dataclass(frozen=True, slots=True)
class FrameData:
    """What one picture of the film shows.

    Attributes:
        time: simulated seconds since the start of the episode.
        outside: (H, W, 3) uint8 RGB of the whole scene.
        views: camera name (`CAMERAS`) to (H, W, 3) uint8 RGB; may be empty.
        task_status, confidence: the policy's word for what is executing, and its confidence in [0, 1].
        phase: what is being done ("grasp").
        mode: who owns the robot; "" where nobody says.
    """

    time: float
    outside: Pixels
    views: Mapping[str, Pixels] = field(default_factory=dict)
    task_status: TaskStatus = TaskStatus.ONGOING
    confidence: float = 0.0
    phase: str = ""
    mode: str = ""

    def __post_init__(self) -> None:
        for name, picture in (("outside", self.outside), *self.views.items()):
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
                raise ValueError(f"picture {name} is {picture.dtype} {picture.shape}, expected uint8 (H, W, 3)")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where everything stands, in pixels: (left, top, width, height)."""

    outside: tuple[int, int, int, int]
    views: Mapping[str, tuple[int, int, int, int]]
    strip: tuple[int, int, int, int]
    text: int

    @classmethod
    def of(cls, size: tuple[int, int], views: Mapping[str, Pixels]) -> _Layout:
        """The strip below takes what two lines of text need; views share one column beside the outside view."""
        width, height = size
        text = max(10, round(height / 30))
        strip_height = round(3.7 * text)
        content = height - strip_height
        gap = max(2, round(height / 135))
        cells: dict[str, tuple[int, int, int, int]] = {}
        column = 0
        if views:
            names = [name for name in CAMERAS if name in views]
            names += sorted(set(views) - set(names))
            # A single view does not grow beyond what it would have among three.
            cell = (content - 2 * gap) // max(3, len(names))
            aspect = max(picture.shape[1] / picture.shape[0] for picture in views.values())
            column = min(round(cell * aspect), width // 3)
            cells = {name: (width - column, index * (cell + gap), column, cell) for index, name in enumerate(names)}
            column += gap
        return cls((0, 0, width - column, content), cells, (0, content, width, strip_height), text)


def film_size(outside: Pixels, views: Mapping[str, Pixels], height: int = HEIGHT) -> tuple[int, int]:
    """The film's (width, height) at which an outside view of this shape is shown whole.

    Args:
        outside: (H, W, 3), and `views` as in `FrameData`.
        views: the other pictures.
        height: of the film, even.
    """
    # Laid out in a film that is wide enough, the views say what they need and the outside view what is left to it.
    trial = _Layout.of((4 * height, height), views).outside
    width = 4 * height - trial[2] + round(trial[3] * outside.shape[1] / outside.shape[0])
    return max(320, width + width % 2), height


@cache
def _font(size: int) -> FreeTypeFont:
    from PIL import ImageFont

    font = ImageFont.load_default(size=size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType: install Pillow from a wheel (pip install pillow)")
    return font


def _fit(text: str, font: FreeTypeFont, width: float) -> str:
    """`text` in one line, cut with an ellipsis so that it is no wider than `width` pixels."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


class EpisodeVideo:
    """Writes the film of one episode; a context manager that leaves a playable file behind even when the block raises.

    Args:
        path: of the .mp4; replaced if it exists.
        instruction: what the robot was told.
        frames_per_second: pictures per simulated second that `add` will be given.
        size: width and height in pixels, both even, at least 320 x 180; the outside view fills what the others leave,
            and is cut where its shape differs (`film_size` gives a size for which it is not).

    Raises:
        ValueError: a size or rate that cannot be encoded.
        OSError: the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        instruction: str,
        frames_per_second: float = 10.0,
        size: tuple[int, int] = (WIDTH, HEIGHT),
    ) -> None:
        if size[0] % 2 or size[1] % 2 or size[0] < 320 or size[1] < 180:
            raise ValueError(f"video size is {size[0]} x {size[1]}, expected even numbers, at least 320 x 180")
        if not 1 <= frames_per_second <= 120:
            raise ValueError(f"video rate is {frames_per_second}, expected 1 to 120 pictures per second")
        import av

        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._size = size
        self._instruction = instruction
        self._layout = _Layout.of(size, {})
        self._shown: frozenset[tuple[str, tuple[int, ...]]] = frozenset()
        self._canvas: Image | None = None
        self._count = 0
        self._closed = False
        self._rate = Fraction(frames_per_second).limit_denominator(1000)
        self._av = av
        self._container = av.open(str(self.path), "w", options={"movflags": "+faststart"})
        # Two threads: more of them help little at this size, and the simulation wants the rest.
        self._stream = self._container.add_stream("libx264", rate=self._rate)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.thread_count = 2
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = _BT709
        context.options = {
            "preset": "veryfast",
            "crf": "24",
            "maxrate": str(MOST_BITS),
            "bufsize": str(MOST_BITS),
            "g": str(max(1, round(2 * frames_per_second))),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, data: FrameData) -> None:
        """Append one picture.

        Raises:
            ValueError: the film is closed.
        """
        if self._closed:
            raise ValueError(f"film {self.path} is closed")
        self._encode(self.compose(data))

    def finish(self, success: bool, reason: str = "") -> None:
        """Let the last picture stand for a moment with the verdict on it, then close.

        Args:
            success: whether the task was done.
            reason: why not, in a few words.
        """
        if not self._closed and self._canvas is not None:
            self._verdict(self._canvas, success, reason)
            for _ in range(max(1, round(CLOSING_SECONDS * self._rate))):
                self._encode(self._canvas)
        self.close()

    def close(self) -> None:
        """Finish the file; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._count:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()
        if not self._count:
            self.path.unlink(missing_ok=True)

    def compose(self, data: FrameData) -> Image:
        """The picture that `add` would append; valid until the next call."""
        from PIL import ImageDraw

        shown = frozenset((name, picture.shape) for name, picture in data.views.items())
        if self._canvas is None or shown != self._shown:
            self._layout = _Layout.of(self._size, data.views)
            self._shown = shown
            self._canvas = self._template()
        canvas = self._canvas
        _place(canvas, data.outside, self._layout.outside, cover=True)
        draw = ImageDraw.Draw(canvas)
        for name, box in self._layout.views.items():
            _place(canvas, data.views[name], box, cover=False)
            self._label(draw, box, name.replace("_", " "))
        self._caption(draw, data)
        return canvas

    def _template(self) -> Image:
        """What does not change from picture to picture: plates and the instruction."""
        from PIL import Image, ImageDraw

        canvas = Image.new("RGB", self._size, _BACKGROUND)
        draw = ImageDraw.Draw(canvas)
        left, top, width, _ = self._layout.strip
        text = self._layout.text
        pad = text // 2
        font = _font(round(1.15 * text))
        draw.text(
            (left + pad, top + round(0.95 * text)), _fit(self._instruction, font, width - 2 * pad), _TEXT, font, "lm"
        )
        return canvas

    def _label(self, draw: ImageDraw, box: tuple[int, int, int, int], name: str) -> None:
        size = max(9, round(0.72 * self._layout.text))
        font = _font(size)
        name = _fit(name, font, box[2] - size)
        right = box[0] + font.getlength(name) + size
        draw.rectangle((box[0], box[1], right, box[1] + round(1.5 * size)), _PLATE)
        draw.text((box[0] + size // 2, box[1] + round(0.75 * size)), name, _TEXT, font, "lm")

    def _caption(self, draw: ImageDraw, data: FrameData) -> None:
        """Second line of the strip: time, mode, phase, and the status with its confidence as a bar.

        Every field has a column of its own and is cut to it, so that nothing touches and nothing jumps about.
        """
        left, top, width, height = self._layout.strip
        text = self._layout.text
        pad = text // 2
        font = _font(text)
        middle = top + round(2.65 * text)
        draw.rectangle((left, top + round(1.8 * text), left + width, top + height), _BACKGROUND)
        edges = [round(left + pad + part * (width - 2 * pad)) for part in (0.0, 0.13, 0.27, 0.62, 1.0)]
        fields = (
            (f"{data.time:.1f} s", _TEXT),
            (data.mode, _TEXT if data.mode in (Mode.POLICY, Mode.TELEOP) else _STATUS_COLORS[TaskStatus.INVALID]),
            (data.phase, _DIM),
        )
        for (start, end), (words, color) in zip(pairwise(edges), fields, strict=False):
            draw.text((start, middle), _fit(words, font, end - start - pad), color, font, "lm")
        color = _STATUS_COLORS[data.task_status]
        start, end = edges[3:]
        percent = f"{data.confidence:.0%}"
        word = _fit(data.task_status.name, font, 0.42 * (end - start))
        draw.text((start, middle), word, color, font, "lm")
        draw.text((end, middle), percent, _TEXT, font, "rm")
        bar_left = start + round(font.getlength("TERMINATED")) + pad
        bar_right = end - round(font.getlength("100%")) - pad
        if bar_right > bar_left + text:
            box = (bar_left, middle - text // 3, bar_right, middle + text // 3)
            draw.rectangle(box, _PLATE)
            filled = bar_left + round(min(1.0, max(0.0, data.confidence)) * (bar_right - bar_left))
            if filled > bar_left:
                draw.rectangle((bar_left, box[1], filled, box[3]), color)

    def _verdict(self, canvas: Image, success: bool, reason: str) -> None:
        """A banner across the foot of the outside view, with a tick or a cross drawn (the font has neither)."""
        from PIL import ImageDraw

        draw = ImageDraw.Draw(canvas)
        left, top, width, height = self._layout.outside
        size = round(1.5 * self._layout.text)
        band = 2 * size
        bottom = top + height
        draw.rectangle((left, bottom - band, left + width - 1, bottom - 1), _GOOD if success else _BAD)
        x, y, arm = left + size, bottom - band // 2, size // 2
        if success:
            draw.line(
                [(x - arm // 2, y), (x, y + arm), (x + arm + arm // 2, y - arm)], "white", max(3, size // 6), "curve"
            )
        else:
            for sign in (-1, 1):
                draw.line(
                    [(x - arm // 2, y - sign * arm), (x + arm + arm // 2, y + sign * arm)], "white", max(3, size // 6)
                )
        words = "SUCCESS" if success else f"FAILED: {reason}" if reason else "FAILED"
        room = width - 4 * size
        # A long reason is set smaller before it is cut.
        font = next(
            (f for f in map(_font, (size, round(0.8 * size))) if f.getlength(words) <= room), _font(2 * size // 3)
        )
        draw.text((x + 2 * size, y), _fit(words, font, room), "white", font, "lm")

    def _encode(self, canvas: Image) -> None:
        frame = self._av.VideoFrame.from_ndarray(np.asarray(canvas), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts = self._count
        frame.time_base = 1 / self._rate
        self._count += 1
        self._container.mux(self._stream.encode(frame))


def write_video(path: str | Path, episode: Episode) -> None:
    """The film of an episode that was run; one without an outside view shows the head's in its place.

    Raises:
        ValueError: the episode has no pictures.
        OSError: the file cannot be written.
    """
    from bytemini_core.types import OBSERVATION_PERIOD

    from bytemini_sim.model import OUTSIDE_CAMERA

    if not episode.frames:
        raise ValueError("the episode has no pictures to make a film of: run it with cameras")
    first = episode.frames[0]
    large = OUTSIDE_CAMERA if OUTSIDE_CAMERA in first.views else next(iter(first.views))
    size = film_size(first.views[large], {name: view for name, view in first.views.items() if name != large})
    result = episode.result
    with EpisodeVideo(path, result.instruction, 1.0 / OBSERVATION_PERIOD, size) as film:
        for frame in episode.frames:
            film.add(
                FrameData(
                    time=(frame.stamp - first.stamp) / NANOSECONDS,
                    outside=frame.views[large],
                    views={name: view for name, view in frame.views.items() if name != large},
                    task_status=frame.task_status,
                    confidence=frame.confidence,
                    phase=frame.phase,
                    mode=frame.mode,
                )
            )
        film.finish(result.success, result.failure or "")


_BT709 = (1, 1, 1, 1)
"""Colour tags of the stream: limited range, BT.709 matrix, primaries and transfer; players guess otherwise."""


def _place(canvas: Image, picture: Pixels, box: tuple[int, int, int, int], cover: bool) -> None:
    """Scale `picture` into `box`: cut to fill it (`cover`), or whole with plates beside it."""
    from PIL import Image

    left, top, width, height = box
    rows, columns = picture.shape[:2]
    image = Image.fromarray(picture)
    if (columns, rows) == (width, height):
        canvas.paste(image, (left, top))
        return
    if cover:
        scale = max(width / columns, height / rows)
        cut_w, cut_h = width / scale, height / scale
        x, y = (columns - cut_w) / 2, (rows - cut_h) / 2
        source: tuple[float, float, float, float] = (x, y, x + cut_w, y + cut_h)
        canvas.paste(image.resize((width, height), Image.Resampling.BILINEAR, box=source), (left, top))
        return
    scale = min(width / columns, height / rows)
    w, h = max(1, round(columns * scale)), max(1, round(rows * scale))
    if (w, h) != (width, height):
        canvas.paste(_PLATE, (left, top, left + width, top + height))
    place = (left + (width - w) // 2, top + (height - h) // 2)
    canvas.paste(image.resize((w, h), Image.Resampling.BILINEAR), place)
