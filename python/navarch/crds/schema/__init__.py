"""What the kinds share: the base of all models, scalars, metadata, messages used by several kinds, rules.

Does: reads protobuf JSON as Istio does, with Pydantic; names each fault by its field path.
In: plain values (what a YAML or JSON parser gives).
Out: models, `faults.Faults`, canonical JSON.
Never: knows a kind, or reads anything but the value in hand.
"""
