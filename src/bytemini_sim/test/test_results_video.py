from pathlib import Path

import av
import numpy as np
import pytest
from bytemini_core.types import CAMERAS, NANOSECONDS, TaskStatus
from bytemini_sim.episode import Episode, Frame
from bytemini_sim.results.report import EpisodeResult
from bytemini_sim.results.trajectory import TrajectoryLog
from bytemini_sim.results.video import EpisodeVideo, FrameData, _fit, _font, _Layout, film_size, write_video

RED, GREEN, BLUE, YELLOW = (200, 30, 30), (30, 160, 60), (40, 60, 200), (210, 190, 40)


def plain(color: tuple[int, int, int], size: tuple[int, int] = (224, 224)) -> np.ndarray:
    return np.full((*size, 3), color, dtype=np.uint8)


def data(time: float = 0.0, views: bool = True, **more: object) -> FrameData:
    pictures = dict(zip(CAMERAS, map(plain, (GREEN, BLUE, YELLOW)), strict=True)) if views else {}
    return FrameData(time, plain(RED, (480, 640)), pictures, **more)  # type: ignore[arg-type]


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_every_view_is_where_it_belongs_in_its_own_colours(tmp_path: Path) -> None:
    path = tmp_path / "films" / "episode.mp4"
    with EpisodeVideo(path, "put the apple into the basket") as film:
        for index in range(10):
            film.add(data(index / 10))
        film.finish(True)
    frames = decode(path)
    assert len(frames) == 10 + 15
    assert frames[0].shape == (540, 960, 3)
    layout = _Layout.of((960, 540), data().views)
    boxes = [layout.outside, *layout.views.values()]
    for (left, top, width, height), color in zip(boxes, (RED, GREEN, BLUE, YELLOW), strict=True):
        x, y = left + width // 2, top + height // 2
        np.testing.assert_allclose(frames[5][y - 4 : y + 4, x - 4 : x + 4].mean((0, 1)), color, atol=6)
    banner = frames[-1][layout.outside[3] - 20, 600]
    assert banner[1] > banner[0], "green for success"
    np.testing.assert_allclose(frames[5][layout.outside[3] - 20, 600], RED, atol=6)


def test_the_file_is_h264_that_starts_playing_at_once(tmp_path: Path) -> None:
    path = tmp_path / "episode.mp4"
    noise = np.random.default_rng(0)
    with EpisodeVideo(path, "put the apple into the basket") as film:
        for index in range(50):
            outside = noise.integers(0, 255, (480, 640, 3), dtype=np.uint8)
            film.add(FrameData(index / 10, outside, {"head": outside[:224, :224]}, phase="grasp", mode="POLICY"))
        film.finish(False, "noise, the worst there is to compress")
    assert path.stat().st_size < 3_000_000 * 6.5 / 15, "3 MB for 15 s, the closing picture included"
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 10.0
        assert float(stream.duration * stream.time_base) == pytest.approx(6.5)


def test_an_exception_leaves_a_playable_film(tmp_path: Path) -> None:
    film = EpisodeVideo(tmp_path / "episode.mp4", "x")

    def record() -> None:
        with film:
            for index in range(7):
                film.add(data(index / 10))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record()
    assert len(decode(tmp_path / "episode.mp4")) == 7
    film.close()
    film.finish(True)
    with pytest.raises(ValueError, match="is closed"):
        film.add(data())


def test_a_film_of_nothing_leaves_no_file(tmp_path: Path) -> None:
    with EpisodeVideo(tmp_path / "episode.mp4", "x") as film:
        film.finish(False, "never began")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [(1280, 720), (960, 540), (640, 360), (320, 180)])
@pytest.mark.parametrize("shape", [(224, 224), (480, 640), (640, 480)])
def test_nothing_overlaps_or_leaves_the_picture(size: tuple[int, int], shape: tuple[int, int]) -> None:
    layout = _Layout.of(size, {name: plain(RED, shape) for name in CAMERAS})
    taken = np.zeros((size[1], size[0]), dtype=int)
    for left, top, width, height in (layout.outside, layout.strip, *layout.views.values()):
        assert min(left, top) >= 0
        assert min(width, height) > 0
        assert left + width <= size[0]
        assert top + height <= size[1]
        taken[top : top + height, left : left + width] += 1
    assert taken.max() == 1
    assert taken.mean() > 0.9


