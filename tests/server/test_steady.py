from relay.server.steady import steady


def test_it_begins_with_the_clock_and_goes_on_without_it() -> None:
    clock, stopwatch = [1000.0], [5.0]
    seconds = steady(lambda: clock[0], monotonic=lambda: stopwatch[0])
    assert seconds() == 1000.0
    clock[0] -= 86400.0
    stopwatch[0] += 2.5
    assert seconds() == 1002.5
