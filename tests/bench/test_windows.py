"""The stability rule and the quantiles, on clocks that tests wind."""

import numpy as np
import pytest

from pipcook_deploy.bench.windows import (
    EXTENSION,
    LEAST_CALLS,
    WINDOWS,
    is_stable,
    quantile,
    repeated,
    time_in_turns,
)


class Machine:
    """A clock, and calls that take as long as they are told to."""

    def __init__(self):
        self.now = 0.0
        self.order = []

    def clock(self):
        return self.now

    def call(self, name, cost):
        """`cost` maps the number of a call, from 0, to its seconds."""
        count = iter(range(10**9))

        def answer():
            self.order.append(name)
            self.now += cost(next(count))

        return answer


@pytest.fixture
def machine():
    return Machine()


@pytest.mark.parametrize("share", [0, 0.05, 0.5, 0.95, 1])
def test_quantiles_are_numpys(share):
    values = np.random.default_rng(0).exponential(size=41).tolist()
    assert quantile(values, share) == pytest.approx(np.quantile(values, share))
    assert quantile([3.0], share) == 3.0


@pytest.mark.parametrize(
    ("medians", "stable"),
    [
        ([1, 1, 1, 1, 1], True),
        ([0.91, 1, 1, 1, 1.09], True),
        ([0.9, 1, 1, 1, 1.11], False),
        ([0.89, 1, 1, 1, 1], False),
    ],
)
def test_windows_within_a_tenth_of_their_median_are_stable(medians, stable):
    assert is_stable(medians) is stable


def test_a_steady_call_is_timed_in_five_windows_after_the_warm_up(machine):
    call = machine.call("a", lambda number: 9.0 if number < 3 else 0.01)
    timing = time_in_turns([repeated(call, 1.0, machine.clock)], 1.0)[0]
    assert timing.stable
    assert len(timing.windows) == WINDOWS
    assert timing.p50 == pytest.approx(0.01)
    assert timing.p95 == pytest.approx(0.01)  # nothing of the slow first calls
    assert machine.now == pytest.approx(27 + 1.0, abs=0.06)


def test_a_call_that_settles_is_timed_longer_and_only_the_agreeing_windows_count(machine):
    call = machine.call("a", lambda number: 0.05 if number < 10 else 0.01)
    timing = time_in_turns([repeated(call, 0.1, machine.clock)], 1.0)[0]
    assert timing.stable
    assert len(timing.windows) == WINDOWS
    assert timing.windows == pytest.approx([0.01] * WINDOWS)
    assert timing.p95 == pytest.approx(0.01)


def test_a_call_that_never_settles_is_unstable_after_three_times_the_windows(machine):
    call = machine.call("a", lambda number: 0.01 * 1.2**number)
    timing = time_in_turns([repeated(call, 0.0, machine.clock)], 1.0)[0]
    assert not timing.stable
    assert len(timing.windows) == WINDOWS * EXTENSION


def test_slow_calls_get_their_least_number_in_each_window(machine):
    timing = time_in_turns([repeated(machine.call("a", lambda _: 5.0), 0.0, machine.clock)], 1.0)[0]
    assert len(machine.order) == LEAST_CALLS * (WINDOWS + 1)
    assert timing.stable


def test_several_take_turns_and_go_on_together(machine):
    calls = [
        machine.call("steady", lambda _: 0.1),
        machine.call("settles", lambda number: 0.3 if number < 9 else 0.1),
    ]
    steady, settles = time_in_turns([repeated(call, 0.0, machine.clock) for call in calls], 1.5)
    turns = [
        name
        for name, after in zip(machine.order, [*machine.order[1:], ""], strict=True)
        if name != after
    ]
    assert turns == ["steady", "settles"] * (len(turns) // 2)
    assert len(turns) // 2 > WINDOWS + 1  # warm-up, five windows, and more because one disagreed
    assert steady.stable and settles.stable


def test_numbers_are_those_of_an_entry(machine):
    timing = time_in_turns([repeated(machine.call("a", lambda _: 0.02), 0, machine.clock)], 0.1)[0]
    assert timing.numbers(batch=8) == {
        "p50_ms": 20.0,
        "p95_ms": 20.0,
        "throughput": 400.0,
        "windows": [20.0] * 5,
        "stable": True,
    }
