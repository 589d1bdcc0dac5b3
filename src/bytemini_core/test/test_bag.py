"""Bags are read back with the readers that others use: `mcap` and `rosbags`."""

import json
import os
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from bytemini_core.bag import BagWriter, TopicQos, message_definition, message_type_hash
from mcap.reader import NonSeekingReader, make_reader
from mcap.stream_reader import StreamReader

from bytemini_core import bag

HEADER = b"\x00\x01\x00\x00"
STRING_HASH = "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"

DEMO = {
    "demo_msgs/msg/Point": "float64 x\nfloat64 y\n",
    "demo_msgs/msg/Chunk": """\
# A comment about other_msgs/Nothing.
uint8 MODE_HOLD=0
string NAME="text"
builtin_interfaces/Time stamp # trailing other_msgs/Nothing x
Point[] points  # of this package
Point[<=3] few
demo_msgs/Point[2] two
float32[<=4] values
string<=5[] names
""",
    "demo_msgs/msg/Wide": "wstring wide\nwstring<=3[2] bounded\n",
    "builtin_interfaces/msg/Time": "int32 sec\nuint32 nanosec\n",
    "std_msgs/msg/String": "string data\n",
}


@pytest.fixture(autouse=True)
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ament prefix with a few types; nothing else is looked at but the interpreter's own."""
    root = tmp_path / "prefix"
    for name, text in DEMO.items():
        package, _, stem = name.split("/")
        path = root / "share" / package / "msg" / f"{stem}.msg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "share/std_msgs/msg/String.json").write_text(
        json.dumps({"type_hashes": [{"type_name": "std_msgs/msg/String", "hash_string": STRING_HASH}]})
    )
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'absent'}{os.pathsep}{root}")
    return root


def string(text: str) -> bytes:
    data = text.encode() + b"\0"
    return HEADER + struct.pack("<I", len(data)) + data


def chunk(points: list[tuple[float, float]]) -> bytes:
    """A demo_msgs/Chunk whose other fields are empty."""
    body = struct.pack("<iI", 3, 7) + struct.pack("<I", len(points))
    body += b"\0" * (-len(body) % 8) if points else b""
    body += b"".join(struct.pack("<dd", *point) for point in points)
    body += struct.pack("<I", 0)  # few
    body += b"\0" * (-len(body) % 8) + struct.pack("<4d", 1, 2, 3, 4)
    return HEADER + body + struct.pack("<II", 0, 0)


def write_demo(directory: Path, compression: str = "zstd") -> None:
    with BagWriter(directory, compression) as writer:
        writer.register("/talk", "std_msgs/msg/String")
        writer.register("/chunk", "demo_msgs/msg/Chunk", qos=TopicQos("best_effort", "transient_local", 1))
        for index in range(500):
            stamp = 1_000_000_000 + index * 5_000_000
            writer.write("/talk", string(f"{index}"), stamp, stamp - 1000)
            if index % 10 == 0:
                writer.write("/chunk", chunk([(float(index), 2.0)]), stamp)


@pytest.mark.parametrize("compression", ["zstd", "lz4", "none"])
def test_mcap_reads_back_every_byte(tmp_path: Path, compression: str) -> None:
    write_demo(tmp_path / "demo", compression)
    with (tmp_path / "demo/demo_0.mcap").open("rb") as stream:
        reader = make_reader(stream)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert summary.statistics.message_count == 550
        assert len(summary.chunk_indexes) == 3, "a chunk for each started second"
        by_topic = {channel.topic: channel for channel in summary.channels.values()}
        schema = summary.schemas[by_topic["/chunk"].schema_id]
        assert (schema.name, schema.encoding) == ("demo_msgs/msg/Chunk", "ros2msg")
        assert schema.data.decode() == message_definition("demo_msgs/msg/Chunk")
        qos = yaml.safe_load(by_topic["/chunk"].metadata["offered_qos_profiles"])
        assert qos[0]["reliability"] == "best_effort"
        messages = list(reader.iter_messages(topics=["/talk"]))
    assert [message.data for _, _, message in messages] == [string(str(index)) for index in range(500)]
    assert messages[3][2].log_time == 1_015_000_000
    assert messages[3][2].publish_time == 1_015_000_000 - 1000
    assert messages[3][1].message_encoding == "cdr"


