"""Gazebo Harmonic behind the same topics as the MuJoCo simulator."""
