"""Normal requests beside clients that hold what they can: all of them are answered."""

import time

import pytest

import attacks
from conftest import assert_sound, resident_bytes
from load import Load, grpc_kept, rest_kept, rest_new

MIB = 2**20
CUT_WITHIN_SECONDS = 60
NORMAL = [grpc_kept, rest_kept, rest_new]


@pytest.mark.parametrize("attack", [*attacks.SLOW, *attacks.NEVER_READING, *attacks.FLOODS], ids=lambda a: a.__name__)
def test_normal_requests_keep_flowing(served, attack):
    before = resident_bytes(served)
    load = Load(served)
    with attack(served):
        load.start(*NORMAL)
        load.wait_for(500)
        during = resident_bytes(served)
        load.stop()
    assert not load.failed and not load.not_accepted, load.failed
    assert load.answered >= 500
    assert during - before < 64 * MIB, f"{before} bytes grew to {during}"
    assert_sound(served)


def test_slow_clients_are_cut_off(served):
    """Their headers, or what HTTP/2 starts with, are not waited for."""
    load = Load(served)
    slow = [attack(served) for attack in attacks.CUT_SOON]
    gone = [context.__enter__() for context in slow]
    try:
        load.start(*NORMAL)
        until = time.monotonic() + CUT_WITHIN_SECONDS
        while any(count() < attacks.CONNECTIONS for count in gone):
            assert time.monotonic() < until, [count() for count in gone]
            time.sleep(0.1)
        load.stop()
    finally:
        for context in slow:
            context.__exit__(None, None, None)
    assert not load.failed and not load.not_accepted, load.failed
    assert_sound(served)