@pytest.mark.parametrize("size", [(1280, 720), (640, 360), (320, 180)])
def test_long_words_stay_in_their_columns(tmp_path: Path, size: tuple[int, int]) -> None:
    """The longest caption must leave the pixels between the columns and around the strip as they were."""
    words = "extraordinarily long " * 20
    with EpisodeVideo(tmp_path / "a.mp4", words, size=size) as film:
        full = data(123.4, task_status=TaskStatus.TERMINATED, confidence=1.0, phase=words, mode="POLICY" * 9)
        pixels = np.asarray(film.compose(full)).astype(int)
        film.finish(False, words)
    _, top, width, _ = _Layout.of(size, full.views).strip
    strip = pixels[top:]
    assert (strip[:, -2:] == strip[0, 0]).all()
    assert (strip[-1] == strip[0, 0]).all()
    text = _Layout.of(size, full.views).text
    second = strip[round(1.9 * text) :]
    pad = text // 2
    for part in (0.13, 0.27, 0.62):
        edge = round(pad + part * (width - 2 * pad))
        assert (second[:, edge - pad // 2 : edge - 1] == strip[0, 0]).all(), part


def test_missing_views_give_the_room_to_the_outside_view(tmp_path: Path) -> None:
    with EpisodeVideo(tmp_path / "episode.mp4", "x") as film:
        pixels = np.asarray(film.compose(data(views=False)))
        np.testing.assert_allclose(pixels[200, 950], RED, atol=2)
        pixels = np.asarray(film.compose(data()))
        np.testing.assert_allclose(pixels[100, 950], GREEN, atol=2)


def test_film_size_shows_the_outside_view_whole() -> None:
    for shape in ((480, 640), (360, 640), (640, 480)):
        outside = plain(RED, shape)
        size = film_size(outside, data().views)
        assert size[0] % 2 == 0
        _, _, width, height = _Layout.of(size, data().views).outside
        assert width / height == pytest.approx(shape[1] / shape[0], rel=0.01)


def test_text_is_cut_to_fit() -> None:
    font = _font(18)
    assert _fit("short", font, 200) == "short"
    cut = _fit("a text that is much too long\nfor its room", font, 120)
    assert cut.endswith("...")
    assert font.getlength(cut) <= 120


@pytest.mark.parametrize("frames", [0, 4])
def test_an_episode_becomes_a_film(tmp_path: Path, frames: int) -> None:
    result = EpisodeResult(0, "put it there", "basic", True, False, 0.0, TaskStatus.ONGOING, 1, 1, 0, 0, 0, "dropped")
    views = {**data().views, "outside": plain(RED, (480, 640))}
    pictures = [Frame(5 * NANOSECONDS + index * NANOSECONDS // 10, views, phase="grasp") for index in range(frames)]
    episode = Episode(result, TrajectoryLog(("a",)).trajectory(), "", pictures)
    path = tmp_path / "episode.mp4"
    if not frames:
        with pytest.raises(ValueError, match="has no pictures"):
            write_video(path, episode)
        return
    write_video(path, episode)
    film = decode(path)
    assert len(film) == 4 + 15
    np.testing.assert_allclose(film[0][200, 200], RED, atol=6)
    del episode.frames[0].views["outside"]  # type: ignore[attr-defined]
    write_video(path, episode)
    np.testing.assert_allclose(decode(path)[0][200, 200], GREEN, atol=6)


def test_bad_input_is_refused_with_words(tmp_path: Path) -> None:
    for size in ((961, 540), (960, 541), (100, 100)):
        with pytest.raises(ValueError, match="expected even numbers"):
            EpisodeVideo(tmp_path / "x.mp4", "x", size=size)
    with pytest.raises(ValueError, match="expected 1 to 120"):
        EpisodeVideo(tmp_path / "x.mp4", "x", frames_per_second=0)
    with pytest.raises(ValueError, match=r"picture head is float64 .*, expected uint8 \(H, W, 3\)"):
        FrameData(0.0, plain(RED), {"head": np.zeros((4, 4, 3))})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="picture outside is uint8"):
        FrameData(0.0, np.zeros((4, 4), dtype=np.uint8))
