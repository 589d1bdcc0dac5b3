"""The operator's view of a running robot: page, health of all nodes, flight recorder."""
