"""Faults, and what the stack makes of them: the same cores as in the nodes, with something wrong at one of their doors.

A `Fault` stands between two stages of the control loop (driver, controller, optimizer, policy) from `BEGIN` on for a
while, and does to what passes there what a dead process, a broken sensor, a bad network or a careless sender would.
`FaultRun` lets the scripted expert move the robot at full speed into it, measures how the robot comes to rest or goes
on, takes the fault away, does what an operator would do (reset, start again), and looks whether the robot moves again.

Everything is deterministic for a seed. What only real processes can show (signals, discovery, disks) is not here.
"""
