"""How pictures travel between processes on one machine: settings of Fast DDS under which none is lost on the way."""

from __future__ import annotations

from pathlib import Path

PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"
"""Environment variable that names Fast DDS' settings."""

LARGE_IMAGES = Path(__file__).with_name("data") / "large_images.xml"
"""Shared memory that pictures fit into: see the file."""
