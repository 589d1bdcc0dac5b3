"""Every package says of itself what ROS's tools need to know, and names everything that it imports."""

import re
from graphlib import TopologicalSorter
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
    "serial": "python3-serial",
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
IMPORT = re.compile(r"^(\s*)(?:from|import)\s+([A-Za-z_]\w*)", re.MULTILINE)


def imported(name):
    """Modules that a package imports, and those of them that it imports at once; its benchmarks' peers aside."""
    folder = PACKAGES[name] / name
    files = [path for path in folder.rglob("*.py") if "benchmarks" not in path.parts]
    found = [match for path in files for match in IMPORT.findall(path.read_text())]
    return {module for _, module in found} - {name}, {module for indent, module in found if not indent} - {name}


def depends(name):
    manifest = ElementTree.parse(PACKAGES[name] / "package.xml").getroot()
    return {item.text for item in manifest if item.tag.endswith("depend")}


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_manifest_is_whole(name):
    manifest = ElementTree.parse(PACKAGES[name] / "package.xml").getroot()
    assert manifest.get("format") == "3"
    assert manifest.findtext("license") == "Apache-2.0"
    assert manifest.findtext("version") == "0.1.0"
    assert manifest.findtext("description").strip()
    assert manifest.find("maintainer").get("email")
    modules, at_once = imported(name)
    wanted = {KEYS[module] for module in modules if module in KEYS}
    wanted |= {module for module in modules if INTERFACES.match(module) and module not in PACKAGES}
    wanted |= at_once & set(PACKAGES)  # a command may start what stands above its package
    assert not wanted - depends(name), f"{name} imports what its package.xml does not name"


def test_packages_can_be_built_one_after_the_other():
    TopologicalSorter({name: depends(name) & set(PACKAGES) for name in PACKAGES}).prepare()  # raises for a cycle


def test_keys_that_rosdistro_lacks_are_defined_here():
    lacking = yaml.safe_load((ROOT / "docker" / "rosdep.yaml").read_text())
    used = set().union(*(depends(name) for name in PACKAGES))
    assert set(lacking) <= used
    for key, rule in lacking.items():
        assert rule["ubuntu"]["pip"]["packages"], key
