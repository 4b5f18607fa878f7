"""Keeps customers' histories in the memory of the native library: about 100 bytes an event, and 250 in a long history."""

import struct
import sys
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import Any, Final

import msgspec

from app.domain import velocity
from app.domain.events import ALL_AMOUNTS, AmountFilter, Event, Facts
from app.domain.records import WINDOWS_US, Window
from app.domain.rules.fields import RulesError
from app.domain.rules.rule import Prefilter, RuleSet
from app.native.library import Library, load

_EVENT: Final = struct.Struct("=qqqqQqqQQiIBB6x")
"""`bank_event` of bank.h."""
_WORD_BYTES: Final = 8
_INTERNED: Final = 0xFF << 56
"""Words from here on are numbers of texts."""
BLOCK_EVENTS: Final = 512
"""A history has its events in blocks. Windows read the events of two blocks, and totals of those between."""
CHUNK_EVENTS: Final = 32
"""The events of a stored chunk, which a transaction writes anew. Long histories have larger chunks (app/native/chunks.c)."""
_LENGTHS: Final = struct.Struct("=II")
_DELETED: Final = (1 << 32) - 1
_CHANGES_BYTES: Final = 1 << 16
_READ_EVENTS: Final = 1_024
_INT64_MAX: Final = (1 << 63) - 1
_WINDOWS_JSON_BYTES: Final = 4_096
_windows: Final = msgspec.json.Decoder(dict[str, Window]).decode
_fired: Final = msgspec.msgpack.Decoder(tuple[str, ...]).decode


class Rules:
    """A rule set in the form of the library: selections, prefilters and windows."""

    def __init__(self, library: Library, rules: RuleSet) -> None:
        """Raises RulesError if the library has no room for the rules."""
        _check_room(library, rules)
        self.library = library
        self.selections = {selection: number for number, selection in enumerate(_selections(rules))}
        self.pointer: Any = library.ffi.new("bank_rules *")
        it, prefilters = self.pointer, _prefilters(rules)
        it.kept_us, it.block_events, it.chunk_events = velocity.RETENTION_US, BLOCK_EVENTS, CHUNK_EVENTS
        it.windows, it.selections, it.concerns = len(WINDOWS_US), len(self.selections), len(prefilters)
        numbers = {name: number for number, name in enumerate(WINDOWS_US)}
        for name, number in numbers.items():
            it.name[number], it.length_us[number] = name.encode(), WINDOWS_US[name]
        for selection, number in self.selections.items():
            at = it.selection[number]
            at.at_least_minor, at.at_most_minor = _bounded(selection.at_least_minor), _bounded(selection.at_most_minor)
            at.credit, at.debit = "credit" in selection.types, "debit" in selection.types
        for number, prefilter in enumerate(prefilters):
            at = it.concern[number]
            at.at_least_minor, at.count, at.after_us = (
                _bounded(prefilter.at_least_minor),
                prefilter.count,
                prefilter.after_us,
            )
            at.window = numbers[prefilter.window] if prefilter.window else -1
            at.after = -1 if prefilter.after is None else self.selections[prefilter.after]
        self.event: Any = library.ffi.new("bank_event *")
        """A buffer for one event to or from the library."""
        assert library.ffi.sizeof("bank_event") == _EVENT.size
        self.event_bytes = library.ffi.buffer(self.event)
        self.windows: Any = library.ffi.new("uint8_t[]", _WINDOWS_JSON_BYTES)
        self.length: Any = library.ffi.new("size_t *")
        self.high, self.low = library.ffi.new("int64_t *"), library.ffi.new("uint64_t *")
        self.changes: Any = library.ffi.new("uint8_t[]", _CHANGES_BYTES)
        self.changes_bytes = library.ffi.buffer(self.changes)


@cache
def without_rules() -> Rules:
    """Returns what histories need that are asked for nothing but their windows."""
    return Rules(load(), RuleSet(()))


def _check_room(library: Library, rules: RuleSet) -> None:
    for what, count, most in (
        ("bands of amounts that they watch", len(_selections(rules)) - 1, library.lib.BANK_SELECTIONS - 1),
        ("prefilters", len(_prefilters(rules)), library.lib.BANK_CONCERNS),
    ):
        if count > most:
            raise RulesError(
                f"the {len(rules.rules)} rules have {count} {what}, and the native library has room for {most}. Take rules out of the "
                "file that BANKSTREAM_RULES_FILE names, or let several watch the same amounts"
            )


