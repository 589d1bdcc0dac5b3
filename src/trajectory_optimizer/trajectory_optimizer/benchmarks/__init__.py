"""The benchmark of the trajectory optimiser and its peers: `./bytemini bench trajectory`."""
