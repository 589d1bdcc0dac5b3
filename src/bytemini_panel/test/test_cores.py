"""What is shown and what is taken, without ROS and without a browser."""

import contextlib
import json
import math

import numpy as np
import pytest
from bytemini_core.diagnostics import Level, Meter, text
from bytemini_core.types import NANOSECONDS
from bytemini_description.robot import load_robot
from bytemini_panel.advice import DEFAULT, advice
from bytemini_panel.dashboard import BUCKET, MODE_SILENCE, POINTS, SILENCE, Dashboard, Series
from bytemini_panel.figure import figure
from bytemini_panel.jerk import JerkMeter
from bytemini_panel.requests import Cancel, EStop, Hold, Reset, Run, Save, read
from bytemini_panel.ring import Record, Ring
from bytemini_panel.run_folder import RUN, RunFolder, environment, new_run, this_run, versions
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"type": "estop"}, EStop()),
        ({"type": "hold", "id": 3}, Hold()),
        ({"type": "cancel"}, Cancel()),
        ({"type": "save"}, Save()),
        ({"type": "reset", "confirmed": True}, Reset()),
        ({"type": "run", "instruction": " put it there "}, Run("put it there")),
        ({"type": "run", "instruction": "x", "time_limit": 12}, Run("x", 12.0)),
    ],
)
def test_requests_are_read(message, expected):
    assert read(json.dumps(message)) == (expected, message.get("id", 0))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "not JSON"),
        ("[]", "expected an object"),
        ('{"type": "dance"}', "unknown request 'dance'"),
        ('{"type": ["run"]}', "unknown request"),
        ('{"type": "hold", "id": "1"}', "whole number"),
        ('{"type": "hold", "mode": "POLICY"}', "hold has no mode"),
        ('{"type": "reset"}', "confirmed"),
        ('{"type": "reset", "confirmed": 1}', "confirmed"),
        ('{"type": "run"}', "empty"),
        ('{"type": "run", "instruction": "   "}', "empty"),
        ('{"type": "run", "instruction": 7}', "empty"),
        (json.dumps({"type": "run", "instruction": "x" * 501}), "501 characters"),
        (json.dumps({"type": "run", "instruction": "a\u0000b"}), "cannot be printed"),
        ('{"type": "run", "instruction": "x", "time_limit": -1}', "time_limit"),
        ('{"type": "run", "instruction": "x", "time_limit": NaN}', "time_limit"),
        ('{"type": "run", "instruction": "x", "time_limit": "9"}', "time_limit"),
        ('{"type": "run", "instruction": "x", "time_limit": true}', "time_limit"),
        (b"\x00\x01", "binary"),
    ],
)
def test_bad_requests_are_refused_with_a_reason(message, reason):
    with pytest.raises(ValueError, match=reason):
        read(message)


@given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps)))
def test_nothing_but_a_request_or_a_refusal_comes_out(message):
    with contextlib.suppress(ValueError):
        request, _ = read(message)
        assert isinstance(request, EStop | Hold | Cancel | Save | Reset | Run)


def shown(board, now):
    return json.loads(json.dumps(board.snapshot(now)))


def test_a_silent_controller_is_not_shown_as_if_it_spoke():
    board = Dashboard(())
    assert "no whole-body controller" in shown(board, 0.0)["reason"]
    board.heard_mode(1.0, 0.0, "POLICY", "")
    assert shown(board, 1.5)["mode"] == "POLICY"
    late = shown(board, 1.1 + MODE_SILENCE)
    assert late["mode"] == ""
    assert "was POLICY" in late["reason"]


def test_faults_are_what_takes_the_robot_away_and_no_more():
    told = []
    board = Dashboard((), on_fault=lambda fault: told.append(fault.text))
    for mode, reason in (
        ("HOLD", "started; no owner yet"),
        ("POLICY", ""),
        ("HOLD", "hold was requested"),
        ("POLICY", ""),
        ("HOLD", "reference is stale: 0.2 s old"),
        ("HOLD", "reference is stale: 0.3 s old"),
        ("ESTOP", "emergency stop was requested"),
        ("ESTOP", "emergency stop was requested"),
    ):
        board.heard_mode(0.0, 5.0, mode, reason)
    assert told == ["reference is stale: 0.2 s old", "emergency stop was requested"]
    assert "headset fell silent" in board.faults[1].fix
    assert "Reset" in board.faults[0].fix


