"""The format against itself, against pandas-free expectations of the specification, and against bad files."""

import json
import pickle
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bytemini_data.lerobot import Dataset, DatasetError, DatasetWriter, Feature, Schema
from bytemini_data.lerobot.schema import place
from bytemini_data.lerobot.stats import PictureStats, array_stats, combine
from bytemini_data.lerobot.video import Decoder, VideoWriter, index_video
from hypothesis import given, settings
from hypothesis import strategies as st

HEAD = "observation.images.head"


def test_what_was_written_is_read(small):
    data = Dataset(small)
    assert len(data) == 18
    assert data.tasks == ["task 0", "task 1"]
    assert [row.length for row in data.rows] == [5, 6, 7]
    assert [row.fields["success"] for row in data.rows] == [True, False, True]
    sample = data[7]  # episode 1, frame 2
    np.testing.assert_array_equal(sample["observation.state"], np.float32([2, 1, 0.5]))
    np.testing.assert_array_equal(sample["observation.valid"], [True, True])
    assert (sample["task"], sample["embodiment"], sample["task_status"]) == ("task 1", "robot", -1)
    assert sample["timestamp"] == np.float32(0.2)
    assert (sample["index"], sample["frame_index"], sample["episode_index"]) == (7, 2, 1)
    assert sample[HEAD].shape == (48, 64, 3)
    assert sample[HEAD].dtype == np.uint8


def test_every_picture_is_its_own(small, picture_of):
    data = Dataset(small)
    for index in range(len(data)):
        episode = data.episode_of(index)
        frame = index - data.span(episode)[0]
        for camera, name in enumerate(data.cameras):
            shown = data[index][name].astype(float)
            assert np.abs(shown - picture_of(episode, frame, camera)).mean() < 4.0
            other = picture_of(episode, frame + 1, camera).astype(float)
            assert np.abs(shown - other).mean() > 8.0


def test_delta_timestamps_stop_at_the_episodes_ends(small):
    data = Dataset(small, {"action": [0.0, 0.1, 0.2], "observation.state": [-0.1, 0.0], HEAD: [-0.1, 0.0]})
    last = data[10]  # the last of episode 1
    np.testing.assert_array_equal(last["action"][:, 0], [6, 6, 6])
    np.testing.assert_array_equal(last["action_is_pad"], [False, True, True])
    first = data[5]
    np.testing.assert_array_equal(first["observation.state"][:, 0], [0, 0])
    np.testing.assert_array_equal(first[f"{HEAD}_is_pad"], [True, False])
    assert first[HEAD].shape == (2, 48, 64, 3)
    np.testing.assert_array_equal(first[HEAD][0], first[HEAD][1])


def test_a_batch_is_its_samples_stacked_in_threads_and_processes(small):
    data = Dataset(small, {"action": [0.0, 0.1]}, threads=2)
    indices = [17, 0, 3, 3, -1]
    batch = data.batch(indices)
    for row, index in enumerate(indices):
        sample = data[index]
        for name, value in sample.items():
            np.testing.assert_array_equal(batch[name][row], value)
    copy = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(copy.batch(indices)[HEAD], batch[HEAD])
    with ThreadPoolExecutor(4) as pool:
        many = list(pool.map(lambda i: data[i % 18][HEAD], range(72)))
    for i in range(18):
        np.testing.assert_array_equal(many[i], many[i + 54])


def test_episodes_cameras_and_size_may_be_chosen(small):
    data = Dataset(small, episodes=[2, 0], cameras=(HEAD,), image_size=(24, 32))
    assert len(data) == 12
    assert data[0]["episode_index"] == 2
    assert data[7][HEAD].shape == (24, 32, 3)
    assert "observation.images.wrist" not in data[0]
    with pytest.raises(ValueError, match="episode 3 does not exist"):
        Dataset(small, episodes=[3])
    with pytest.raises(ValueError, match="no camera"):
        Dataset(small, cameras=("nose",))
    with pytest.raises(ValueError, match="multiples of 1/10"):
        Dataset(small, {"action": [0.05]})
    with pytest.raises(IndexError):
        data[12]


