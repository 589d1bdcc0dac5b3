"""The one description of the running stack, and the two ways to start it."""