def test_nodes_that_err_or_fall_silent_are_told_once_and_counted():
    board = Dashboard(())
    for now in range(3):
        board.heard_node(float(now), 0.0, "cameras: head", int(Level.ERROR), "no camera", {"color_rate": "0"})
        board.watch(float(now), 0.0)
    assert [(f.source, f.count) for f in board.faults] == [("cameras: head", 1)]
    board.heard_node(2.5, 0.0, "sim", int(Level.ERROR), "an elbow has 86 °C", {})
    board.heard_node(2.6, 0.0, "sim", int(Level.ERROR), "an elbow has 87 °C", {})
    assert (board.faults[0].text, board.faults[0].count, len(board.faults)) == ("an elbow has 86 °C", 1, 2)
    board.faults.popleft()
    board._rows.pop("sim")
    board.heard_node(3.0, 0.0, "cameras: head", 0, "", {})
    board.watch(3.0 + SILENCE + 0.1, 0.0)
    board.watch(3.0 + SILENCE + 0.2, 0.0)
    assert board.faults[0].text.startswith("no word for")
    assert len(board.faults) == 2
    row = shown(board, 3.0 + SILENCE + 1)["nodes"][0]
    assert row["level"] == int(Level.STALE)
    board.heard_node(9.0, 0.0, "cameras: head", int(Level.ERROR), "no camera", {})
    assert board.faults[0].count == 2  # the same again: counted, in front
    board.watch(1000.0, 0.0)
    assert shown(board, 1000.0)["nodes"] == []


def test_log_lines_of_errors_are_faults_and_others_are_not():
    board = Dashboard(())
    board.heard_log(0.0, 30, "a", "warning")
    board.heard_log(0.0, 40, "a", "error")
    assert [fault.text for fault in board.faults] == ["error"]


def test_another_robots_nodes_are_not_shown():
    board = Dashboard((), "/left")
    for name in ("left/wbc_controller", "right/wbc_controller", "leftover"):
        board.heard_node(0.0, 0.0, name, int(Level.ERROR), "broken", {})
    board.heard_log(0.0, 40, "left.cameras", "gone")
    board.heard_log(0.0, 40, "right.cameras", "gone")
    assert [row["name"] for row in shown(board, 0.0)["nodes"]] == ["left/wbc_controller"]
    assert [fault.source for fault in board.faults] == ["left.cameras", "left/wbc_controller"]


def test_a_plot_keeps_peaks_and_shows_gaps():
    series = Series()
    for now, value in ((0.01, 1.0), (0.05, 9.0), (0.1, 2.0), (0.11, math.nan), (3 * BUCKET + 0.01, 4.0)):
        series.add(now, value)
    series.advance(4 * BUCKET + 0.01)
    assert list(series.points) == [9.0, None, None, 4.0]
    series.advance(1e6)
    assert len(series.points) == POINTS


def test_topic_rates():
    board = Dashboard(())
    for i in range(400):
        board.heard_topic(i / 200, "joint_states")
    assert shown(board, 2.0)["topics"]["joint_states"] == pytest.approx(200, abs=1)
    assert shown(board, 9.0)["topics"]["joint_states"] == 0


def test_every_known_fault_has_advice():
    for reason in (
        "no robot state for 0.1 s",
        "emergency stop: circuit button is open: the button is pressed, or its cable is cut",
        "no sign of life from cameras: is it running?",
        "the same picture comes again and again under new stamps: the camera hangs, or has no light",
        "reference is stamped 1.0 s in the future: check that the clocks agree",
        "base reference jumps by 0.5",
        "only 3 MB are free on the disk of x",
    ):
        assert advice(reason) != DEFAULT
    assert advice("something else") == DEFAULT


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_figure_has_every_link_and_joint_parents_first(version):
    robot = load_robot(version)
    drawn = json.loads(json.dumps(figure(robot.urdf)))
    known = {drawn["root"]}
    for joint in drawn["joints"]:
        assert joint["parent"] in known
        known.add(joint["child"])
        assert np.linalg.norm(joint["pose"][3:]) == pytest.approx(1)
    assert known == set(drawn["links"])
    assert set(robot.joint_names) <= {j["name"] for j in drawn["joints"] if j["motion"] != "fixed"}
    assert sum(len(shapes) for shapes in drawn["links"].values()) > 50


