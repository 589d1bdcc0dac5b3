"""The robot: its URDF, what the URDF cannot say, its kinematics and the transmission of its wrist."""