def test_tasks_have_the_pandas_note_without_which_instructions_are_lost(small):
    schema = pq.read_schema(small / "meta/tasks.parquet")
    note = json.loads(schema.metadata[b"pandas"])
    assert note["index_columns"] == ["task"]
    assert schema.names == ["task_index", "task"]


def test_files_are_as_the_format_says(small):
    info = json.loads((small / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_frames"]) == ("v3.0", 10, 18)
    assert info["splits"] == {"train": "0:3"}
    table = pq.read_table(small / "data/chunk-000/file-001.parquet")
    declared = [n for n, f in info["features"].items() if f["dtype"] != "video"]
    assert table.column_names == declared
    assert pa.types.is_fixed_size_list(table.schema.field("action").type)
    assert table.schema.field("task_status").type == pa.int64()
    assert place(1999) == {"chunk_index": 1, "file_index": 999}
    stats = json.loads((small / "meta/stats.json").read_text())
    assert np.shape(stats[HEAD]["mean"]) == (3, 1, 1)
    assert 0 <= stats[HEAD]["min"][0][0][0] <= stats[HEAD]["max"][0][0][0] <= 1
    assert stats["action"]["count"] == [18]


def test_going_on_adds_and_another_schema_or_writer_is_refused(small, make_small, schema):
    with DatasetWriter(small) as writer:
        with pytest.raises(DatasetError, match="written by another process"):
            DatasetWriter(small)
        assert make_small(writer, 4, "task 1") == 3
    assert len(Dataset(small)) == 22
    other = Schema(20, schema.features, "", schema.episode_fields)
    with pytest.raises(DatasetError, match="fps is 10, not 20"):
        DatasetWriter(small, other)
    fewer = Schema(10, {k: v for k, v in schema.features.items() if k != "action"}, "", schema.episode_fields)
    with pytest.raises(DatasetError, match="differ in action"):
        DatasetWriter(small, fewer)


def test_a_folder_of_something_else_is_left_alone(tmp_path, schema):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match="holds something that is no dataset"):
        DatasetWriter(tmp_path, schema)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_bad_frames_are_refused_and_a_discarded_episode_leaves_nothing(small, frame_of):
    with DatasetWriter(small) as writer:
        with writer.begin("x") as building:
            with pytest.raises(ValueError, match="not finite"):
                building.add({**frame_of(0, 0), "action": [np.nan, 0, 0]})
            with pytest.raises(ValueError, match="shape"):
                building.add({**frame_of(0, 0), "action": [0, 0]})
            with pytest.raises(ValueError, match="differ in extra"):
                building.add({**frame_of(0, 0), "extra": 1})
            with pytest.raises(ValueError, match="picture"):
                building.add({**frame_of(0, 0), HEAD: np.zeros((2, 2, 3), np.uint8)})
        assert not list((small / ".staging").iterdir())
        with pytest.raises(ValueError, match="no frame"):
            writer.begin("x").finish()
        with pytest.raises(ValueError, match="no instruction"):
            writer.begin("  ")


@pytest.mark.parametrize("stop", range(1, 8))
def test_a_death_within_the_moves_loses_nothing(small, make_small, monkeypatch, stop):
    """Stop at the nth durable step of a commit; whoever opens next finds the episode whole or not at all."""
    import bytemini_data.lerobot.writer as module

    before = (small / "meta/info.json").read_text()
    writer = DatasetWriter(small)
    steps = 0

    def dying(function):
        def call(*arguments):
            nonlocal steps
            steps += 1
            if steps == stop:
                raise KeyboardInterrupt
            return function(*arguments)

        return call

    for name in ("move", "replace_json", "write_parquet"):
        monkeypatch.setattr(module, name, dying(getattr(module, name)))
    with pytest.raises(KeyboardInterrupt):
        make_small(writer, 9, "another task")
    journal = any((small / ".staging").glob("*/commit.json"))
    writer.close()
    monkeypatch.undo()
    assert (small / "meta/info.json").read_text() == before
    with DatasetWriter(small) as again:
        assert again.episodes == 3 + journal
        assert again.recovery.finished == ((3,) if journal else ())
        make_small(again, 4)
    data = Dataset(small)
    assert len(data) == 18 + 9 * journal + 4
    data.batch(range(len(data)))


# Bad files


def damage(root, path, change):
    table = change(pq.read_table(root / path))
    pq.write_table(table, root / path)


DATA = "data/chunk-000/file-001.parquet"
ROW = "meta/episodes/chunk-000/file-001.parquet"


def set_column(name, values):
    return lambda t: t.set_column(t.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        (DATA, lambda t: t.append_column("extra", pa.array([0] * len(t))), "column extra is not declared"),
        (DATA, lambda t: t.drop_columns(["action"]), "column action is missing"),
        (DATA, lambda t: t.slice(0, 4), "episode_index 1 has 4 rows, expected 6"),
        (DATA, set_column("timestamp", [0, 0.1, 0.2, 0.3, 0.4, 1.7e9]), "timestamp of frame 5 of episode 1"),
        (DATA, set_column("index", [5, 6, 7, 8, 9, 11]), "index of frame 5"),
        (DATA, set_column("task_index", [9] * 6), "task_index 9"),
        (DATA, set_column("action", ["x"] * 6), "column action is string"),
        (DATA, set_column("action", [[1.0, 2.0]] * 6), "column action has 12 numbers"),
        (ROW, set_column("episode_index", [0]), "episode_index 0 appears twice"),
        (ROW, set_column("episode_index", [7]), "episode_index is 2, expected 1"),
        (ROW, set_column("length", [3]), "length of episode 1 is 3"),
        (ROW, set_column("tasks", [["fly"]]), "'fly' is not in meta/tasks.parquet"),
        (ROW, lambda t: t.drop_columns(["data/file_index"]), "column data/file_index is missing"),
    ],
)
def test_wrong_tables_are_refused_by_file_and_field(small, path, change, says):
    damage(small, path, change)
    with pytest.raises(DatasetError, match=says) as caught:
        Dataset(small)
    assert "file-00" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", [DATA, ROW, "meta/tasks.parquet", "meta/info.json"])