@pytest.mark.parametrize(
    "urdf",
    ["", "<robot", "<robot/>", '<robot><link name="a"/><link name="b"/></robot>', '<robot><joint name="j"/></robot>'],
)
def test_a_bad_description_is_refused(urdf):
    with pytest.raises(ValueError, match=r"description|joint"):
        figure(urdf)


def test_jerk_is_the_second_derivative_of_velocity():
    meter = JerkMeter(("a", "b"), np.array([100.0, 10.0]))
    step = 5_000_000
    shares = []
    for i in range(40):
        t = i * step / NANOSECONDS
        shares.append(meter.add(i * step, ("a", "b"), np.array([25.0 * t * t, -t])))  # jerk of a: 50
    told = [share for share in shares if not math.isnan(share)]
    assert len(told) == 8
    np.testing.assert_allclose(told, 0.5)
    assert math.isnan(meter.add(NANOSECONDS, ("a", "b"), np.zeros(2)))  # a gap: another motion
    assert math.isnan(meter.add(NANOSECONDS + step, ("b",), np.zeros(1)))


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 40)), max_size=60))
def test_the_ring_is_bounded_in_time_and_size(steps):
    ring, now = Ring(10.0, 200), 0.0
    for step, size in steps:
        now += step
        ring.add(Record("/t", bytes(size), now, 0))
        held = ring.records()
        assert ring.size == sum(len(record.data) for record in held) <= 200
        assert all(record.at >= now - 10.0 for record in held)


def test_a_run_folder_holds_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv(RUN, "20260101-000000-beef")
    assert this_run() == "20260101-000000-beef"
    assert environment("r")[RUN] == "r"
    folder = RunFolder(tmp_path, this_run())
    folder.describe(["/b", "/a"])
    folder.parameters("/a", {"rate": 30})
    folder.log(1.0, "warn", "a", 'it said "no"')
    folder.close()
    again = RunFolder(tmp_path, this_run())  # a restarted recorder goes on
    again.log(2.0, "info", "a", "back")
    again.close()
    lines = [json.loads(line) for line in (folder.path / "log.jsonl").read_text().splitlines()]
    assert [(line["run"], line["text"]) for line in lines] == [
        ("20260101-000000-beef", 'it said "no"'),
        ("20260101-000000-beef", "back"),
    ]
    told = json.loads((folder.path / "run.json").read_text())
    assert told["nodes"] == ["/a", "/b"]
    assert told["versions"]["numpy"] == np.__version__
    assert "rate: 30" in (folder.path / "parameters.yaml").read_text()
    first = folder.fault("Reference is stale: 0.2 s!")
    assert first.name == "001-reference-is-stale-0-2-s"
    first.mkdir()
    assert folder.fault("").name == "002-fault"


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 81])
def test_a_run_name_that_is_no_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="run is called"):
        RunFolder(tmp_path, name)


def test_names_of_runs_differ():
    assert len({new_run(0.0) for _ in range(20)}) > 10
    assert versions()["python"].startswith("3.")


def test_meters_and_their_text():
    times = iter([0.0, 2.0, 2.0, 4.0, 4.0])
    meter = Meter(lambda: next(times))
    for seconds in (0.1, 0.3):
        meter.add(seconds)
    rate, mean, largest = meter.take()
    assert (rate, mean, largest) == (1.0, pytest.approx(0.2), 0.3)
    rate, mean, _ = meter.take()
    assert rate == 0
    assert math.isnan(mean)
    assert (text(0.123456), text(math.nan), text(3), text("x")) == ("0.1235", "", "3", "x")