def test_rosbags_opens_the_folder_and_deserialises(tmp_path: Path) -> None:
    highlevel = pytest.importorskip("rosbags.highlevel", reason="rosbags is a development dependency")
    write_demo(tmp_path / "demo")
    with highlevel.AnyReader([tmp_path / "demo"]) as reader:
        assert reader.message_count == 550
        assert reader.start_time == 1_000_000_000
        assert reader.duration == 499 * 5_000_000 + 1, "rosbags counts the end as exclusive"
        assert reader.topics["/chunk"].msgtype == "demo_msgs/msg/Chunk"
        connections = {connection.topic: connection for connection in reader.connections}
        assert connections["/talk"].digest == STRING_HASH
        talk = [
            reader.deserialize(raw, connection.msgtype).data
            for connection, _, raw in reader.messages([connections["/talk"]])
        ]
        assert talk == [str(index) for index in range(500)]
        connection, stamp, raw = list(reader.messages([connections["/chunk"]]))[4]
        message = reader.deserialize(raw, connection.msgtype)
        assert stamp == 1_200_000_000
        assert (message.stamp.sec, message.stamp.nanosec) == (3, 7)
        assert (message.points[0].x, message.points[0].y, message.two[1].y) == (40.0, 2.0, 4.0)


def test_metadata_is_what_rosbag2_expects(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo")
    text = (tmp_path / "demo/metadata.yaml").read_text()
    assert "&id" not in text, "aliases are legal YAML, but no rosbag2 writes them"
    info = yaml.safe_load(text)["rosbag2_bagfile_information"]
    assert info["version"] == 9
    assert info["storage_identifier"] == "mcap"
    assert info["relative_file_paths"] == ["demo_0.mcap"]
    assert info["message_count"] == 550
    assert info["duration"]["nanoseconds"] == 499 * 5_000_000
    assert info["starting_time"]["nanoseconds_since_epoch"] == 1_000_000_000
    assert info["files"][0] == {
        "path": "demo_0.mcap",
        "duration": info["duration"],
        "starting_time": info["starting_time"],
        "message_count": 550,
    }
    topics = {item["topic_metadata"]["name"]: item for item in info["topics_with_message_count"]}
    assert topics["/chunk"]["message_count"] == 50
    assert topics["/chunk"]["topic_metadata"]["serialization_format"] == "cdr"
    assert topics["/chunk"]["topic_metadata"]["offered_qos_profiles"][0]["durability"] == "transient_local"
    assert topics["/chunk"]["topic_metadata"]["type_description_hash"] == ""
    assert topics["/talk"]["topic_metadata"]["type_description_hash"].startswith("RIHS01_")
    with (tmp_path / "demo/demo_0.mcap").open("rb") as stream:
        records = [record.metadata for record in make_reader(stream).iter_metadata()]
    assert yaml.safe_load(records[-1]["serialized_metadata"]) == info


def test_an_empty_bag_is_valid(tmp_path: Path) -> None:
    highlevel = pytest.importorskip("rosbags.highlevel")
    with BagWriter(tmp_path / "empty") as writer:
        writer.register("/talk", "std_msgs/msg/String")
    with highlevel.AnyReader([tmp_path / "empty"]) as reader:
        assert reader.message_count == 0


def test_an_exception_in_the_block_leaves_a_complete_bag(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "demo")

    def record() -> None:
        with writer:
            writer.register("/talk", "std_msgs/msg/String")
            writer.write("/talk", string("said"), 5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record()
    with (tmp_path / "demo/demo_0.mcap").open("rb") as stream:
        assert [message.data for _, _, message in make_reader(stream).iter_messages()] == [string("said")]
    assert (tmp_path / "demo/metadata.yaml").is_file()
    writer.close()
    with pytest.raises(ValueError, match="is closed"):
        writer.write("/talk", string("late"), 6)


def test_a_killed_process_loses_at_most_the_last_chunk(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import os, signal, struct, sys
        from bytemini_core.bag import BagWriter
        writer = BagWriter(sys.argv[1])
        writer.register("/talk", "std_msgs/msg/String")
        for index in range(1000):
            text = f"{index:04}".encode() + bytes(1)
            message = bytes([0, 1, 0, 0]) + struct.pack("<I", len(text)) + text
            writer.write("/talk", message, index * 5_000_000)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    source = str(Path(bag.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "torn")], env=environment, check=False, timeout=60)
    path = tmp_path / "torn/torn_0.mcap"
    with path.open("rb") as stream, pytest.raises(Exception, match=r".*"):
        list(NonSeekingReader(stream).iter_messages())
    count = 0
    with path.open("rb") as stream:
        try:
            for record in StreamReader(stream, skip_magic=False).records:
                count += type(record).__name__ == "Message"
        except Exception:  # the end is torn: that is the point
            pass
    assert count >= 800, "1000 messages at 200 Hz: all but the last second must be there"


def test_message_definition_follows_every_field(prefix: Path) -> None:
    text = message_definition("demo_msgs/msg/Chunk")
    sections = text.split("=" * 80 + "\n")
    assert sections[0].rstrip("\n") == DEMO["demo_msgs/msg/Chunk"].rstrip("\n")
    assert [section.splitlines()[0] for section in sections[1:]] == [
        "MSG: builtin_interfaces/msg/Time",
        "MSG: demo_msgs/msg/Point",
    ]
    assert message_definition("demo_msgs/msg/Wide") == DEMO["demo_msgs/msg/Wide"]
    (prefix / "share/demo_msgs/msg/Bad.msg").write_text("absent_msgs/Nothing field\n")
    with pytest.raises(
        LookupError, match=r"no definition of absent_msgs/msg/Nothing.*share/absent_msgs/msg/Nothing.msg"
    ):
        message_definition("demo_msgs/msg/Bad")
    for name in ("String", "std_msgs/String", "std_msgs/srv/Empty", "../msg/x"):
        with pytest.raises(ValueError, match="expected 'package/msg/Type'"):
            message_definition(name)
    assert message_type_hash("demo_msgs/msg/Point") == ""


def test_installed_types_are_found_beside_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMENT_PREFIX_PATH")
    if not (Path(sys.prefix) / "share/sensor_msgs/msg/JointState.msg").is_file():
        pytest.skip("this interpreter has no ROS messages of its own")
    text = message_definition("sensor_msgs/msg/JointState")
    assert "MSG: std_msgs/msg/Header" in text
    assert "MSG: builtin_interfaces/msg/Time" in text
    assert message_type_hash("sensor_msgs/msg/JointState").startswith("RIHS01_")


def test_bad_input_is_refused_with_words(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").touch()
    with pytest.raises(FileExistsError, match="exists already"):
        BagWriter(tmp_path / "used")
    with pytest.raises(ValueError, match="expected zstd, lz4 or none"):
        BagWriter(tmp_path / "other", compression="gzip")
    with pytest.raises(ValueError, match="expected reliable or best_effort"):
        TopicQos(reliability="RELIABLE")
    with BagWriter(tmp_path / "demo") as writer:
        with pytest.raises(ValueError, match="was not registered"):
            writer.write("/talk", string(""), 0)
        with pytest.raises(ValueError, match="does not start with '/'"):
            writer.register("talk", "std_msgs/msg/String")
        writer.register("/talk", "std_msgs/msg/String")
        writer.register("/talk", "std_msgs/msg/String")
        with pytest.raises(ValueError, match=r"registered as std_msgs/msg/String"):
            writer.register("/talk", "demo_msgs/msg/Point")
        with pytest.raises(ValueError, match="not CDR"):
            writer.write("/talk", b"", 0)
        with pytest.raises(ValueError, match="negative time"):
            writer.write("/talk", string(""), -1)
        assert writer.message_count == 0
