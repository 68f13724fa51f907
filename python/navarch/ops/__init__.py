"""What operators and machines ask a running navarch, and what they need to begin.

Does: answers readiness, metrics and debugging over HTTP; makes a bootstrap for an Envoy; gives its place to the agent.
In: functions that return the values to show.
Out: HTTP answers; a bootstrap as plain values.
Never: changes the mesh.
"""
