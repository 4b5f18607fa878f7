"""Keeps customers' histories in the memory of the native library: about 310 bytes an event; Python objects take 820.

They can keep only common events: currencies and countries of at most eight bytes, and amounts that are not negative. `holds` returns
whether an event is common. A customer with an event that is not needs `app.domain.velocity.History`.
"""

import struct
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec

from app.domain import velocity
from app.domain.events import ALL_AMOUNTS, AmountFilter, Event, Facts
from app.domain.records import WINDOWS_US, Window
from app.domain.rules.rule import Prefilter, RuleSet
from app.domain.window_aggregates import Key
from app.native.library import Library

_EVENT: Final = struct.Struct("=qqqqQqqQQiIBB6x")
"""`bank_event` of bank.h."""
_TEXT_BYTES: Final = 8
EMPTY_SIZE: Final = 8
"""Memory use of an empty history, in units of one event."""
_INT32_MAX: Final = (1 << 31) - 1
_INT64_MAX: Final = (1 << 63) - 1
_WINDOWS_JSON_BYTES: Final = 4_096
_CHANGES_BYTES: Final = 1 << 16
_LENGTHS: Final = struct.Struct("=II")
_DELETED: Final = (1 << 32) - 1
_fired: Final = msgspec.msgpack.Decoder(tuple[str, ...]).decode
_windows: Final = msgspec.json.Decoder(dict[str, Window]).decode


class Rules:
    """A rule set in the form of the library: selections, prefilters and windows. `holds` must be true for the rule set."""

    def __init__(self, library: Library, rules: RuleSet) -> None:
        self.library = library
        self.selections = {selection: number for number, selection in enumerate(_selections(rules))}
        self.pointer: Any = library.ffi.new("bank_rules *")
        it, prefilters = self.pointer, _prefilters(rules)
        it.kept_us, it.compact_at = velocity.RETENTION_US, velocity.COMPACT_AT
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
        self.scratch = _Scratch(library)

    @staticmethod
    def holds(library: Library, rules: RuleSet) -> bool:
        """Returns whether the library has room for a rule set."""
        lib = library.lib
        return bool(len(_selections(rules)) <= lib.BANK_SELECTIONS and len(_prefilters(rules)) <= lib.BANK_CONCERNS)


def _selections(rules: RuleSet) -> list[AmountFilter]:
    return list(dict.fromkeys((ALL_AMOUNTS, *rules.selections)))


def _prefilters(rules: RuleSet) -> list[Prefilter]:
    return [concern for rule in rules.rules for concern in rule.prefilters]


class _Scratch:
    """A buffer for one event to or from the library, and the library's numbers of the tuples of fired rules."""

    def __init__(self, library: Library) -> None:
        self.event: Any = library.ffi.new("bank_event *")
        assert library.ffi.sizeof("bank_event") == _EVENT.size
        self._bytes = library.ffi.buffer(self.event)
        self._library = library
        self._fired: dict[int, tuple[str, ...]] = {0: ()}
        self._numbers: dict[tuple[str, ...], int] = {(): 0}
        self.windows = library.ffi.new("uint8_t[]", _WINDOWS_JSON_BYTES)
        self.room = 0
        self.widen(_CHANGES_BYTES)

    def widen(self, room: int) -> None:
        """Makes the buffer for a history's changes at least this large."""
        self.room = max(room, 2 * self.room)
        self.changes: Any = self._library.ffi.new("uint8_t[]", self.room)
        self.raw_changes: Any = self._library.ffi.buffer(self.changes)

    def write(self, event: Event) -> Any:
        """Returns a pointer to the event; valid until the next event is written or read."""
        facts = event.facts
        fired = self._numbers.get(facts.fired)
        if fired is None:
            fired = self._interned(facts.fired)
        _EVENT.pack_into(
            self._bytes, 0, event.time_us, event.account_id, event.transaction_id, facts.amount_minor, facts.counterparty,
            -1 if facts.lsn is None else facts.lsn, facts.offset, to_word(facts.currency),
            0 if facts.country is None else to_word(facts.country), facts.partition, fired, facts.status, facts.credit,
        )  # fmt: skip
        return self.event

    def read(self, raw: Any = None) -> Event:
        """Returns the event that the library wrote into this buffer, or into `raw`."""
        (
            time_us, account_id, transaction_id, amount_minor, counterparty, lsn, offset, currency, country, partition, fired, status,
            credit,
        ) = _EVENT.unpack_from(self._bytes if raw is None else raw)  # fmt: skip
        rules = self._fired.get(fired)
        facts = Facts(
            amount_minor, _text(currency), credit != 0, status, counterparty, _text(country) if country else None,
            None if lsn < 0 else lsn, partition, offset, self._read_rules(fired) if rules is None else rules,
        )  # fmt: skip
        return Event(time_us, account_id, transaction_id, facts)

    def _interned(self, fired: tuple[str, ...]) -> int:
        raw = msgspec.msgpack.encode(fired)
        number = int(self._library.lib.bank_intern(raw, len(raw)))
        self._numbers[fired], self._fired[number] = number, fired
        return number

    def _read_rules(self, number: int) -> tuple[str, ...]:
        """Returns the rules of a number that the library has given to what it read from a store."""
        length = self._library.ffi.new("size_t *")
        raw = bytes(self._library.ffi.buffer(self._library.lib.bank_interned(number, length), length[0]))
        fired = _fired(raw)
        self._numbers[fired], self._fired[number] = number, fired
        return fired


