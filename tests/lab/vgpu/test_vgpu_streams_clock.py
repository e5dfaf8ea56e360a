"""Several streams on the virtual clock, against schedules worked out by hand."""

from __future__ import annotations

import random
import threading

import pytest

from lab.vgpu.clock import QUERY_NS, STREAMS_PER_DEVICE, Stream, VirtualClock
from lab.vgpu.links import HOST, LinkModel, OwnLinks, Route
from lab.vgpu.observer import Copy
from lab.vgpu.resources import Resource, book_together

FREE = LinkModel(bytes_per_ns=1.0, latency_ns=0)


def clock(devices: int = 2, issue_ns: int = 0, link: LinkModel = FREE) -> VirtualClock:
    return VirtualClock(devices, issue_ns, OwnLinks(link))


def run(c: VirtualClock, stream: Stream, duration: int) -> int:
    c.set_current(stream)
    start = c.run(stream.device, duration)
    c.set_current(c.streams[stream.device])
    return start


def copy(c: VirtualClock, stream: Stream, source: int, target: int, size: int) -> None:
    c.set_current(stream)
    c.transfer(source, target, size, host_waits=False)
    c.set_current(c.streams[stream.device])


def copies(c: VirtualClock) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    c.on_transfer = lambda copy: seen.append((copy.start_ns, copy.end_ns))
    return seen


def test_two_streams_of_a_device_take_turns():
    c = clock(issue_ns=5)
    side = c.new_stream(0)
    assert [c.run(0, 100), run(c, side, 100), c.run(0, 10)] == [5, 105, 205]
    assert c.now_ns == 215  # as long as one after the other


def test_streams_of_two_devices_overlap():
    c = clock()
    a, b = c.new_stream(0), c.new_stream(1)
    assert [run(c, a, 100), run(c, b, 100)] == [0, 0]


def test_what_ran_before_the_first_side_stream_counts():
    c = clock()
    c.run(0, 100)
    c.transfer(0, 1, 50, host_waits=False)  # from 100 to 150
    side = c.new_stream(0)
    assert run(c, side, 10) == 100  # beside the copy
    assert c.run(0, 10) == 150


def test_a_stream_waits_for_an_event_of_another_device():
    c = clock()
    side = c.new_stream(1)
    c.run(0, 100)
    event = c.end_of(c.streams[0])
    c.run(0, 100)
    side.wait_until(event)
    assert run(c, side, 10) == 100
    assert c.run(1, 10) == 0  # issued later, ready sooner: nobody holds up the engine


def test_an_event_on_an_idle_stream_stands_for_now():
    c = clock()
    c.advance_host(70)
    assert c.end_of(c.streams[0]) == 70


def test_a_gap_is_filled_by_what_fits():
    c = clock()
    side = c.new_stream(0)
    side.wait_until(100)
    assert run(c, side, 50) == 100
    assert c.run(0, 60) == 0
    assert c.run(0, 60) == 150  # 40 are left before 100
    other = c.new_stream(0)
    assert run(c, other, 30) == 60
    assert run(c, other, 10) == 90
    assert run(c, other, 1) == 210


def test_what_is_behind_the_host_is_no_gap():
    c = clock()
    side = c.new_stream(0)
    side.wait_until(100)
    run(c, side, 50)
    c.advance_host(80)
    assert c.run(0, 30) == 150  # only 20 are left
    assert c.run(0, 10) == 180
    other = c.new_stream(0)
    assert run(c, other, 20) == 80


def test_prefetch_on_a_side_stream_overlaps_with_compute():
    # Double buffering: copy batch n+1 while batch n is computed. Copies of 80, computing of 100, 3 batches.
    c = clock()
    side, main = c.new_stream(0), c.streams[0]
    seen = copies(c)
    starts = []
    copy(c, side, HOST, 0, 80)
    for batch in range(3):
        main.wait_until(c.end_of(side))  # the batch is there
        if batch < 2:
            copy(c, side, HOST, 0, 80)
        starts.append(c.run(0, 100))
    assert seen == [(0, 80), (80, 160), (160, 240)]
    assert starts == [80, 180, 280]
    assert c.now_ns == 80 + 3 * 100

    plain = clock()
    for _ in range(3):
        plain.transfer(HOST, 0, 80, host_waits=False)
        plain.run(0, 100)
    assert plain.now_ns == 3 * 180


def test_copies_go_both_ways_at_once_and_take_turns_one_way():
    c = clock()
    a, b, d = c.new_stream(0), c.new_stream(0), c.new_stream(0)
    seen = copies(c)
    copy(c, a, HOST, 0, 100)
    copy(c, b, 0, HOST, 100)
    copy(c, d, 0, HOST, 10)
    assert seen == [(0, 100), (0, 100), (100, 110)]


def test_a_device_has_one_engine_out_whatever_the_link():
    c = clock(devices=3)
    side = c.new_stream(0)
    seen = copies(c)
    c.transfer(0, 1, 100, host_waits=False)
    copy(c, side, 0, 2, 100)
    assert seen == [(0, 100), (100, 200)]


