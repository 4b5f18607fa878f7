"""Describes the settings from their classes: the reference page, and the values that a process in this environment uses."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from app.config import settings

HEAD: Final = """# Configuration

This page lists every setting of the application. Settings are environment variables. A process reads and checks the ones it needs when
it starts, and names every invalid one. A secret never appears in a log, an error or a command line. `bankstream settings` prints the
values of this environment, and the variables with the application's prefix that are not settings.

`bankstream settings --markdown > docs/CONFIGURATION.md` generates this page from [app/config/settings.py](../app/config/settings.py).
"""
WORDS: Final = {str: "text", int: "integer", float: "number", Path: "path", bool: "true, false", SecretStr: "secret"}
BOUNDS: Final = {"gt": "above", "ge": "from", "le": "to", "lt": "below"}
FOREIGN: Final = ("BANKSTREAM_CONNECTOR_", "BANKSTREAM_AIRFLOW_", "BANKSTREAM_LOOKUP_")
"""Prefixes of variables that other programs read: Kafka Connect's worker for the connector's secrets, Airflow's DAG for its settings, and
clients of the local stack's lookup API for its address and token."""


class Setting(NamedTuple):
    """The description of one environment variable."""

    variable: str
    kind: str
    """The type of its value, in words."""
    default: str | None
    """The default as text for the environment; None: unset."""
    required: bool
    secret: bool
    description: str


def sections() -> list[type[BaseSettings]]:
    """Returns the classes of settings, in the order of the file."""
    return [
        found
        for found in vars(settings).values()
        if isinstance(found, type)
        and issubclass(found, settings.EnvironmentSettings)
        and found is not settings.EnvironmentSettings
    ]


def described(section: type[BaseSettings]) -> Iterator[Setting]:
    """Yields the settings that a class adds to those of its parent."""
    inherited = {name for parent in section.__mro__[1:] for name in getattr(parent, "model_fields", ())}
    for name, field in section.model_fields.items():
        if name not in inherited:
            annotation = field.annotation if not field.metadata else Annotated[field.annotation, *field.metadata]
            yield Setting(
                variable=settings.environment_name(section, str(field.validation_alias or name)),
                kind=_kind(annotation),
                default=None if field.is_required() or field.default is None else _text(field.default),
                required=field.is_required(),
                secret="secret" in _kind(annotation),
                description=field.description or "",
            )


def every() -> Iterator[Setting]:
    """Yields all settings."""
    for section in sections():
        yield from described(section)


def markdown() -> str:
    """Returns the reference page."""
    parts = [HEAD]
    for section in sections():
        text = " ".join((section.__doc__ or "").split())
        parts.append(
            f"\n## {section.__name__.removesuffix('Settings')}\n{text}\n\n| variable | holds | default | |\n|---|---|---|---|\n"
        )
        for found in described(section):
            default = "**required**" if found.required else "" if found.default is None else f"`{found.default}`"
            default = "(empty)" if found.default == "" else default
            parts.append(f"| `{found.variable}` | {found.kind} | {default} | {found.description} |\n")
    return "".join(parts)


def effective(environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yields variable, value and origin of every setting that has a value. A secret's value is `(set)`.

    Skips a section whose required settings are all unset, because it belongs to another process. Raises SettingsError like `load`.
    """
    for section in sections():
        found = list(described(section))
        if any(one.required for one in found) and not any(one.variable in environment for one in found):
            continue
        values = settings.read(section, environment)
        by_variable = {
            settings.environment_name(section, str(field.validation_alias or name)): getattr(values, name)
            for name, field in type(values).model_fields.items()
        }
        for one in found:
            value = by_variable[one.variable]
            if value is not None:
                origin = "environment" if one.variable in environment else "default"
                yield one.variable, "(set)" if one.secret else _text(value), origin


def unknown(environment: Mapping[str, str]) -> list[str]:
    """Returns the variables with the prefix BANKSTREAM_ that are not settings, such as misspelt ones."""
    known = {found.variable for found in every()}
    return sorted(
        name
        for name in environment
        if name.startswith("BANKSTREAM_") and name not in known and not name.startswith(FOREIGN)
    )


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(_kind(argument) for argument in arguments if argument is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if origin is tuple:
        return "list"
    if origin is Annotated:
        bounds = [bound for one in arguments[1:] for bound in _bounds(one)]
        return ", ".join([_kind(arguments[0]), *([" ".join(bounds)] if bounds else [])])
    return WORDS[annotation]


def _bounds(constraint: Any) -> list[str]:
    if isinstance(constraint, FieldInfo):
        return [bound for one in constraint.metadata for bound in _bounds(one)]
    return [
        f"{word} {value}" for name, word in BOUNDS.items() if (value := getattr(constraint, name, None)) is not None
    ]
