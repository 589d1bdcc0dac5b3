"""The policy server: one Policy interface, served as a ROS node."""
