"""The RealSense cameras of the robot, on the topics that the simulator publishes too."""