def test_and_one_engine_in():
    c = clock(devices=3)
    side = c.new_stream(2)
    seen = copies(c)
    c.transfer(0, 2, 100, host_waits=False)
    copy(c, side, 1, 2, 100)
    assert seen == [(0, 100), (100, 200)]


def test_a_copy_between_devices_takes_its_place_in_the_current_stream_of_both():
    c = clock()
    side = c.new_stream(0)
    c.run(0, 100)
    c.run(1, 30)
    seen: list[Copy] = []
    c.on_transfer = seen.append
    copy(c, side, 0, 1, 50)
    assert seen == [Copy(0, 1, side.number, 0, 50, 0, 30, 80)]
    assert (c.streams[0].free_ns, side.free_ns, c.streams[1].free_ns) == (100, 80, 80)


class OneBus:
    """Everything goes over one channel."""

    def route(self, source: int, target: int) -> Route:
        return Route(FREE, ("bus",))


def test_a_busy_channel_makes_the_next_transfer_wait():
    c = VirtualClock(4, 0, OneBus())
    seen = copies(c)
    c.transfer(0, 1, 100, host_waits=False)
    c.transfer(2, 3, 50, host_waits=False)
    assert seen == [(0, 100), (100, 150)]


def test_a_transfer_that_waits_does_not_hold_up_the_channel():
    c = VirtualClock(4, 0, OneBus())
    seen = copies(c)
    c.run(0, 100)
    c.transfer(0, 1, 100, host_waits=False)
    c.transfer(2, 3, 60, host_waits=False)  # ready at once
    c.transfer(2, 3, 60, host_waits=False)  # the 40 before 100 are too little
    assert seen == [(100, 200), (0, 60), (200, 260)]


def test_the_host_waits_for_a_stream_a_device_or_all():
    c = clock(devices=3)
    side = c.new_stream(0)
    run(c, side, 100)
    c.run(1, 300)
    c.run(2, 10)
    c.synchronize(2)
    assert c.host_ns == 10
    c.synchronize(0)
    assert c.host_ns == 100  # the side stream's
    c.synchronize()
    assert c.host_ns == c.now_ns == 300


def test_asking_takes_the_host_a_moment_until_it_is_so():
    c = clock()
    c.run(0, 10 * QUERY_NS)
    asked = 0
    while not c.reached(c.streams[0].free_ns):
        asked += 1
    assert asked == 10
    assert c.host_ns == 10 * QUERY_NS


def test_a_devices_interval_covers_all_its_streams():
    c = clock()
    main, side = c.streams[0], c.new_stream(0)
    c.run(0, 100)
    main.mark()
    side.wait_until(500)
    run(c, side, 20)
    c.run(0, 30)
    assert (main.first_ns, main.last_ns) == (100, 520)
    main.mark()
    c.run(0, 10)
    assert (main.first_ns, main.last_ns) == (130, 140)


def test_streams_are_numbered_and_shared_in_the_end():
    c = clock()
    made = [c.new_stream(1) for _ in range(STREAMS_PER_DEVICE + 1)]
    assert [stream.number for stream in made] == [*range(1, STREAMS_PER_DEVICE + 1), 1]
    assert made[0] is made[-1] is c.stream(1, 1)
    assert c.stream(1, 0) is c.streams[1]


def test_each_thread_has_its_own_current_stream():
    c = clock()
    side = c.new_stream(0)
    c.set_current(side)
    seen: list[Stream] = []
    thread = threading.Thread(target=lambda: seen.append(c.current(0)))
    thread.start()
    thread.join()
    assert seen == [c.streams[0]]
    assert c.current(0) is side


# -- resources ----------------------------------------------------------------------------------------------------


def test_together_they_take_the_first_time_at_which_all_are_free():
    a, b = Resource(), Resource()
    a.book(50, 100, 0)  # free before 50
    b.book(0, 20, 0)
    b.book(60, 90, 0)  # free from 20 to 60
    assert book_together((a, b), 0, 30, 0) == 20
    assert book_together((a, b), 0, 30, 0) == 100
    assert book_together((a,), 0, 10, 0) == 0
    assert a.gaps == [(10, 20)]
    assert b.gaps == [(50, 60), (90, 100)]


@pytest.mark.parametrize("seed", range(20))
def test_bookings_never_overlap_and_leave_no_fitting_gap(seed: int):
    chance = random.Random(seed)
    resource, now = Resource(), 0
    booked: list[tuple[int, int]] = []
    for _ in range(60):
        now += chance.randrange(8)
        ready, duration = now + chance.randrange(40), chance.randrange(1, 12)
        start = book_together((resource,), ready, duration, now)
        # By trying every moment from `ready` on.
        expected = ready
        while any(begin < expected + duration and expected < end for begin, end in booked):
            expected += 1
        assert start == expected
        booked.append((start, start + duration))


def test_the_list_of_gaps_stays_short():
    resource = Resource()
    for number in range(1000):
        resource.book(10 * number + 5, 10 * number + 10, 0)
    assert len(resource.gaps) == 64
