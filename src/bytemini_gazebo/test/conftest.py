import shutil
import subprocess
from xml.etree import ElementTree

import pytest
from bytemini_description.robot import VERSIONS, load_robot


@pytest.fixture(params=VERSIONS)
def robot(request):
    return load_robot(request.param)


@pytest.fixture
def parsed(tmp_path):
    """What Gazebo's own parser makes of a document, as a tree."""
    if shutil.which("ign") is None:
        pytest.skip("Gazebo's parser is not installed: apt-get install ignition-tools libsdformat-dev sdformat-sdf")

    def parse(text, suffix=".sdf"):
        path = tmp_path / f"document{suffix}"
        path.write_text(text)
        if suffix == ".sdf":
            check = subprocess.run(["ign", "sdf", "-k", str(path)], capture_output=True, text=True, timeout=60)
            assert "Valid." in check.stdout, check.stdout + check.stderr
        done = subprocess.run(["ign", "sdf", "-p", str(path)], capture_output=True, text=True, timeout=60, check=True)
        complaints = done.stderr.replace("Library error", "")
        assert "Error" not in complaints, complaints
        assert "Warning" not in complaints, complaints
        return ElementTree.fromstring(done.stdout)

    return parse
