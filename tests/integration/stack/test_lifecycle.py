"""Tests that the stack starts, survives kills, keeps its data, and leaves nothing behind."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import psycopg
import pytest

from app.config.settings import PostgresSettings, StackSettings
from app.local.stack.errors import PartFailedError
from app.local.stack.events import Died
from app.local.stack.launcher import YIELDING
from app.local.stack.orphans import find_orphans
from app.local.stack.part import Part
from app.local.stack.stack import Stack
from tests.support.machine.ordinary_user import as_ordinary_user
from tests.support.machine.stack import private_stack, settings_of
from tests.support.machine.waiting import eventually

pytestmark = pytest.mark.integration


def test_a_part_added_later_leaves_the_running_ones_alone(kafka_stack: Stack, postgres_stack: Stack) -> None:
    before = kafka_stack.pid("kafka")
    postgres_stack.up()
    assert postgres_stack.pid("kafka") == before
    assert {status.name for status in postgres_stack.status() if status.state == "ready"} >= {"kafka", "postgres"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Stack]:
    """A stack of PostgreSQL alone, the fastest part to start."""
    with private_stack(Part.POSTGRES) as stack:
        yield stack


def ask(stack: Stack, statement: str) -> list[tuple[object, ...]]:
    """Runs a statement as the server's superuser and returns its rows."""
    found = settings_of(stack, PostgresSettings)
    with psycopg.connect(
        host=found.host, port=found.port, dbname="postgres", user="postgres", autocommit=True,
        password=stack.environment()["BANKSTREAM_POSTGRES_ADMIN_PASSWORD"],
    ) as connection:  # fmt: skip
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def instance(stack: Stack) -> str:
    """The id of the stack, with which all its processes are marked."""
    state = stack.home.load_state()
    assert state is not None
    return state.instance


def test_data_survives_down_and_up_on_the_same_port(postgres: Stack) -> None:
    ask(postgres, "CREATE TABLE kept AS SELECT 42 AS answer")
    port = settings_of(postgres, PostgresSettings).port
    postgres.down()
    assert [status.state for status in postgres.status()] == ["stopped"]
    postgres.up()
    assert ask(postgres, "SELECT answer FROM kept") == [(42,)]
    assert settings_of(postgres, PostgresSettings).port == port


def test_the_home_of_an_older_version_gets_the_secret_that_it_lacks_and_keeps_the_others(postgres: Stack) -> None:
    postgres.down()
    before = postgres.home.load_secrets()
    assert before is not None
    postgres.home.save_secrets(msgspec.structs.replace(before, api=""))
    postgres.up()
    after = postgres.home.load_secrets()
    assert after is not None
    assert len(after.api) >= 20
    assert msgspec.structs.replace(after, api="") == msgspec.structs.replace(before, api="")
    assert ask(postgres, "SELECT 1") == [(1,)]


def test_down_leaves_no_process_and_may_be_repeated(postgres: Stack) -> None:
    postgres.up()
    assert len(find_orphans(instance(postgres))) > 1
    postgres.down()
    assert find_orphans(instance(postgres)) == []
    postgres.down()


@pytest.fixture
def deaths(postgres: Stack) -> Iterator[list[Died]]:
    """The messages of `watch` so far."""
    postgres.up()
    told: list[Died] = []
    stop = threading.Event()
    watching = postgres.watch(stop)
    began = threading.Event()

    def follow() -> None:
        began.set()
        told.extend(iter(lambda: next(watching, None), None))

    thread = threading.Thread(target=follow)
    thread.start()
    began.wait()
    yield told
    stop.set()
    thread.join()


@pytest.mark.parametrize("name", ["KILL", "ABRT"])
def test_a_part_that_is_killed_is_started_again_and_reported(postgres: Stack, deaths: list[Died], name: str) -> None:
    killed = postgres.pid("postgres")
    postgres.kill("postgres", name)
    eventually(lambda: postgres.pid("postgres") not in (None, killed), timeout_s=20)
    postgres.wait_ready("postgres")
    eventually(lambda: bool(deaths), timeout_s=20)
    assert (deaths[0].part, deaths[0].reason) == ("postgres", f"terminated by SIG{name}")
    assert ask(postgres, "SELECT 1") == [(1,)]


def test_a_part_that_is_stopped_on_purpose_is_not_reported(postgres: Stack, deaths: list[Died]) -> None:
    postgres.restart("postgres")
    killed = postgres.pid("postgres")
    postgres.kill("postgres")
    eventually(lambda: postgres.pid("postgres") not in (None, killed), timeout_s=20)
    eventually(lambda: bool(deaths), timeout_s=20)
    assert [death.reason for death in deaths] == ["terminated by SIGKILL"], "the kill, and not the restart before it"
    postgres.wait_ready("postgres")


