"""The command `navarch`: serve, translate, validate, simulate, bootstrap, crds, inject."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

import click
import yaml

import navarch
from navarch import app, core, errors, offline, records, settings, simulation
from navarch import inject as injecting
from navarch.crds import manifests
from navarch.identity import flags
from navarch.ops import agent as agent_program
from navarch.ops import bootstrap

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_PATH = click.Path(path_type=Path)
_EXISTING = click.Path(path_type=Path, exists=True)
_FORMAT = click.Choice(["json", "yaml"])


def main() -> None:
    """Run the command; what was foreseen ends with one line on stderr and exit code 1."""
    try:
        navarch_command(auto_envvar_prefix=None)
    except errors.NavarchError as error:
        click.echo(f"navarch: {error}", err=True)
        sys.exit(1)


@click.group(name="navarch", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(navarch.__version__, prog_name="navarch")
def navarch_command() -> None:
    """The control plane of a service mesh: Istio's API, Envoy's data plane."""


def _address(flag: str) -> Any:  # noqa: ANN401  click's callbacks have no narrower type
    def parse(_: click.Context, __: click.Parameter, value: str) -> settings.Address | None:
        return settings.Address.parse(value, flag) if value else None

    return parse


def _read_settings(ctx: click.Context, _: click.Parameter, file: Path | None) -> None:
    """Take a file's keys as defaults below flags and environment variables."""
    if file is None:
        return
    try:
        told = yaml.safe_load(file.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise errors.SettingsError(f"--settings {file}: {error}") from error
    if not isinstance(told, dict):
        raise errors.SettingsError(f"--settings {file}: must be a mapping of flags without dashes")
    names = {
        option.removeprefix("--"): parameter.name
        for parameter in ctx.command.params
        for option in parameter.opts
        if option not in ("--settings", "--help")
    }
    if unknown := sorted(str(key) for key in told if key not in names):
        known = ", ".join(sorted(names))
        raise errors.SettingsError(f"--settings {file}: no key `{unknown[0]}`; there are: {known}")
    ctx.default_map = {str(names[key]): value for key, value in told.items()}


@navarch_command.command()
@click.option(
    "--settings",
    type=_PATH,
    envvar="NAVARCH_SETTINGS",
    is_eager=True,
    expose_value=False,
    callback=_read_settings,
    help="YAML file whose keys are these flags without dashes; flags and environment come before it.",
)
@click.option(
    "--registries",
    type=click.Choice(settings.REGISTRIES),
    multiple=True,
    envvar="NAVARCH_REGISTRIES",
    help="Platform to read. Repeatable. By default what there is: a directory, a cluster.",
)
@click.option(
    "--kubeconfig",
    type=_PATH,
    envvar="NAVARCH_KUBECONFIG",
    help="File that tells where the cluster is; in a Pod its own account is used without.",
)
@click.option("--context", envvar="NAVARCH_CONTEXT", help="Of the kubeconfig.")
@click.option(
    "--revision",
    default="default",
    show_default=True,
    envvar="NAVARCH_REVISION",
    help="Name of this control plane: objects with another label istio.io/rev are left to others.",
)
@click.option(
    "--remote-sync-seconds",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    envvar=["NAVARCH_REMOTE_SYNC_SECONDS"],
    help="How long the first push waits for clusters that Secrets name.",
)
@click.option(
    "--system-namespace",
    default="istio-system",
    show_default=True,
    envvar=["NAVARCH_SYSTEM_NAMESPACE", "POD_NAMESPACE"],
    help="Where Leases and the Secrets of remote clusters are.",
)
@click.option(
    "--config-dir",
    "config_dirs",
    type=_PATH,
    multiple=True,
    envvar="NAVARCH_CONFIG_DIR",
    help="Directory of YAML and JSON files, read with all below it and watched. Repeatable.",
)
@click.option(
    "--mesh-config",
    type=_PATH,
    envvar="NAVARCH_MESH_CONFIG",
    help="File of the MeshConfig, watched.",
)
@click.option(
    "--mesh-networks",
    type=_PATH,
    envvar="NAVARCH_MESH_NETWORKS",
    help="File of the MeshNetworks, watched.",
)
@click.option(
    "--grpc-address",
    default="127.0.0.1:15010",
    show_default=True,
    envvar="NAVARCH_GRPC_ADDRESS",
    callback=_address("--grpc-address"),
    help="Where proxies get their configuration (ADS, plaintext). Port 0 takes a free one.",
)
@click.option(
    "--allow-plaintext",
    is_flag=True,
    envvar="NAVARCH_ALLOW_PLAINTEXT",
    help="Let --grpc-address be other than loopback: whoever reaches it gets the whole mesh.",
)
@flags.identity_options
@click.option(
    "--http-address",
    default="127.0.0.1:8080",
    show_default=True,
    envvar="NAVARCH_HTTP_ADDRESS",
    callback=_address("--http-address"),
    help="Where /ready, /healthz, /metrics and /debug are served. Port 0 takes a free one.",
)
@click.option(
    "--https-address",
    default="",
    envvar="NAVARCH_HTTPS_ADDRESS",
    callback=_address("--https-address"),
    help="Where the API server's webhooks are served, such as :15017; nowhere if left out.",
)
@click.option(
    "--webhook-certificates",
    type=_PATH,
    envvar="NAVARCH_WEBHOOK_CERTIFICATES",
    help="Directory of tls.crt, tls.key and ca.crt for the webhooks, read again when they change.",
)
@click.option(
    "--patch-webhooks",
    "patches_webhooks",
    is_flag=True,
    envvar="NAVARCH_PATCH_WEBHOOKS",
    help="Keep the roots in the cluster's webhook configurations of this revision current.",
)
@click.option(
    "--authority-secret",
    "has_authority_secret",
    is_flag=True,
    envvar="NAVARCH_AUTHORITY_SECRET",
    help="Take --authority-dir from the Secret cacerts, or istio-ca-secret, which is made if need be.",
)
@click.option(
    "--injection-settings",
    type=_PATH,
    envvar="NAVARCH_INJECTION_SETTINGS",
    help="File of the injection settings, read again when it changes.",
)
@click.option(
    "--domain-suffix",
    default="cluster.local",
    show_default=True,
    envvar="NAVARCH_DOMAIN_SUFFIX",
    help="DNS domain of the cluster.",
)
@click.option(
    "--cluster-id",
    default="Kubernetes",
    show_default=True,
    envvar="NAVARCH_CLUSTER_ID",
    help="Name of the cluster, as its proxies' metadata has it.",
)
@click.option(
    "--drain-seconds",
    type=click.FloatRange(0, 3600),
    default=5.0,
    show_default=True,
    envvar="NAVARCH_DRAIN_SECONDS",
    help="How long open streams may last after SIGTERM.",
)
@click.option(
    "--max-connection-age-seconds",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    envvar="NAVARCH_MAX_CONNECTION_AGE_SECONDS",
    help="Age at which, or up to a tenth later, proxies have to connect anew; 0 for never.",
)
@click.option(
    "--log-level",
    type=click.Choice(_LEVELS, case_sensitive=False),
    default="INFO",
    show_default=True,
    envvar="NAVARCH_LOG_LEVEL",
)
def serve(config_dirs: tuple[Path, ...], log_level: str, **others: Any) -> None:  # noqa: ANN401
    """Serve a mesh to its proxies, from a cluster or from directories of YAML."""
    identity = flags.read_identity(others)
    told = settings.Settings(
        config_dirs=config_dirs,
        log_level=log_level.upper(),
        identity=identity,
        is_in_cluster="KUBERNETES_SERVICE_HOST" in os.environ,
        **others,
    )
    logging.basicConfig(
        level=told.log_level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # The watcher's own log tells of every event of every file.
    logging.getLogger("watchdog").setLevel(logging.WARNING)
    # Its retries are ours to tell.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    stop = threading.Event()
    _stop_on_signals(stop)
    app.App(told, stop=stop).run(stop)


@navarch_command.command("join-token")
@click.option("--directory", type=_PATH, required=True, help="The server's --join-token-dir.")
@click.option("--namespace", required=True, help="Namespace of the workload.")
@click.option("--service-account", default="default", show_default=True)
@click.option("--lifetime-seconds", type=click.IntRange(1), default=3600, show_default=True)
def join_token(
    directory: Path, namespace: str, service_account: str, lifetime_seconds: int
) -> None:
    """Print a token by which a process outside Kubernetes gets its first certificate, once."""
    click.echo(core.mint_join_token(directory, namespace, service_account, lifetime_seconds))


@navarch_command.command("renew-root")
@click.option("--authority-dir", type=_PATH, required=True, help="The server's --authority-dir.")
@click.option("--lifetime-days", type=click.IntRange(1), default=3650, show_default=True)
def renew_root(authority_dir: Path, lifetime_days: int) -> None:
    """Give navarch's own root a new life: its key stays, and both certificates are trusted."""
    files = core.find_authority_files(authority_dir)
    if files is None:
        raise errors.SettingsError(f"--authority-dir {authority_dir} has no authority")
    options = core.AuthorityOptions(root_lifetime_seconds=lifetime_days * 24 * 3600)
    core.write_authority_files(authority_dir, core.renew_authority_files(files, options))


def _stop_on_signals(stop: threading.Event) -> None:
    """Stop cleanly at the first SIGTERM or Ctrl-C, at once at the second."""

    def handle(number: int, _: object) -> None:
        if stop.is_set():
            sys.exit(128 + number)
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


_inputs = click.option(
    "-f",
    "--filename",
    "paths",
    type=_EXISTING,
    multiple=True,
    help="File or directory of objects. Repeatable.",
)
_mesh_config = click.option(
    "--mesh-config", type=_EXISTING, envvar="NAVARCH_MESH_CONFIG", help="File of the MeshConfig."
)
_mesh_networks = click.option(
    "--mesh-networks",
    type=_EXISTING,
    envvar="NAVARCH_MESH_NETWORKS",
    help="File of the MeshNetworks.",
)


@navarch_command.command()
@_inputs
@_mesh_config
@_mesh_networks
@click.option("--node", type=_EXISTING, help="Envoy's node (or a bootstrap that has it).")
@click.option("-o", "--output", type=_FORMAT, default="json", show_default=True)
@click.option("--cases", type=_EXISTING, help="Directory of cases, in place of -f and --node.")
@click.option("--out", type=_PATH, help="Where the answers to --cases go.")
def translate(  # noqa: PLR0917  click passes each by its name
    paths: tuple[Path, ...],
    mesh_config: Path | None,
    mesh_networks: Path | None,
    node: Path | None,
    output: str,
    cases: Path | None,
    out: Path | None,
) -> None:
    """Print what a proxy would be sent, without a server."""
    if cases is not None and out is not None:
        _translate_cases(cases, out)
        return
    if cases is not None or out is not None:
        raise click.UsageError("--cases and --out go together")
    if not paths or node is None:
        raise click.UsageError("give -f INPUT and --node NODE, or --cases DIR and --out OUT")
    mesh = offline.Mesh(offline.Input(paths, mesh_config, mesh_networks))
    _print_faults(mesh.diagnostics)
    told = offline.read_node(node)
    rendered = offline.render_json(mesh.translate(told))
    _print_faults(mesh.diagnose(told))
    click.echo(_format(json.loads(rendered), output), nl=False)


def _translate_cases(cases: Path, out: Path) -> None:
    run = offline.CaseRun(out)
    run.translate_all(cases)
    for fault in run.faults:
        click.echo(f"error {fault}", err=True)
    click.echo(f"{run.n_written} written, {len(run.faults)} failed", err=True)
    if run.faults or not run.n_written:
        sys.exit(1)


def _print_faults(faults: list[records.Diagnostic]) -> None:
    for fault in faults:
        if fault.severity is not records.Severity.INFO:
            click.echo(_line(fault), err=True)


def _line(fault: records.Diagnostic) -> str:
    mark = "" if fault.severity is records.Severity.ERROR else f"{fault.severity}: "
    return f"{mark}{fault}"


def _format(value: object, output: str) -> str:
    if output == "yaml":
        # Written anew from JSON: values that are shared in memory would come out as anchors.
        plain = json.loads(json.dumps(value))
        return yaml.dump(plain, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


@navarch_command.command()
@_inputs
@_mesh_config
@_mesh_networks
def validate(paths: tuple[Path, ...], mesh_config: Path | None, mesh_networks: Path | None) -> None:
    """Check files of objects; name every fault, and exit with 1 if there is one."""
    if not paths:
        raise click.UsageError("give -f INPUT")
    mesh = offline.Mesh(offline.Input(paths, mesh_config, mesh_networks, is_strict=True))
    faults = dict.fromkeys([*mesh.diagnostics, *mesh.check_translation()])
    for fault in faults:
        click.echo(_line(fault))
    n_errors = sum(fault.severity is records.Severity.ERROR for fault in faults)
    n_warnings = sum(fault.severity is records.Severity.WARNING for fault in faults)
    found = [_count(n_errors, "fault") if n_errors else "no faults"]
    found += [_count(n_warnings, "warning")] if n_warnings else []
    click.echo(
        f"{_count(mesh.n_objects, 'object')} in force, {', '.join(found)}", err=bool(n_errors)
    )
    if n_errors:
        sys.exit(1)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _pairs(_: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    made = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{value!r} must be KEY=VALUE", param=param)
        made[key] = text
    return made


@navarch_command.command()
@_inputs
@_mesh_config
@_mesh_networks
@click.option("--node", type=_EXISTING, help="Envoy's node of the proxy, in place of --from.")
@click.option("--from", "workload", help="NAMESPACE/NAME of the Pod or WorkloadEntry that asks.")
@click.option("--stock", "is_stock", is_flag=True, help="--from has upstream's Envoy, not Istio's.")
@click.option("--url", help="SCHEME://HOST[:PORT]/PATH; http, https, h2c, grpc, tcp or tls.")
@click.option("--tcp", help="HOST:PORT, short for --url tcp://HOST:PORT; with --sni it is TLS.")
@click.option("--method", default="", help="GET if left out; POST for gRPC.")
@click.option("--header", "headers", multiple=True, callback=_pairs, help="NAME=VALUE. Repeatable.")
@click.option("--sni", default="", help="TLS server name, in place of the host.")
@click.option("--alpn", multiple=True, help="ALPN protocol that the client offers. Repeatable.")
@click.option("--certificate", "has_certificate", is_flag=True, help="The client has the mesh's.")
@click.option("--principal", default="", help="Identity in the client's certificate.")
@click.option("--claims", default="", help="JSON object that a valid token of the request claims.")
@click.option("--address", default="", help="IP[:PORT] that is connected to.")
@click.option("--source", "source_address", default="", help="The client's IP address.")
@click.option("--inbound", "is_inbound", is_flag=True, help="To the workload, not from it.")
@click.option("--receive", is_flag=True, help="Go on through the endpoint's sidecar.")
@click.option(
    "--percent",
    type=click.FloatRange(0, 100, max_open=True),
    help="What the dice show; without it the likelier branches are followed.",
)
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def simulate(
    paths: tuple[Path, ...],
    mesh_config: Path | None,
    mesh_networks: Path | None,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Tell where a request lands and why; exit with 1 if no endpoint gets it."""
    if not paths or bool(flags["node"]) == bool(flags["workload"]):
        raise click.UsageError("give -f INPUT, and either --from NAMESPACE/NAME or --node NODE")
    if bool(flags["url"]) == bool(flags["tcp"]):
        raise click.UsageError("give either --url URL or --tcp HOST:PORT")
    names = {field.name for field in dataclasses.fields(simulation.Described)} - {"url"}
    described = simulation.Described(
        url=flags["url"] or f"tcp://{flags['tcp']}", **{name: flags[name] for name in names}
    )
    request = simulation.build_request(described)
    mesh = offline.Mesh(offline.Input(paths, mesh_config, mesh_networks))
    _print_faults(mesh.diagnostics)
    simulator = simulation.Simulator(mesh.core, mesh.objects)
    is_stock = flags["is_stock"]
    if flags["node"]:
        node = offline.read_node(flags["node"])
    else:
        node = simulator.find_node(flags["workload"], is_stock=is_stock)
    if flags["receive"]:
        found = simulator.run_through(node, request, is_stock=is_stock)
    else:
        found = simulator.run(node, request)
    text = found.text if flags["output"] == "text" else _format(found.answer, "json")
    click.echo(text, nl=False)
    if not found.is_delivered:
        sys.exit(1)


@navarch_command.command(
    "agent",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def agent_command(words: tuple[str, ...]) -> None:
    """Run the agent beside Envoy (navarch-agent), with its flags."""
    agent_program.become_agent(words)


@navarch_command.command("bootstrap")
@click.option("--node-id", default="", help="TYPE~IP~POD.NAMESPACE~DOMAIN, in place of its parts.")
@click.option("--proxy-type", type=click.Choice(bootstrap.PROXY_TYPES), default="sidecar")
@click.option("--ip", default="", help="The workload's address; several with commas.")
@click.option("--pod", default="", help="The workload's name.")
@click.option("--namespace", default="", help="The workload's namespace.")
@click.option("--cluster", default="", help="Envoy's --service-cluster; APP.NAMESPACE if left out.")
@click.option("--cluster-id", default="Kubernetes", show_default=True)
@click.option("--label", "labels", multiple=True, callback=_pairs, help="K=V. Repeatable.")
@click.option("--service-account", default="")
@click.option("--metadata", multiple=True, callback=_pairs, help="K=V, V may be JSON. Repeatable.")
@click.option("--locality", default="", help="REGION/ZONE/SUBZONE.")
@click.option(
    "--redirect/--no-redirect",
    "has_redirect",
    default=True,
    help="Whether iptables redirects the workload's traffic to the proxy.",
)
@click.option("--domain-suffix", default="cluster.local", show_default=True)
@click.option(
    "--discovery-address",
    default="127.0.0.1:15010",
    show_default=True,
    callback=_address("--discovery-address"),
    help="Where navarch serves ADS.",
)
@click.option(
    "--admin-address",
    default="127.0.0.1:15000",
    show_default=True,
    callback=_address("--admin-address"),
    help="Where Envoy serves its admin page.",
)
@click.option("--xds", type=click.Choice(["delta", "sotw"]), default="delta", show_default=True)
@click.option("-o", "--output", type=_FORMAT, default="yaml", show_default=True)
def bootstrap_command(**flags: Any) -> None:  # noqa: ANN401
    """Print a bootstrap for an Envoy: envoy -c <(navarch bootstrap ...)."""
    node = bootstrap.Node(
        id=flags["node_id"],
        metadata={key: _json_or_text(text) for key, text in flags["metadata"].items()},
        locality=_locality(flags["locality"]),
        **{
            name: flags[name]
            for name in (
                "proxy_type",
                "ip",
                "pod",
                "namespace",
                "cluster",
                "cluster_id",
                "labels",
                "service_account",
                "has_redirect",
                "domain_suffix",
            )
        },
    )
    plan = bootstrap.Plan(
        node, flags["discovery_address"], flags["admin_address"], is_delta=flags["xds"] == "delta"
    )
    click.echo(_format(bootstrap.build_bootstrap(plan), flags["output"]), nl=False)


def _json_or_text(text: str) -> Any:  # noqa: ANN401  any JSON value
    try:
        return json.loads(text)
    except ValueError:
        return text


def _locality(text: str) -> dict[str, str]:
    return {
        k: v for k, v in zip(("region", "zone", "sub_zone"), text.split("/"), strict=False) if v
    }


@navarch_command.command()
@click.option(
    "--output", type=_PATH, help="Directory for one file a kind, in place of standard output."
)
def crds(output: Path | None) -> None:
    """Print the CustomResourceDefinitions of the mesh's kinds: navarch crds | kubectl apply -f -."""
    definitions = manifests.build_manifests()
    if output is None:
        click.echo(
            "---\n".join(_format(definition, "yaml") for definition in definitions), nl=False
        )
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        for definition in definitions:
            file = output / f"{definition['metadata']['name']}.yaml"
            file.write_text(_format(definition, "yaml"))
    except OSError as error:
        raise errors.SettingsError(f"--output {output}: {error.strerror or error}") from error
    click.echo(f"{_count(len(definitions), 'definition')} written to {output}", err=True)


@navarch_command.command()
@click.option(
    "-f", "--filename", "file", type=click.File(), required=True, help="YAML, or - for stdin."
)
@click.option(
    "--settings", type=_EXISTING, envvar="NAVARCH_INJECTION_SETTINGS", help="Injection settings."
)
@_mesh_config
@click.option(
    "-n", "--namespace", default="default", help="Of objects that name none.", show_default=True
)
def inject(file: TextIO, settings: Path | None, mesh_config: Path | None, namespace: str) -> None:
    """Put the proxy into the pods of Deployments, Jobs, Pods and lists; print all the documents."""
    made = injecting.inject_text(file.read(), namespace, settings, mesh_config)
    for note in made.notes:
        click.echo(note, err=True)
    click.echo("---\n".join(_format(each, "yaml") for each in made.documents), nl=False)
