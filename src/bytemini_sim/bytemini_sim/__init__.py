"""MuJoCo world of the ByteMini robot: physics, cameras, scenes, tasks, scoring, a scripted expert, rollouts."""