def test_processes_left_by_a_killed_supervisor_are_ended_by_the_next_up(postgres: Stack) -> None:
    postgres.up()
    before = {process.pid for process in find_orphans(instance(postgres))}
    supervisor = next(
        process for process in find_orphans(instance(postgres)) if "supervisor.supervisord" in process.cmdline()
    )
    supervisor.kill()
    postgres.up()
    assert ask(postgres, "SELECT 1") == [(1,)]
    assert not before & {process.pid for process in find_orphans(instance(postgres))}


def broken_postgres(stack: Stack) -> None:
    (stack.home.data("postgres") / "PG_VERSION").write_text("7\n")


def broken_s3(stack: Stack) -> None:
    for path in stack.home.data("s3").rglob("*.ldb"):
        path.write_bytes(b"")
    (stack.home.data("s3") / "filerldb2").rename(stack.home.data("s3") / "away")
    (stack.home.data("s3") / "filerldb2").touch()


def broken_warehouse(stack: Stack) -> None:
    (stack.home.data("warehouse") / "_fs_global.db").write_bytes(b"not a database" * 100)


@pytest.mark.parametrize(
    ("part", "damage", "said"),
    [
        (Part.POSTGRES, broken_postgres, "incompatible with server"),
        pytest.param(Part.WAREHOUSE, broken_warehouse, "_fs_global.db", marks=pytest.mark.slow),
        (Part.S3, broken_s3, "filerldb2"),
    ],
)
def test_a_part_that_dies_while_starting_is_reported_with_the_end_of_its_log(
    part: Part, damage: Callable[[Stack], None], said: str
) -> None:
    with private_stack(part) as stack:
        stack.down()
        damage(stack)
        with pytest.raises(PartFailedError) as error:
            stack.up()
        assert error.value.part == part
        message = str(error.value)
        assert f"{part} exited while it was starting" in message
        assert f"Its log {stack.home.log(part)} ends with:" in message
        assert said in message
        assert not stack.running(), "what this up had started is stopped again"
        assert find_orphans(instance(stack)) == []


def test_a_part_that_does_not_answer_in_time_is_reported() -> None:
    with private_stack(Part.POSTGRES) as stack:
        found = stack.pid("postgres")
        assert found is not None
        psutil.Process(found).send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(PartFailedError, match="postgres was not ready after 1 s"):
                stack.wait_ready("postgres", timeout_s=1)
            assert [status.state for status in stack.status()] == ["starting"]
        finally:
            psutil.Process(found).send_signal(signal.SIGCONT)


def test_parts_have_their_niceness_and_wipe_removes_only_what_the_stack_created() -> None:
    with private_stack(Part.POSTGRES, Part.S3, Part.WAREHOUSE) as stack:
        found = {status.name: status for status in stack.status()}
        ours, yielding = psutil.Process().nice(), min(psutil.Process().nice() + YIELDING, 19)
        niceness = {name: psutil.Process(status.pid).nice() for name, status in found.items()}
        assert niceness == {"postgres": ours, "s3": yielding, "warehouse": yielding}
        for status in found.values():  # most of PostgreSQL's memory is in its child processes
            root = psutil.Process(status.pid)
            held = sum(one.memory_info().rss for one in (root, *root.children(recursive=True))) >> 20
            assert status.memory_mb == pytest.approx(held, rel=0.2), status.name
        (stack.home.path / "mine.txt").touch()
        state = stack.home.load_state()
        assert state is not None
        stack.down(wipe=True)
        assert [path.name for path in stack.home.path.iterdir()] == ["mine.txt"]
        assert not stack.home.short_run(state).exists()
        assert state.postgres_base is None or not Path(state.postgres_base).exists()
        assert find_orphans(state.instance) == []


def test_the_stack_stops_when_its_owner_is_killed(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from app.local.stack.part import Part\n"
        "from app.local.stack.stack import Stack\n"
        "Stack(Path(sys.argv[1]), parts={Part.POSTGRES}, steps=(), owner=os.getpid()).up()\n"
        "print('up', flush=True)\n"
        "signal.pause()\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    stack = Stack(tmp_path, parts={Part.POSTGRES}, steps=(), settings=StackSettings())
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        mark = instance(stack)
        assert find_orphans(mark)
    finally:
        owner.kill()
        owner.communicate()
    eventually(lambda: find_orphans(mark) == [], timeout_s=30)
    stack.down(wipe=True)


def test_the_stack_works_as_an_ordinary_user() -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from app.local.stack.part import Part\n"
        "from app.local.stack.stack import Stack\n"
        "assert os.geteuid() != 0\n"
        "stack = Stack(Path(sys.argv[1]), parts={Part.POSTGRES, Part.S3, Part.WAREHOUSE}, steps=(), owner=os.getpid())\n"
        "stack.up()\n"
        "print(*sorted(status.name + ' ' + status.state for status in stack.status()), sep=', ')\n"
        "stack.down(wipe=True)\n"
        "print(os.path.exists(sys.argv[1]))\n"
    )
    done = as_ordinary_user([sys.executable, "-c", code])
    assert done.stdout.splitlines() == ["postgres ready, s3 ready, warehouse ready", "False"], done.stderr
