"""The page's modules by themselves: node's own test runner, and the frame encoder against the server's parser."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
from playwright._impl._driver import compute_driver_executable
from teleop_vr.poses import from_webxr
from teleop_vr.protocol import parse_frame

UNITS = Path(__file__).parent / "units"


@pytest.fixture(scope="module")
def node() -> str:
    """The node that the browser's driver runs in: always there, always the same."""
    return str(compute_driver_executable()[0])


@pytest.mark.parametrize("module", sorted(UNITS.glob("*.test.mjs")), ids=lambda path: path.name.partition(".")[0])
def test_module(node: str, module: Path) -> None:
    done = subprocess.run([node, "--test", str(module)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def random_frames(count: int) -> list[tuple[dict, dict]]:
    rng = np.random.default_rng(3)

    def pose() -> dict:
        q = rng.normal(size=4)
        return {"position": rng.uniform(-3, 3, 3).tolist(), "orientation": (q / np.linalg.norm(q)).tolist()}

    def hand() -> dict:
        return {
            "pose": pose(),
            "tracked": bool(rng.integers(2)),
            "bare": bool(rng.integers(2)),
            "trigger": rng.uniform(0, 1),
            "squeeze": rng.uniform(0, 1),
            "stick": rng.uniform(-1, 1, 2).tolist(),
            "pressed": int(rng.integers(256)),
        }

    return [
        (
            {
                "head": {"pose": pose(), "tracked": bool(rng.integers(2))},
                "left": hand(),
                "right": hand(),
                "visible": bool(rng.integers(2)),
                "passthrough": bool(rng.integers(2)),
                "epoch": int(rng.integers(2**32)),
            },
            {"sequence": i + 1, "time": i / 72, "echo": rng.uniform(0, 1e6), "echoHeld": rng.uniform(0, 1)},
        )
        for i in range(count)
    ]


def test_what_the_page_encodes_is_what_the_server_reads(node: str) -> None:
    frames = random_frames(200)
    done = subprocess.run(
        [node, str(UNITS / "encode.mjs")],
        input=json.dumps(frames),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for (sent, stamp), line in zip(frames, done.stdout.split(), strict=True):
        got = parse_frame(bytes.fromhex(line))
        assert (got.sequence, got.epoch) == (stamp["sequence"], sent["epoch"])
        assert (got.time, got.server_echo) == (stamp["time"], stamp["echo"])
        assert math.isclose(got.echo_held, stamp["echoHeld"], rel_tol=1e-6)
        assert (got.visible, got.passthrough) == (sent["visible"], sent["passthrough"])
        assert got.head_tracked == sent["head"]["tracked"]
        for side in ("left", "right"):
            hand, made = got.hand(side), sent[side]
            assert (hand.tracked, hand.bare, hand.buttons) == (made["tracked"], made["bare"], made["pressed"])
            right, down = made["stick"]
            assert np.allclose([hand.trigger, hand.squeeze], [made["trigger"], made["squeeze"]], atol=1e-6)
            assert np.allclose(hand.stick, (-down, -right), atol=1e-6)
        for pose, made in ((got.head, sent["head"]), (got.left.pose, sent["left"]), (got.right.pose, sent["right"])):
            wire = np.array(made["pose"]["position"] + made["pose"]["orientation"])
            assert np.allclose(pose, from_webxr(wire), atol=1e-5)
