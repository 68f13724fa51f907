"""Where a control plane reads the world from: a directory of files, or a real API server that it shares with others."""

from __future__ import annotations

import concurrent.futures
import itertools
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import yaml

from benches import world
from tests.kubernetes import mesh as meshes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kubernetes import api as apis

_N_WRITERS: Final = 8
_TOUCHED: Final = "endpoints.kubernetes.io/last-change-trigger-time"
"""The annotation that Kubernetes itself writes anew where nothing else of a slice has changed."""


class Place(Protocol):
    """A world that can be changed.

    Attributes:
        serials: Numbers that no change before has used: each gives a text that only one change carries.
    """

    mesh: world.World
    serials: Iterator[int]

    def make_service(self, serial: int) -> world.Service:
        """Return a service that is not there yet, with one endpoint."""

    def write(self, service: world.Service) -> float:
        """Make what a service says true; return since when a control plane can know, in seconds since 1970."""

    def write_as_it_is(self, number: int) -> None:
        """Write a service of the world without a change that matters to anyone."""

    def restore(self) -> None:
        """Make it the world that it was."""


class Files:
    """A directory with a file for each service; a control plane can know of a write once that begins."""

    def __init__(self, mesh: world.World, directory: Path) -> None:
        self.mesh = mesh
        self.serials: Iterator[int] = itertools.count()
        self._directory = directory
        self._written: dict[int, world.Service] = {}
        mesh.write(directory)

    def make_service(self, serial: int) -> world.Service:
        """Return a service that is not there yet, with one endpoint."""
        return world.Service(self.mesh.find_new(serial), addresses=(address(serial),))

    def write(self, service: world.Service) -> float:
        """Write a service's file."""
        self._written[service.number] = service
        began = time.time()
        self.mesh.write_service(self._directory, service)
        return began

    def write_as_it_is(self, number: int) -> None:
        """Write a service's file with the bytes that it has."""
        self.mesh.write_service(self._directory, self._written.get(number, world.Service(number)))

    def restore(self) -> None:
        """Do nothing: each server has a directory of its own."""


class Objects:
    """Objects of an API server; a control plane can know of a change once the first write is answered."""

    def __init__(self, mesh: world.World, api: apis.Api) -> None:
        self.mesh = mesh
        self.serials: Iterator[int] = itertools.count()
        self._api = api
        self._written: dict[str, apis.Object] = {}
        self._touched: set[int] = set()
        meshes.install_definitions(api, "VirtualService", "DestinationRule", "Sidecar")
        for made in yaml.load_all(mesh.render_namespaces(), yaml.CSafeLoader):
            api.apply(made)
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}})
        with concurrent.futures.ThreadPoolExecutor(_N_WRITERS) as writers:
            list(writers.map(self._write_first, range(mesh.n_services)))

    def make_service(self, serial: int) -> world.Service:
        """Return a service that is not there yet, with an address that the server gives nobody by itself."""
        number = self.mesh.find_new(serial)
        ip = f"10.96.0.{10 + serial % 240}"
        return world.Service(number, addresses=(address(serial),), cluster_ip=ip)

    def write(self, service: world.Service) -> float:
        """Create or change the objects of a service that differ from what was written last."""
        first_answer = 0.0
        for made in self._render(service):
            path = self._api.path_of(made)
            before = self._written.get(path)
            if before == made:
                continue
            if before is None:
                self._api.create(made)
            else:
                self._api.patch(made, _body(made))
            first_answer = first_answer or time.time()
            self._written[path] = made
        self._touched.add(service.number)
        return first_answer or time.time()

    def write_as_it_is(self, number: int) -> None:
        """Write the annotation of an EndpointSlice."""
        made = self._render(world.Service(number))
        endpoints = next(each for each in made if each["kind"] == "EndpointSlice")
        stamp = {_TOUCHED: str(next(self.serials))}
        self._api.patch(endpoints, {"metadata": {"annotations": stamp}})

    def restore(self) -> None:
        """Delete what was added, and write what was changed as it was."""
        for number in self._touched:
            if number < self.mesh.n_services:
                self.write(world.Service(number))
                continue
            for made in self._render(world.Service(number)):
                self._api.delete(made)
                self._written.pop(self._api.path_of(made))
        self._touched.clear()

    def _write_first(self, number: int) -> None:
        for made in self._render(world.Service(number)):
            self._written[self._api.path_of(made)] = made
            self._api.create(made)
            if made["kind"] == "Pod":
                self._api.patch(made, {"status": made["status"]}, "status")

    def _render(self, service: world.Service) -> list[apis.Object]:
        made = list(yaml.load_all(self.mesh.render(service), yaml.CSafeLoader))
        for each in made:
            each["metadata"].pop("creationTimestamp", None)
            if each["kind"] == "Service" and not service.cluster_ip:
                # The server chooses: some of the world's are its own.
                del each["spec"]["clusterIP"], each["spec"]["clusterIPs"]
        return made


def address(serial: int) -> str:
    """Return an endpoint's address that is no part of another's as a text."""
    return f"10.{250 + serial // 15_000}.{100 + serial // 100 % 150}.{100 + serial % 100}"


def _body(made: apis.Object) -> dict[str, Any]:
    return {
        name: value
        for name, value in made.items()
        if name not in ("apiVersion", "kind", "metadata", "status")
    }