class NativeHistory:
    """A customer's history in the library. Implements `CustomerHistory`, which documents the methods."""

    __slots__ = ("_lib", "_rules", "_scratch", "pointer")

    def __init__(self, rules: Rules, events: Iterable[Event] = ()) -> None:
        """No two `events` have the same account and transaction, and `holds` is true for each."""
        self._rules, self._lib, self._scratch = rules, rules.library.lib, rules.scratch
        self.pointer = rules.library.ffi.gc(self._lib.bank_history_new(rules.pointer), self._lib.bank_history_free)
        for event in events:
            self.put(event)

    @staticmethod
    def holds(event: Event) -> bool:
        """Returns whether the library can keep an event."""
        facts = event.facts
        return (
            0 <= facts.amount_minor <= _INT64_MAX
            and (facts.lsn is None or facts.lsn >= 0)
            and 0 <= facts.partition <= _INT32_MAX
            and _is_word(facts.currency)
            and (facts.country is None or _is_word(facts.country))
        )

    def __len__(self) -> int:
        return int(self._lib.bank_history_length(self.pointer))

    def __iter__(self) -> Iterator[Event]:
        place, lib, scratch = 0, self._lib, self._scratch
        while lib.bank_history_event(self.pointer, place, scratch.event):
            yield scratch.read()
            place += 1

    @property
    def floor_us(self) -> int:
        """See `CustomerHistory`."""
        return int(self._lib.bank_history_floor(self.pointer))

    @property
    def size(self) -> int:
        """See `CustomerHistory`."""
        return int(self._lib.bank_history_size(self.pointer)) + EMPTY_SIZE

    @property
    def newest_us(self) -> int | None:
        """See `CustomerHistory`."""
        if not self._lib.bank_history_event(self.pointer, len(self) - 1, self._scratch.event):
            return None
        return self._scratch.read().time_us

    def of_key(self, key: Key) -> Event:
        """See `CustomerHistory`."""
        found = self.find(key[1], key[2])
        if found is None:
            raise KeyError(key)
        return found

    def find(self, account_id: int, transaction_id: int) -> Event | None:
        """See `CustomerHistory`."""
        found = self._lib.bank_history_find(self.pointer, account_id, transaction_id, self._scratch.event)
        return self._scratch.read() if found else None

    def put(self, event: Event) -> None:
        """See `CustomerHistory`."""
        self._lib.bank_history_put(self.pointer, self._scratch.write(event))

    def remove(self, event: Event) -> None:
        """See `CustomerHistory`."""
        if not self._lib.bank_history_remove(self.pointer, event.account_id, event.transaction_id):
            raise KeyError(event.key)

    def expire(self, horizon_us: int) -> list[Event]:
        """See `CustomerHistory`."""
        count = self._lib.bank_history_before(self.pointer, horizon_us)
        events = self._events(count)
        self._lib.bank_history_expire(self.pointer, horizon_us, events)
        return self._read(events, count)

    def seek(self, time_us: int) -> None:
        """See `CustomerHistory`."""
        self._lib.bank_history_seek(self.pointer, time_us)

    def window_start_us(self, length_us: int) -> int:
        """See `CustomerHistory`."""
        return int(self._lib.bank_history_after(self.pointer, length_us))

    def windows(self, event: Event) -> dict[str, Window]:
        """See `CustomerHistory`."""
        json, currency = self._scratch.windows, to_word(event.facts.currency)
        length = self._lib.bank_history_windows(self.pointer, event.time_us, currency, json)
        return _windows(self._rules.library.ffi.buffer(json, length))

    def amounts(self, selection: AmountFilter, currency: str) -> "NativeAmounts | None":
        """See `CustomerHistory`."""
        track = NativeAmounts(self._rules, self.pointer, self._rules.selections[selection], to_word(currency))
        return track or None

    def previous(self, event: Event) -> Event | None:
        """See `CustomerHistory`."""
        key: Any = self._rules.library.ffi.new("bank_event *")
        key.time_us, key.account_id, key.transaction_id = event.key
        found = self._lib.bank_history_previous(self.pointer, key, self._scratch.event)
        return self._scratch.read() if found else None

    def load(self, key: bytes, value: bytes, expired: int) -> bool:
        """Adds the events of a stored chunk, except the first `expired`. Chunks must come in the order of their keys. Returns False if the
        chunk is damaged; then the history must not be used."""
        return bool(self._lib.bank_history_load(self.pointer, key, value, len(value), expired))

    def changes(self, customer_id: int) -> list[tuple[bytes, bytes | None]]:
        """Returns the entries that the store must write, or delete (None), to have the history as it is now. Call it after each record."""
        scratch, changes = self._scratch, list[tuple[bytes, bytes | None]]()
        while (length := self._lib.bank_history_changes(self.pointer, customer_id, scratch.changes, scratch.room)) < 0:
            scratch.widen(-length)
        raw, at = scratch.raw_changes, 0
        while at < length:
            key_length, value_length = _LENGTHS.unpack_from(raw, at)
            key = raw[at + 8 : at + 8 + key_length]
            at += 8 + key_length
            if value_length == _DELETED:
                changes.append((key, None))
            else:
                changes.append((key, raw[at : at + value_length]))
                at += value_length
        return changes

    def latest_counted(self, event: Event, after_us: int, limit: int) -> list[Event]:
        """See `CustomerHistory`."""
        events = self._events(limit)
        count = self._lib.bank_history_latest_counted(self.pointer, event.time_us, after_us, limit, events)
        return self._read(events, count)

    def _events(self, count: int) -> Any:
        return self._rules.library.ffi.new("bank_event[]", count)

    def _read(self, events: Any, count: int) -> list[Event]:
        raw = memoryview(self._rules.library.ffi.buffer(events))
        return [self._scratch.read(raw[at * _EVENT.size : (at + 1) * _EVENT.size]) for at in range(count)]


