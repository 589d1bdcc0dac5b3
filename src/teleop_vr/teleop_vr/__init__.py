"""Teleoperation of the whole robot from a headset's browser."""