@pytest.mark.parametrize("size", [0, 40, -20])
def test_truncated_tables_are_refused(small, path, size):
    content = (small / path).read_bytes()
    (small / path).write_bytes(content[:size])
    with pytest.raises(DatasetError, match=path.rpartition("/")[2]):
        Dataset(small)


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0.0, 0.999))
def test_a_truncated_video_never_gives_a_wrong_picture(tmp_path_factory, share):
    folder = tmp_path_factory.mktemp("video")
    path = folder / "v.mp4"
    with VideoWriter(path, 10, (48, 64)) as video:
        for i in range(8):
            video.write(np.full((48, 64, 3), 20 * i, np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    try:
        shown = Decoder().read(index_video(path), range(8))
    except DatasetError:
        pass
    else:  # what was cut off described the file and held no picture
        np.testing.assert_allclose(shown.mean((1, 2, 3)), 20 * np.arange(8), atol=3)


def test_wrong_info_is_refused(small):
    path = small / "meta/info.json"
    good = json.loads(path.read_text())
    for change, says in (
        ({"codebase_version": "v2.1"}, "codebase_version is 'v2.1'"),
        ({"fps": 0}, "fps is 0"),
        ({"features": {"a/b": {"dtype": "int64", "shape": [1]}}}, "features"),
        ({"features": {**good["features"], "x": {"dtype": "blob", "shape": [1]}}}, "dtype is 'blob'"),
        ({"total_episodes": 4}, "holds 3 episodes, expected 4"),
        ({"total_episodes": "many"}, "many"),
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(DatasetError, match=says):
            Dataset(small)
    path.write_text("[]")
    with pytest.raises(DatasetError, match="expected an object"):
        Dataset(small)
    with pytest.raises(DatasetError, match="is no dataset"):
        Dataset(small / "data")


# Files of others


def test_many_episodes_in_one_file_and_video_with_long_gops(tmp_path, picture_of):
    """lerobot's own layout: shared files, lists of any length, groups of pictures with references forward."""
    root = tmp_path / "theirs"
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    video = root / f"videos/{HEAD}/chunk-000"
    video.mkdir(parents=True)
    lengths = [4, 9]
    schema = Schema(10, {HEAD: Feature("video", (48, 64, 3)), "action": Feature("float32", (2,))})
    (root / "meta/info.json").write_text(json.dumps(schema.info(2, 13, 1)))
    pq.write_table(pa.table({"task_index": [0], "__index_level_0__": ["go"]}), root / "meta/tasks.parquet")
    count = [i for n in lengths for i in range(n)]
    pq.write_table(
        pa.table(
            {
                "action": pa.array([[float(i), 0.0] for i in range(13)], pa.list_(pa.float64())),
                "timestamp": pa.array([i / 10 for i in count], pa.float64()),
                "frame_index": count,
                "episode_index": [0] * 4 + [1] * 9,
                "index": list(range(13)),
                "task_index": [0] * 13,
            }
        ),
        root / "data/chunk-000/file-000.parquet",
    )
    zero = [0, 0]
    pq.write_table(
        pa.table(
            {
                "episode_index": [0, 1],
                "tasks": [["go"], ["go"]],
                "length": lengths,
                "data/chunk_index": zero,
                "data/file_index": zero,
                "dataset_from_index": [0, 4],
                "dataset_to_index": [4, 13],
                f"videos/{HEAD}/chunk_index": zero,
                f"videos/{HEAD}/file_index": zero,
                f"videos/{HEAD}/from_timestamp": [0.0, 0.4],
            }
        ),
        root / "meta/episodes/chunk-000/file-000.parquet",
    )
    with av.open(str(video / "file-000.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "14"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 12, 3
        for i in range(13):
            picture = picture_of(0 if i < 4 else 1, i if i < 4 else i - 4)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    data = Dataset(root, {HEAD: [-0.2, 0.0]})
    for index in range(13):
        episode = data.episode_of(index)
        frame = index - data.span(episode)[0]
        sample = data[index]
        assert np.abs(sample[HEAD][1].astype(float) - picture_of(episode, frame)).mean() < 5.0
        assert np.abs(sample[HEAD][0].astype(float) - picture_of(episode, max(0, frame - 2))).mean() < 5.0
        assert sample["action"][0] == index


# Statistics


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_statistics_of_parts_are_those_of_the_whole(sizes, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(rng.normal(), 2, (size, 3)) for size in sizes]
    whole, mine = array_stats(np.concatenate(parts)), combine([array_stats(part) for part in parts])
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(mine[name], whole[name], atol=1e-9)


def test_statistics_of_pictures_are_those_of_their_pixels():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)
    stats = PictureStats()
    for picture in pictures:
        stats.add(picture)
    pixels = pictures[:, ::4, ::4].reshape(-1, 3) / 255
    result = stats.result()
    for name, value in (
        ("mean", pixels.mean(0)),
        ("std", pixels.std(0)),
        ("min", pixels.min(0)),
        ("max", pixels.max(0)),
    ):
        np.testing.assert_allclose(result[name].ravel(), value, atol=1e-9)
    np.testing.assert_allclose(result["q50"].ravel(), np.quantile(pixels, 0.5, axis=0), atol=0.03)


# Kills


def _write_on(root, pipe, add):
    with DatasetWriter(root) as writer:
        pipe.send(("opened", writer.episodes))
        while True:
            pipe.send(("saved", add(writer, 6)))


@pytest.mark.slow
def test_kills_at_random_moments_lose_no_saved_episode(small, make_small):
    rng = np.random.default_rng(4)
    saved = 3
    for _ in range(8):
        context = get_context("fork")
        mine, other = context.Pipe(duplex=False)
        process = context.Process(target=_write_on, args=(small, other, make_small))
        process.start()
        other.close()
        assert mine.poll(20)
        mine.recv()
        time.sleep(float(rng.uniform(0.0, 0.4)))
        process.kill()
        process.join()
        try:
            while mine.poll(0):
                _, index = mine.recv()
                saved = index + 1
        except EOFError:
            pass
        with DatasetWriter(small) as writer:
            assert writer.episodes >= saved
            saved = writer.episodes
        data = Dataset(small)
        assert len(data.rows) == saved
        assert data.batch(range(len(data)))[HEAD].shape[0] == len(data)
    assert not (small / ".staging").exists() or not list((small / ".staging").iterdir())
    shutil.rmtree(small)