def _selections(rules: RuleSet) -> list[AmountFilter]:
    return list(dict.fromkeys((ALL_AMOUNTS, *rules.selections)))


def _prefilters(rules: RuleSet) -> list[Prefilter]:
    return [concern for rule in rules.rules for concern in rule.prefilters]


class NativeHistory:
    """A customer's history in the library. Implements `CustomerHistory`, which documents the methods."""

    __slots__ = ("_lib", "pointer", "rules")

    def __init__(self, rules: Rules, events: Iterable[Event] = ()) -> None:
        """No two `events` have the same account and transaction."""
        self.rules, self._lib = rules, rules.library.lib
        self.pointer = rules.library.ffi.gc(self._lib.bank_history_new(rules.pointer), self._lib.bank_history_free)
        for event in events:
            self.put(event)

    def __len__(self) -> int:
        return int(self._lib.bank_history_length(self.pointer))

    def __iter__(self) -> Iterator[Event]:
        place, limit = 0, min(len(self), _READ_EVENTS)
        events = self._events(limit)
        while count := self._lib.bank_history_events(self.pointer, place, limit, events):
            yield from self._read_all(events, count)
            place += count

    @property
    def floor_us(self) -> int:
        """See `CustomerHistory`."""
        return int(self._lib.bank_history_floor(self.pointer))

    @property
    def memory_bytes(self) -> int:
        """The memory that the history takes."""
        return int(self._lib.bank_history_bytes(self.pointer))

    @property
    def newest_us(self) -> int | None:
        """See `CustomerHistory`."""
        found = self._lib.bank_history_newest(self.pointer, self.rules.event)
        return int(self.rules.event.time_us) if found else None

    def find(self, account_id: int, transaction_id: int) -> Event | None:
        """See `CustomerHistory`."""
        found = self._lib.bank_history_find(self.pointer, account_id, transaction_id, self.rules.event)
        return self._read() if found else None

    def put(self, event: Event) -> None:
        """See `CustomerHistory`."""
        self._lib.bank_history_put(self.pointer, self._write(event))

    def remove(self, event: Event) -> None:
        """See `CustomerHistory`."""
        if not self._lib.bank_history_remove(self.pointer, event.account_id, event.transaction_id):
            raise KeyError(event.key)

    def forget(self, event: Event) -> Event | None:
        """See `CustomerHistory`."""
        left = self._lib.bank_history_forget(self.pointer, event.account_id, event.transaction_id, self.rules.event)
        if not left:
            raise KeyError(event.key)
        return self._read() if left > 1 else None

    def expire(self, horizon_us: int) -> list[Event]:
        """See `CustomerHistory`."""
        count = self._lib.bank_history_before(self.pointer, horizon_us)
        events = self._events(count)
        self._lib.bank_history_expire(self.pointer, horizon_us, events)
        return self._read_all(events, count)

    def seek(self, time_us: int) -> None:
        """See `CustomerHistory`."""
        self._lib.bank_history_seek(self.pointer, time_us)

    def window_start_us(self, length_us: int) -> int:
        """See `CustomerHistory`."""
        return int(self._lib.bank_history_after(self.pointer, length_us))

    def windows(self, event: Event) -> dict[str, Window]:
        """See `CustomerHistory`."""
        json, currency = self.rules.windows, self._word(event.facts.currency)
        length = self._lib.bank_history_windows(self.pointer, event.time_us, currency, json)
        return _windows(self.rules.library.ffi.buffer(json, length))

    def amounts(self, selection: AmountFilter, currency: str, after_us: int) -> tuple[int, int]:
        """See `CustomerHistory`."""
        rules, number = self.rules, self.rules.selections[selection]
        count = self._lib.bank_history_amounts(
            self.pointer, number, self._word(currency), after_us, rules.high, rules.low
        )  # fmt: skip
        return int(count), (int(rules.high[0]) << 64) + int(rules.low[0])

    def latest_amounts(self, selection: AmountFilter, currency: str, after_us: int, limit: int) -> list[Event]:
        """See `CustomerHistory`."""
        events, number = self._events(limit), self.rules.selections[selection]
        count = self._lib.bank_history_latest_amounts(
            self.pointer, number, self._word(currency), after_us, limit, events
        )  # fmt: skip
        return self._read_all(events, count)

    def load(self, key: bytes, value: bytes, expired: int) -> bool:
        """Adds the events of a stored chunk, except the first `expired`. Chunks must come in the order of their keys. Returns False if the
        chunk is damaged; then the history must not be used."""
        return bool(self._lib.bank_history_load(self.pointer, key, value, len(value), expired))

    def changes(self, customer_id: int) -> list[tuple[bytes, bytes | None]]:
        """Returns the entries that a store must set, or delete (None), to have the history as it is now."""
        raw, call = self.rules.changes_bytes, self._lib.bank_history_changes
        length = call(self.pointer, customer_id, self.rules.changes, _CHANGES_BYTES)
        if length < 0:
            room = self.rules.library.ffi.new("uint8_t[]", -length)
            raw, length = self.rules.library.ffi.buffer(room), call(self.pointer, customer_id, room, -length)
        changes, at = list[tuple[bytes, bytes | None]](), 0
        while at < length:
            key_length, value_length = _LENGTHS.unpack_from(raw, at)
            key_at, value_at = at + _LENGTHS.size, at + _LENGTHS.size + key_length
            at = value_at if value_length == _DELETED else value_at + value_length
            changes.append((raw[key_at:value_at], None if value_length == _DELETED else raw[value_at:at]))
        return changes

    def previous(self, event: Event) -> Event | None:
        """See `CustomerHistory`."""
        key: Any = self.rules.library.ffi.new("bank_event *")
        key.time_us, key.account_id, key.transaction_id = event.key
        found = self._lib.bank_history_previous(self.pointer, key, self.rules.event)
        return self._read() if found else None

    def latest_counted(self, event: Event, after_us: int, limit: int) -> list[Event]:
        """See `CustomerHistory`."""
        events = self._events(limit)
        count = self._lib.bank_history_latest_counted(self.pointer, event.time_us, after_us, limit, events)
        return self._read_all(events, count)

    def _events(self, count: int) -> Any:
        return self.rules.library.ffi.new("bank_event[]", count)

    def _read_all(self, events: Any, count: int) -> list[Event]:
        raw = memoryview(self.rules.library.ffi.buffer(events))
        return [self._read(raw[at * _EVENT.size : (at + 1) * _EVENT.size]) for at in range(count)]

    def _read(self, raw: Any = None) -> Event:
        """Returns the event that the library wrote into the buffer of the rules, or into `raw`."""
        (
            time_us, account_id, transaction_id, amount_minor, counterparty, lsn, offset, currency, country, partition, fired, status,
            credit,
        ) = _EVENT.unpack_from(self.rules.event_bytes if raw is None else raw)  # fmt: skip
        facts = Facts(
            amount_minor, self._text(currency), credit != 0, status, counterparty, self._text(country) if country else None,
            None if lsn < 0 else lsn, partition, offset, _fired(self._interned(fired)) if fired else (),
        )  # fmt: skip
        return Event(time_us, account_id, transaction_id, facts)

    def _write(self, event: Event) -> Any:
        """Returns a pointer to the event; valid until the next event is written or read."""
        facts = event.facts
        _EVENT.pack_into(
            self.rules.event_bytes, 0, event.time_us, event.account_id, event.transaction_id, facts.amount_minor, facts.counterparty,
            -1 if facts.lsn is None else facts.lsn, facts.offset, self._word(facts.currency),
            self._word(facts.country) if facts.country else 0, facts.partition,
            self._intern(msgspec.msgpack.encode(facts.fired)) if facts.fired else 0, facts.status, facts.credit,
        )  # fmt: skip
        return self.rules.event

    def _word(self, text: str) -> int:
        raw = text.encode()
        if len(raw) > _WORD_BYTES or 0 in raw:
            return _INTERNED | self._intern(raw)
        return int.from_bytes(raw, sys.byteorder)

    def _text(self, word: int) -> str:
        return _short_text(word) if word < _INTERNED else self._interned(word & 0xFFFF_FFFF).decode()

    def _intern(self, raw: bytes) -> int:
        return int(self._lib.bank_history_intern(self.pointer, raw, len(raw)))

    def _interned(self, number: int) -> bytes:
        found = self._lib.bank_history_text(self.pointer, number, self.rules.length)
        return bytes(self.rules.library.ffi.buffer(found, self.rules.length[0]))


@lru_cache(maxsize=4_096)
def _short_text(word: int) -> str:
    return word.to_bytes(_WORD_BYTES, sys.byteorder).rstrip(b"\0").decode()


def _bounded(number: int) -> int:
    return max(-_INT64_MAX, min(number, _INT64_MAX))
