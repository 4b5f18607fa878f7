"""Compares tracks with plain lists: after any pushes and pops they give correct results for every window that ends at their end."""

from bisect import bisect_left
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.support.oracle.aggregates import AmountAggregate, DistinctAggregate

STEPS = st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(1, 5))), max_size=80)
"""None removes the last entry; else (time since the last entry, amount or value)."""


@given(STEPS)
def test_amounts_have_the_count_sum_and_maximum_of_a_list(steps: Sequence[tuple[int, int] | None]) -> None:
    track, plain = AmountAggregate(), list[tuple[int, int]]()
    for step in steps:
        if step is not None:
            plain.append((step[0] + (plain[-1][0] if plain else 0), step[1]))
            track.push((plain[-1][0], 0, len(plain)), step[1])
        elif plain:
            plain.pop()
            track.pop()
        for after in {-1, *(time for time, _ in plain)}:
            inside = [amount for time, amount in plain if time > after]
            first = track.first_after(after, len(track))
            assert (len(track) - first, track.total(first)) == (len(inside), sum(inside))
            assert [track.key(position)[2] for position in range(first, len(track))] == list(
                range(len(plain) - len(inside) + 1, len(plain) + 1)
            )
            if inside:
                assert track.rows[track.peaks[bisect_left(track.peaks, first + 1)]][1] == max(inside)


def test_a_search_ignores_entries_after_the_given_end() -> None:
    track = AmountAggregate()
    for time in range(4):
        track.push((time, 0, time), 1)
    assert [track.first_after(after, end) for after in (0, 3) for end in (1, 2, 4)] == [1, 1, 1, 1, 2, 4]


@given(STEPS)
def test_distinct_values_are_those_of_a_set(steps: Sequence[tuple[int, int] | None]) -> None:
    track, plain = DistinctAggregate(), list[tuple[int, int]]()
    for step in steps:
        if step is not None:
            plain.append((step[0] + (plain[-1][0] if plain else 0), step[1]))
            track.push(step[1], plain[-1][0])
        elif plain:
            track.pop(plain.pop()[1])
        for after in {-1, *(time for time, _ in plain)}:
            assert track.count(after) == len({value for time, value in plain if time > after})
