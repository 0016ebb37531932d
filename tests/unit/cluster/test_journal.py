from __future__ import annotations

import random

from trana.jobs.cluster.journal import Journal

PLENTY = 10**6


def filled(last: int) -> Journal:
    journal = Journal()
    for number in range(1, last + 1):
        journal.add(number, b"%d" % number)
    return journal


def test_reports_come_out_in_order_whatever_the_order_of_arrival() -> None:
    journal, numbers = Journal(), list(range(1, 51))
    random.Random(3).shuffle(numbers)
    for number in numbers:
        journal.add(number, b"%d" % number)
    assert journal.after(0, max_bytes=PLENTY) == tuple((number, b"%d" % number) for number in range(1, 51))


def test_what_waits_for_a_lower_number_is_not_handed_out() -> None:
    journal = filled(1)
    journal.add(3, b"3")
    assert (journal.last, journal.after(0, max_bytes=PLENTY)) == (1, ((1, b"1"),))


def test_dropped_reports_are_gone_and_the_rest_keeps_its_numbers() -> None:
    journal = filled(5)
    journal.drop(3)
    assert journal.last == 5
    rest = ((4, b"4"), (5, b"5"))
    assert journal.after(3, max_bytes=PLENTY) == rest
    assert journal.after(0, max_bytes=PLENTY) == rest
    assert journal.after(4, max_bytes=PLENTY) == rest[1:]
    journal.add(6, b"6")
    assert journal.after(5, max_bytes=PLENTY) == ((6, b"6"),)


def test_what_was_not_dropped_is_handed_out_again() -> None:
    """As to a control plane that was restarted before it had stored what it was given."""
    journal = filled(5)
    given = journal.after(2, max_bytes=PLENTY)
    assert journal.after(2, max_bytes=PLENTY) == given != ()


def test_dropping_what_is_not_there_yet_loses_nothing() -> None:
    journal = filled(2)
    journal.drop(4)
    journal.drop(1)
    assert (journal.last, journal.after(4, max_bytes=PLENTY)) == (2, ())
    for number in (3, 4, 5):
        journal.add(number, b"%d" % number)
    assert journal.after(4, max_bytes=PLENTY) == ((5, b"5"),)


def test_a_long_answer_is_cut_but_never_empty() -> None:
    journal = filled(5)
    assert [number for number, _ in journal.after(1, max_bytes=2)] == [2, 3]
    assert [number for number, _ in journal.after(1, max_bytes=0)] == [2]


def test_what_is_stored_as_it_comes_is_not_kept() -> None:
    journal, held = Journal(), []
    for number in range(1, 1001):
        journal.add(number, b"x")
        journal.drop(number - 1)
        held.append(len(journal.after(0, max_bytes=PLENTY)))
    assert set(held) == {1}
