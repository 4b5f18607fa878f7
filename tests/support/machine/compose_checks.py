"""Checks docker-compose.yml beyond its schema. Each check yields a sentence per error, and nothing if there is none."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

Compose = dict[str, Any]

SECRET: Final = re.compile(r"PASSWORD|PASSPHRASE|SECRET|ACCESS_KEY|SIGNING|TOKEN")
REQUIRED: Final = re.compile(r"\$\{(?P<name>\w+):\?[^}]+\}")
VARIABLE: Final = re.compile(r"(?<!\$)\$(?:\{(?P<name>\w+)(?P<rest>[^}]*)\}|(?P<bare>\w+))")
DURATION: Final = re.compile(r"(\d+(ms|s|m|h))+")
SIZE: Final = re.compile(r"\d+[kmg]")
EXACT_TAG: Final = re.compile(r":v?\d+\.\d+[\w.-]*$|@sha256:[0-9a-f]{64}$")


def problems(compose: Compose, root: Path, made: set[str], settings: set[str]) -> list[str]:
    """All errors. `made` has the variables that make-env generates, `settings` those that the application reads."""
    services: dict[str, Any] = compose["services"]
    found: list[str] = []
    for name, service in services.items():
        for check in (_health, _units, _hardening, _ports, _image):
            found += [f"{name}: {problem}" for problem in check(service)]
        found += [f"{name}: {problem}" for problem in _dependencies(service, services)]
        found += [f"{name}: {problem}" for problem in _build(service, root)]
        found += [f"{name}: {problem}" for problem in _names(service, compose)]
        found += [f"{name}: {problem}" for problem in _environment(service, made, settings)]
    return [*found, *_local_images(services), *_unused(compose), *_cycles(services)]


def variables(value: Any) -> Iterator[tuple[str, str]]:
    """Each `${NAME…}` in a value at any depth: the name, and the text after it."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from variables(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from variables(inner)
    elif isinstance(value, str):
        for match in VARIABLE.finditer(value):
            yield match["name"] or match["bare"], match["rest"] or ""


def _health(service: Compose) -> Iterator[str]:
    check = service.get("healthcheck")
    if check is None:
        yield "has no health check"
    elif check.get("disable") and service.get("restart") != "no":
        yield "runs for good with its health check turned off"


def _units(service: Compose) -> Iterator[str]:
    check = service.get("healthcheck") or {}
    times = {key: check[key] for key in ("interval", "timeout", "start_period", "start_interval") if key in check}
    for key, value in {**times, "stop_grace_period": service.get("stop_grace_period", "1s")}.items():
        if not DURATION.fullmatch(value):
            yield f"{key} {value} is no duration"
    if not SIZE.fullmatch(service.get("mem_limit", "1g")):
        yield f"mem_limit {service['mem_limit']} is no size"


def _hardening(service: Compose) -> Iterator[str]:
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield "may gain privileges"
    if service.get("cap_drop") != ["ALL"]:
        yield "keeps capabilities"
    if service.get("privileged") or service.get("network_mode") == "host" or service.get("pid") == "host":
        yield "shares the host's namespaces"
    if any("docker.sock" in str(volume) for volume in service.get("volumes", [])):
        yield "has the Docker socket"
    for limit in ("mem_limit", "cpus", "pids_limit", "logging", "restart"):
        if limit not in service:
            yield f"has no {limit}"
    if service.get("image", "").startswith("bankstream-") and not service.get("read_only"):
        yield "is ours and may write to its root"


def _ports(service: Compose) -> Iterator[str]:
    for port in service.get("ports", []):
        if not isinstance(port, str) or not port.startswith("127.0.0.1:"):
            yield f"publishes {port} beyond loopback"
        elif any(not 0 < int(number) < 65536 for number in re.findall(r"(?<=[:-])\d+", port)):
            yield f"publishes {port}, which is no port"


