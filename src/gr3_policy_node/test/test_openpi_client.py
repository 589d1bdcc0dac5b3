"""The unmodified openpi-client from PyPI, in an environment of its own, against our server."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gr3_policy_node.server import ServerOptions, served

pytestmark = pytest.mark.slow

PACKAGES = ("openpi-client==0.1.2", "typing_extensions==4.16.0")  # the second it needs and does not declare

CLIENT = """
import json, sys
import numpy as np
from openpi_client import image_tools
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy

url, token = sys.argv[1:]
client = WebsocketClientPolicy(url, api_key=token or None)
metadata = client.get_server_metadata()

def observation(value, prompt="do it"):
    state = np.zeros(19, dtype=np.float32)
    state[0] = value
    picture = np.full((480, 640, 3), 7, dtype=np.uint8)
    height, width = metadata["image_size"]
    small = image_tools.convert_to_uint8(image_tools.resize_with_pad(picture, height, width))
    return {
        "observation/state": state,
        "observation/head": small,
        "observation/left_wrist": small.transpose(2, 0, 1),
        "prompt": prompt,
    }

first = client.infer(observation(0.5))
told = []
for bad in ({}, {**observation(0.5), "observation/head": np.full((4, 4, 3), np.nan)}):
    try:
        client.infer(bad)
    except RuntimeError as error:
        told.append(str(error))
after = client.infer(observation(0.25))
broker = ActionChunkBroker(client, action_horizon=4)
steps = [broker.infer(observation(i / 8)) for i in range(8)]
print(json.dumps({
    "numpy": np.__version__,
    "policy": metadata["policy"],
    "shape": first["actions"].shape,
    "dtype": str(first["actions"].dtype),
    "first": float(first["actions"][0, 0]),
    "after": float(after["actions"][0, 0]),
    "told": told,
    "sliced": [float(step["actions"][0]) for step in steps],
    "status": steps[0]["task_status"],
    "timing": sorted(first["server_timing"]),
}))
"""


@pytest.fixture(scope="module")
def python():
    """The interpreter of an environment with openpi-client; made once, kept with the workspace's set-up."""
    folder = Path(__file__).resolve().parents[3] / ".setup" / "openpi-client"
    python = folder / "bin" / "python"
    folder.parent.mkdir(exist_ok=True)
    check = [str(python), "-c", "import openpi_client.websocket_client_policy, openpi_client.action_chunk_broker"]
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")}
    with (folder.parent / "openpi-client.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not python.exists() or subprocess.run(check, env=environment, capture_output=True, check=False).returncode:
            for command in (
                [sys.executable, "-m", "venv", "--clear", str(folder)],
                [str(python), "-m", "pip", "install", "-q", "--no-input", *PACKAGES],
            ):
                try:
                    made = subprocess.run(
                        command, env=environment, capture_output=True, text=True, timeout=240, check=False
                    )
                except subprocess.TimeoutExpired:
                    pytest.skip("openpi-client could not be installed within 240 s")
                if made.returncode:
                    lines = made.stderr.strip().splitlines() or ["no reason given"]
                    pytest.skip(f"openpi-client could not be installed: {lines[-1]}")
    return [str(python), environment]


@pytest.mark.parametrize("token", ["", "s3cret"])
def test_the_client_drives_our_server(python, robot, policies, token):
    interpreter, environment = python
    with served(policies[0], robot, ServerOptions(port=0, token=token)) as (_, url):
        done = subprocess.run(
            [interpreter, "-c", CLIENT, url, token],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["numpy"].startswith("1."), "the client brings a numpy of its own"
    assert said["policy"] == "echo"
    assert said["shape"] == [4, 19]
    assert said["dtype"] == "float32"
    assert said["first"] == 0.5
    assert said["after"] == 0.25
    assert "lacks state, prompt, head, left_wrist" in said["told"][0]
    assert "NaN" in said["told"][1]
    assert said["sliced"] == [0.0] * 4 + [0.5] * 4, "two requests, four rows of each"
    assert said["status"] == 0
    assert {"infer_ms", "queue_ms", "batch"} <= set(said["timing"])


def test_a_wrong_token_is_refused(python, robot, policies):
    interpreter, environment = python
    with served(policies[0], robot, ServerOptions(port=0, token="s3cret")) as (_, url):
        done = subprocess.run(
            [interpreter, "-c", CLIENT, url, "guess"],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert "401" in done.stderr
