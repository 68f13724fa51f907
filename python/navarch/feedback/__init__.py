"""Tells people what is wrong with their mesh.

Does: polls diagnostics, logs what is new once, keeps what is current for those who ask.
In: functions that return all current diagnostics.
Out: log lines; the current diagnostics as a value.
Never: changes the mesh, is called back by what it reports on.
"""
