"""How messages travel between the processes of one machine: settings of Fast DDS for those that its own do not suit."""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory

PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"
"""Environment variable that names Fast DDS' settings."""


def commands() -> str:
    """File of the settings for processes that no other one's death may hold up: see the file."""
    return _config("commands.xml")


def large_images() -> str:
    """File of the settings under which no picture is lost on the way: see the file."""
    return _config("large_images.xml")


def _config(name: str) -> str:
    return str(Path(get_package_share_directory("bytemini_bringup")) / "config" / name)
