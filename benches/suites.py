"""What `make bench` runs: each suite makes one table, and a file of figures of its own."""

from __future__ import annotations

import dataclasses
from typing import Final

from benches import world

ALL: Final = ("endpoint", "virtual_service", "service", "churn", "no_op", "restart")
CHANGES: Final = ("endpoint", "virtual_service", "service")


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One server with its sidecars, and what is done to it.

    Attributes:
        name: Of the column.
        scenarios: After all have connected, in this order.
        n_rounds: Of the endpoint change; the others, which are slower, have a quarter.
        churn_seconds: How long writes go on, and how long those that change nothing do.
    """

    name: str
    mesh: world.World
    n_sidecars: int
    is_delta: bool = True
    scenarios: tuple[str, ...] = ALL
    n_rounds: int = 8
    churn_seconds: float = 20.0
    settle_seconds: float = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Suite:
    """Several cases that belong together.

    Attributes:
        title: Of the section of docs/benchmarks.md.
        is_compared: Whether Istio runs the same, on the same API server.
    """

    name: str
    title: str
    cases: tuple[Case, ...]
    is_compared: bool = False


_WORLD: Final = world.World()
_SCOPED: Final = world.World(is_scoped=True)
_FLEET: Final = world.World(10_000, n_namespaces=500, n_rules=2_000, is_scoped=True)
_SMALL: Final = world.World(250, n_rules=50)
_FEW: Final = ("endpoint",)


def _of_services(n: int) -> Case:
    return Case(f"{n} services", world.World(n, n_rules=n // 5), 100, scenarios=_FEW)


def _of_sidecars(n: int) -> Case:
    return Case(f"{n} sidecars", _SMALL, n, scenarios=_FEW)


SUITES: Final = {
    each.name: each
    for each in (
        Suite(
            "main",
            "Every sidecar sees all",
            (
                Case("1,000, delta", _WORLD, 1_000, churn_seconds=60.0),
                Case("500, delta", _WORLD, 500, scenarios=(*CHANGES, "restart")),
                Case(
                    "500, state of the world",
                    _WORLD,
                    500,
                    is_delta=False,
                    scenarios=(*CHANGES, "restart"),
                ),
            ),
        ),
        Suite(
            "scoped",
            "Sidecars see their own namespace",
            (
                Case("2,000, delta", _SCOPED, 2_000, scenarios=(*CHANGES, "restart")),
                Case(
                    "10,000 in 500 namespaces, delta",
                    _FLEET,
                    10_000,
                    scenarios=(*CHANGES, "restart"),
                ),
            ),
        ),
        Suite(
            "pieces",
            "Virtual hosts are resources of their own",
            (
                Case(
                    "1,000, delta, in pieces",
                    world.World(is_in_pieces=True),
                    1_000,
                    scenarios=(*CHANGES, "restart"),
                    n_rounds=32,
                ),
            ),
        ),
        Suite(
            "growth-services",
            "Growth of services",
            tuple(_of_services(n) for n in (250, 1_000, 4_000, 8_000)),
        ),
        Suite(
            "growth-sidecars",
            "Growth of sidecars",
            tuple(_of_sidecars(n) for n in (100, 300, 1_000, 3_000, 10_000)),
        ),
        Suite(
            "istio",
            "Beside Istio: 500 sidecars that see all",
            (Case("500, delta", _WORLD, 500, n_rounds=6),),
            is_compared=True,
        ),
        Suite(
            "istio-sotw",
            "Beside Istio: 500 sidecars that see all, state of the world",
            (
                Case(
                    "500, state of the world",
                    _WORLD,
                    500,
                    is_delta=False,
                    scenarios=(*CHANGES, "restart"),
                    n_rounds=6,
                ),
            ),
            is_compared=True,
        ),
        Suite(
            "istio-large",
            "Beside Istio: 1,000 sidecars that see all",
            (Case("1,000, delta", _WORLD, 1_000, scenarios=CHANGES, n_rounds=6),),
            is_compared=True,
        ),
        Suite(
            "istio-scoped",
            "Beside Istio: 2,000 sidecars that see their own namespace",
            (
                Case(
                    "2,000, scoped, delta",
                    _SCOPED,
                    2_000,
                    scenarios=(*CHANGES, "restart"),
                ),
            ),
            is_compared=True,
        ),
    )
}


def shrink(case: Case, share: float) -> Case:
    """Return a case with a share of its services and sidecars, for a look in passing."""
    mesh = case.mesh
    n_services = max(mesh.n_namespaces, round(mesh.n_services * share))
    n_services -= n_services % mesh.n_namespaces
    n_rules = min(mesh.n_rules, max(2, n_services // 5))
    return dataclasses.replace(
        case,
        mesh=dataclasses.replace(mesh, n_services=n_services, n_rules=n_rules),
        n_sidecars=max(2, round(case.n_sidecars * share)),
        churn_seconds=min(case.churn_seconds, 5.0),
        settle_seconds=1.0,
    )
