"""Every package says of itself what ROS's tools need to know, and names everything that it imports."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PACKAGES = {
    ElementTree.parse(path).findtext("name"): path.parent
    for path in [*ROOT.glob("src/*/package.xml"), ROOT / "launch" / "package.xml"]
}
KEYS = {
    "PIL": "python3-pil",
    "aiohttp": "python3-aiohttp",
    "av": "python3-av-pip",
    "casadi": "python3-casadi-pip",
    "cryptography": "python3-cryptography",
    "daqp": "python3-daqp-pip",
    "matplotlib": "python3-matplotlib",
    "mcap": "python3-mcap-pip",
    "msgpack": "python3-msgpack",
    "mujoco": "python3-mujoco-pip",
    "numpy": "python3-numpy",
    "onnxruntime": "python3-onnxruntime-pip",
    "pinocchio": "pinocchio",
    "pyarrow": "python3-pyarrow-pip",
    "pyrealsense2": "python3-pyrealsense2-pip",
    "rich": "python3-rich",
    "scipy": "python3-scipy",
    "segno": "python3-segno",
    "tokenizers": "python3-tokenizers-pip",
    "torch": "python3-torch",
    "tqdm": "python3-tqdm",
    "transformers": "python3-transformers-pip",
    "websockets": "python3-websockets",
    "xacro": "xacro",
    "yaml": "python3-yaml",
}
"""Modules from outside and their rosdep keys."""
INTERFACES = re.compile(r"^(.+_msgs|.+_srvs|(builtin|rcl)_interfaces|rclpy|launch|launch_ros|ament_index_python)$")
IMPORT = re.compile(r"^\s*(?:from|import)\s+([A-Za-z_]\w*)", re.MULTILINE)


def imported(name):
    """Modules that a package imports, its benchmarks' peers aside."""
    folder = PACKAGES[name] / name
    files = [path for path in folder.rglob("*.py") if "benchmarks" not in path.parts]
    return {module for path in files for module in IMPORT.findall(path.read_text())} - {name}


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_manifest_is_whole(name):
    manifest = ElementTree.parse(PACKAGES[name] / "package.xml").getroot()
    assert manifest.get("format") == "3"
    assert manifest.findtext("license") == "Apache-2.0"
    assert manifest.findtext("version") == "0.1.0"
    assert manifest.findtext("description").strip()
    assert manifest.find("maintainer").get("email")
    depends = {item.text for item in manifest if item.tag.endswith("depend")}
    modules = imported(name)
    wanted = {KEYS[module] for module in modules if module in KEYS}
    wanted |= {module for module in modules if INTERFACES.match(module) or module in PACKAGES}
    assert not wanted - depends, f"{name} imports what its package.xml does not name"


def test_keys_that_rosdistro_lacks_are_defined_here():
    lacking = yaml.safe_load((ROOT / "docker" / "rosdep.yaml").read_text())
    used = {
        item.text
        for folder in PACKAGES.values()
        for item in ElementTree.parse(folder / "package.xml").getroot()
        if item.tag.endswith("depend")
    }
    assert set(lacking) <= used
    for key, rule in lacking.items():
        assert rule["ubuntu"]["pip"]["packages"], key
