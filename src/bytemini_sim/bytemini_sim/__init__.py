"""MuJoCo world of the ByteMini robot: physics, cameras, scenes, tasks and scoring. Pure library, no ROS."""
