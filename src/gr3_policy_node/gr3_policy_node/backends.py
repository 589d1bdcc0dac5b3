"""Which policies there are, by the word an operator uses.

- a name: packages offer policies as entry points of the group `bytemini.policies`, a callable `make(robot, seed) ->
  Policy`, so that this package serves policies without knowing any of them;
- `/path/to/checkpoint`: a folder that `gr3.deploy` reads: ONNX without torch, or a training run with it;
- `ws://host:port`: a server of the openpi protocol, `ws://host:port#map.yaml` one that is not ours
  (`gr3_policy_node.keymap`);
- `replay:FILE.npz`: an episode that a rollout recorded; `replay:FOLDER#7`: one of a LeRobotDataset.
"""

from __future__ import annotations

import difflib
import os
from importlib.metadata import entry_points
from pathlib import Path

from bytemini_core.types import Policy
from bytemini_description.robot import RobotModel

from gr3_policy_node.replay import is_recording, load_replay

GROUP = "bytemini.policies"

PROVIDERS = ("auto", "cpu", "cuda")
"""What may run a checkpoint; auto: CUDA where onnxruntime offers it."""

TOKEN_VARIABLE = "BYTEMINI_POLICY_TOKEN"
"""Environment variable with the token of a policy server; on a command line everybody could read it."""

REPLAY = "replay:"


def policies() -> tuple[str, ...]:
    """The names among the words that `load_policy` knows."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


def policy_choice(text: str) -> str:
    """`text`, if it reads like a policy: a known name, a path that exists, a URL or a recording that exists.

    Raises:
        ValueError: it does not; says what would.
    """
    if text in policies() or text.startswith(("ws://", "wss://")):
        return text
    path = Path(text).expanduser()
    if text.startswith(REPLAY):
        recording = text.removeprefix(REPLAY)
        if not is_recording(recording):
            raise ValueError(
                f"there is no recording {recording}: './bytemini rollout' writes episode-000.npz, './bytemini record' "
                "datasets"
            )
        return text
    if text and path.is_dir():
        return text
    if os.sep in text:
        raise ValueError(f"there is no checkpoint folder {path}")
    near = difflib.get_close_matches(text, policies(), n=1)
    known = ", ".join(policies()) or "one to be installed (./bytemini setup)"
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"policy is {text!r}{hint}, expected {known}, a checkpoint folder, ws://host:port or {REPLAY}FILE")


def load_policy(choice: str, robot: RobotModel, seed: int = 0, provider: str = "auto") -> Policy:
    """The policy that `choice` means.

    Args:
        choice: see above.
        robot: the robot it drives.
        seed: of whatever is random in it.
        provider: one of `PROVIDERS`, for checkpoint folders; what it became is in the policy's metadata.

    Raises:
        ValueError: there is no such policy, or it does not fit the robot.
    """
    policy_choice(choice)
    for entry in entry_points(group=GROUP):
        if entry.name == choice:
            policy: Policy = entry.load()(robot, seed)
            return policy
    if choice.startswith(("ws://", "wss://")):
        from gr3_policy_node.remote import connect

        remote: Policy = connect(choice, robot, os.environ.get(TOKEN_VARIABLE, ""))
        return remote
    if choice.startswith(REPLAY):
        replay: Policy = load_replay(choice.removeprefix(REPLAY), robot)
        return replay
    try:
        from gr3.deploy import load_policy as load_checkpoint
    except ModuleNotFoundError as error:
        raise ValueError(f"checkpoints need the Python module {error.name!r}: run ./bytemini setup") from error
    loaded: Policy = load_checkpoint(Path(choice).expanduser(), robot=robot, provider=provider, seed=seed)
    return loaded


def described(policy: Policy) -> str:
    """A policy in a few words, for logs: name, what computes it, what it reads."""
    metadata = policy.metadata
    words = [metadata.name, f"{metadata.horizon} x {metadata.dt:g} s"]
    if "provider" in metadata.extra:
        words.append(str(metadata.extra["provider"]))
    if metadata.privileged:
        words.append("reads the simulator's truth (simulation only)")
    return ", ".join(words)
