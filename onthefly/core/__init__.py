"""The training thread's side of control: the gate, the commands that wait at it, and the meter of our own time."""