class NativeAmounts:
    """The amounts of a selection in the library. Implements `AmountLookup`, which documents the methods."""

    __slots__ = ("_lib", "_rules", "_track")

    def __init__(self, rules: Rules, history: Any, selection: int, currency: int) -> None:
        self._rules, self._lib = rules, rules.library.lib
        self._track = history, selection, currency

    def __len__(self) -> int:
        return int(self._lib.bank_track_length(*self._track))

    def first_after(self, after_us: int, end: int) -> int:
        """See `AmountLookup`."""
        return int(self._lib.bank_track_after(*self._track, after_us, end))

    def total(self, first: int) -> int:
        """See `AmountLookup`."""
        high, low = self._rules.library.ffi.new("int64_t *"), self._rules.library.ffi.new("uint64_t *")
        self._lib.bank_track_sum(*self._track, first, high, low)
        return (int(high[0]) << 64) + int(low[0])

    def key(self, position: int) -> Key:
        """See `AmountLookup`."""
        if not self._lib.bank_track_event(*self._track, position, self._rules.scratch.event):
            raise IndexError(position)
        return self._rules.scratch.read().key


@lru_cache(maxsize=4_096)
def to_word(text: str) -> int:
    """Returns the bytes of a text as a number, as the library keeps it. Raises OverflowError if the text is longer than eight bytes."""
    raw = text.encode()
    if len(raw) > _TEXT_BYTES:
        raise OverflowError(f"{text!r} has more than {_TEXT_BYTES} bytes")
    return int.from_bytes(raw.ljust(_TEXT_BYTES, b"\0"), sys.byteorder)


@lru_cache(maxsize=4_096)
def _text(word: int) -> str:
    return word.to_bytes(_TEXT_BYTES, sys.byteorder).rstrip(b"\0").decode()


@lru_cache(maxsize=4_096)
def _is_word(text: str) -> bool:
    return 0 < len(text) <= _TEXT_BYTES and len(text.encode(errors="replace")) <= _TEXT_BYTES and "\0" not in text


def _bounded(number: int) -> int:
    return max(-_INT64_MAX, min(number, _INT64_MAX))
