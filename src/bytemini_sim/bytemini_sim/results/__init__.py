"""What a rollout leaves behind: the report, a film, a plot and the trajectory of every episode.

Importing this package loads neither matplotlib nor PyAV: they come in when a plot or a film is made.
"""