def _image(service: Compose) -> Iterator[str]:
    image = service.get("image", "")
    if not image:
        yield "has no image name"
    elif not image.startswith("bankstream-") and not EXACT_TAG.search(image):
        yield f"image {image} is not pinned"


def _dependencies(service: Compose, services: dict[str, Any]) -> Iterator[str]:
    wanted = service.get("depends_on", {})
    if not isinstance(wanted, dict):
        yield "depends on others without saying on what condition"
        return
    for other, how in wanted.items():
        target = services.get(other)
        if target is None:
            yield f"depends on {other}, which is not there"
            continue
        check = target.get("healthcheck") or {}
        if how["condition"] == "service_healthy" and ("test" not in check or check.get("disable")):
            yield f"waits for {other} to be healthy, which has no health check"
        if how["condition"] == "service_completed_successfully" and target.get("restart") != "no":
            yield f"waits for {other} to end, which starts again"
        if how["condition"] == "service_started":
            yield f"does not wait until {other} answers"


def _build(service: Compose, root: Path) -> Iterator[str]:
    build = service.get("build")
    if build is None:
        return
    dockerfile = root / build.get("context", ".") / build.get("dockerfile", "Dockerfile")
    if not dockerfile.is_file():
        yield f"is built by {dockerfile.relative_to(root)}, which is not there"
    elif not re.search(rf"^FROM .* AS {re.escape(build['target'])}$", dockerfile.read_text(), re.MULTILINE):
        yield f"is built from stage {build['target']}, which {dockerfile.name} does not have"


def _names(service: Compose, compose: Compose) -> Iterator[str]:
    if not service.get("networks"):
        yield "is on the default network"
    for network in service.get("networks", []):
        if network not in compose.get("networks", {}):
            yield f"is on network {network}, which is not declared"
    for volume in service.get("volumes", []):
        name = volume.split(":")[0]
        if name.startswith((".", "/", "~")):
            yield f"mounts {name} of the host"
        elif name not in compose.get("volumes", {}):
            yield f"mounts volume {name}, which is not declared"


def _environment(service: Compose, made: set[str], settings: set[str]) -> Iterator[str]:
    for key, value in service.get("environment", {}).items():
        if not isinstance(value, str):
            yield f"{key} is no string"
        elif SECRET.search(key) and not REQUIRED.fullmatch(value):
            yield f"{key} is a secret, and must be ${{NAME:?message}}"
        if key.startswith("BANKSTREAM_") and key not in settings:
            yield f"{key} is no setting"
    for name, rest in variables(service):
        if name in made and not rest.startswith(":?"):
            yield f"{name} may be empty"
        if name not in made and not rest.startswith(":-"):
            yield f"{name} is not made by make-env and has no default"
        if name not in made and name not in settings:
            yield f"{name} is no setting"
        if rest.startswith(":-") and SECRET.search(name):
            yield f"{name} has a default"


def _local_images(services: dict[str, Any]) -> Iterator[str]:
    built = {service["image"] for service in services.values() if "build" in service}
    for name, service in services.items():
        if service.get("image", "").startswith("bankstream-") and service["image"] not in built:
            yield f"{name}: image {service['image']} is built by nobody"


def _unused(compose: Compose) -> Iterator[str]:
    mounted = {str(volume).split(":")[0] for s in compose["services"].values() for volume in s.get("volumes", [])}
    for volume in compose.get("volumes", {}):
        if volume not in mounted:
            yield f"volume {volume} is used by nobody"


def _cycles(services: dict[str, Any]) -> Iterator[str]:
    """Services that depend on each other in a cycle: those left after all others have started."""
    waiting = {name: set(service.get("depends_on", {})) & set(services) for name, service in services.items()}
    while ready := [name for name, others in waiting.items() if not others & set(waiting)]:
        for name in ready:
            del waiting[name]
    if waiting:
        yield f"{', '.join(sorted(waiting))} wait for each other"
