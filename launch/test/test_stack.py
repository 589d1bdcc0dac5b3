"""The one description of the stack: every choice is checked, every parameter has a taker."""

from pathlib import Path

import pytest
import yaml
from bytemini_core.errors import UserError

from bytemini_bringup.processes import Restarts
from bytemini_bringup.stack import OPTIONS, environment, options, stack

PLAN = "{episodes: 1, actions: [wave]}"


def test_defaults_are_valid_choices():
    for option in OPTIONS:
        assert option.parse(str(option.default)) == option.default
        assert option.description
        assert all(option.parse(word) is not None for word in option.words)


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ({"robot": "v3"}, "robot is 'v3', expected v1 or v2"),
        ({"lockstep": "yes"}, "expected true or false"),
        ({"seed": "x"}, "expected a int"),
        ({"colour": "red"}, "no option 'colour'"),
    ],
)
def test_what_is_not_among_the_choices_is_refused(chosen, reason):
    with pytest.raises(ValueError, match=reason):
        options(**chosen)


def test_without_a_simulator_time_is_the_machines_own():
    names = {process.name: process for process in stack(options(sim="none"))}
    assert "bytemini_sim" not in names
    assert names["wbc_controller"].parameters["use_sim_time"] is False


def test_choices_reach_the_processes_that_need_them():
    processes = {p.name: p.parameters for p in stack(options(robot="v2", seed=7, lockstep=True, latency=0.2))}
    assert processes["bytemini_sim"]["seed"] == 7
    assert processes["trajectory_optimizer"]["latency"] == 0.2
    assert all(processes[n]["robot"] == "v2" for n in ("bytemini_sim", "wbc_controller", "gr3_policy"))
    assert all(processes[n]["lockstep"] is True for n in ("bytemini_sim", "wbc_controller", "trajectory_optimizer"))
    assert 'name="bytemini' in processes["robot_state_publisher"]["robot_description"]


def test_a_button_comes_before_the_controller_that_needs_its_word():
    processes = stack(options(estop_port="/dev/ttyUSB0", sim="none"))
    names = [process.name for process in processes]
    assert names.index("estop_button") < names.index("wbc_controller")
    by_name = {process.name: process.parameters for process in processes}
    assert by_name["estop_button"]["port"] == "/dev/ttyUSB0"
    assert by_name["wbc_controller"]["stop_circuits"] == [by_name["estop_button"]["circuit"]]
    assert "stop_circuits" not in {p.name: p.parameters for p in stack(options())}["wbc_controller"]
    with pytest.raises(ValueError, match="estop_port, and lockstep, exclude one another"):
        stack(options(estop_port="/dev/ttyUSB0", lockstep=True))


def test_the_robots_cameras_are_opened_by_serial_number():
    cameras = {p.name: p for p in stack(options(sim="none", head_serial="123", compressed=True))}["cameras"]
    assert cameras.parameters == {"head_serial": "123", "depth": False, "compressed": True}
    with pytest.raises(ValueError, match="need sim:=none"):
        stack(options(head_serial="123"))


def test_gazebo_gets_the_scene_the_robot_and_what_drives_it():
    processes = {p.name: p for p in stack(options(sim="gazebo", task="pick_place", seed=3, robot="v2"))}
    assert list(processes) == [
        "robot_state_publisher", "gazebo", "gazebo_bridge", "gazebo_spawn", "gazebo_controllers", "gazebo_driver",
        "wbc_controller", "trajectory_optimizer", "gr3_policy",
    ]  # fmt: skip
    assert processes["gazebo"].parameters["seed"] == processes["gazebo_driver"].parameters["seed"] == 3
    assert "gz_ros2_control/GazeboSimSystem" in processes["robot_state_publisher"].parameters["robot_description"]
    assert {name for name, process in processes.items() if process.once} == {"gazebo_spawn", "gazebo_controllers"}
    with pytest.raises(ValueError, match="Gazebo keeps its own time"):
        stack(options(sim="gazebo", lockstep=True))


def test_a_person_at_the_panel_lives_in_real_time():
    names = [process.name for process in stack(options(panel=True))]
    assert names[0] == "flight_recorder"  # it hears everybody from the start
    assert names[-1] == "panel"
    with pytest.raises(ValueError, match="lockstep, exclude one another"):
        stack(options(panel=True, lockstep=True))


def test_a_plan_to_record_by_brings_the_recorder(tmp_path):
    plan = tmp_path / "plan.yaml"
    with pytest.raises(ValueError, match="without dataset"):
        stack(options(record=plan))
    with pytest.raises(UserError, match=r"plan\.yaml cannot be read"):
        stack(options(record=plan, dataset=tmp_path / "set"))
    plan.write_text("{}")
    with pytest.raises(UserError, match=r"plan\.yaml: actions: expected"):
        stack(options(record=plan, dataset=tmp_path / "set"))
    plan.write_text(PLAN)
    values = options(record=plan, dataset=tmp_path / "set", image_size=96, operator="ann")
    recorder = {p.name: p for p in stack(values)}["recorder"].parameters
    assert recorder["dataset"] == str(tmp_path / "set")
    assert recorder["operator"] == "ann"
    # The simulator draws ten small pictures a second: the dataset makes up neither frames nor pixels.
    assert (recorder["fps"], recorder["image_height"], recorder["image_width"]) == (10, 96, 96)
    real = {p.name: p for p in stack(options(record=plan, dataset=tmp_path / "set", sim="none"))}["recorder"].parameters
    assert "fps" not in real
    assert real["use_sim_time"] is False


def test_recorded_pictures_get_shared_memory_that_they_fit_into(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    assert environment(options()) == {}
    (name, value), *_ = environment(options(record=plan, dataset=tmp_path)).items()
    assert "segment_size" in Path(value).read_text()
    monkeypatch.setenv(name, "mine.xml")
    assert environment(options(record=plan, dataset=tmp_path)) == {}


def test_a_person_is_recorded_with_page_and_recorder_alone(tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    processes = {p.name: p for p in stack(options(human=True, record=plan, dataset=tmp_path / "set"))}
    assert list(processes) == ["recorder", "teleop_vr"]
    assert processes["recorder"].parameters["human"] is processes["teleop_vr"].parameters["human"] is True
    assert processes["recorder"].parameters["use_sim_time"] is False
    with pytest.raises(ValueError, match="human is given without record"):
        stack(options(human=True))


def test_what_dies_is_started_again_but_not_for_ever():
    processes = {p.name: p for p in stack(options(sim="gazebo"))}
    restarts, dead = Restarts(most=2, seconds=10.0), processes["wbc_controller"]
    assert [restarts.allow(dead, -9, t) for t in (0.0, 1.0, 2.0, 20.0)] == [True, True, False, True]
    assert restarts.allow(processes["gr3_policy"], 1, 2.0)
    assert not restarts.allow(processes["gr3_policy"], 0, 3.0)  # somebody asked it to end
    assert not restarts.allow(processes["gazebo"], -9, 0.0)  # the world is gone with it


def test_every_robot_has_a_file_of_parameters_with_the_same_names():
    files = [stack(options(robot=version))[0].files[0] for version in ("v1", "v2")]
    one, two = (yaml.safe_load(Path(file).read_text()) for file in files)
    assert files[0] != files[1]

    def names(tree):
        return {key: names(value) if isinstance(value, dict) else None for key, value in tree.items()}

    assert names(one) == names(two)
