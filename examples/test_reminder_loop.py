"""Years of reminders in a blink, at nine sharp."""

from datetime import time

from edda import WorkflowContext, wait_timer, workflow
from edda_testkit import check_crashes
from examples.reminder_loop import remind, reminder_loop


def test_three_years(edda_sim):
    """A thousand mornings later the history is as short as on the first day."""
    reminder = edda_sim.start(reminder_loop, user="ada")
    edda_sim.advance(days=1000)
    assert len(edda_sim.calls(remind)) == 1000
    assert len(reminder.history) < 10


def test_stop(edda_sim):
    """The stop of one user ends the reminders of that user, at once and for good."""
    ada = edda_sim.start(reminder_loop, user="ada")
    bob = edda_sim.start(reminder_loop, user="bob")
    edda_sim.advance(days=2, hours=12)
    edda_sim.send("reminder.stop", {"user": "ada"})
    assert ada.result == 3
    edda_sim.advance(days=10)
    assert bob.status == "waiting_for_event"
    assert [call.args[0] for call in edda_sim.calls(remind)].count("ada") == 3


def test_a_stop_while_the_reminder_is_under_way(edda_sim):
    """A stop that comes between two rounds is kept for the next one."""
    edda_sim.stub(remind, sequence=[ConnectionError("no network"), None])
    ada = edda_sim.start(reminder_loop, user="ada")
    edda_sim.advance(hours=9)
    assert ada.status == "waiting_for_retry"
    edda_sim.send("reminder.stop", {"user": "ada"})
    edda_sim.advance(minutes=5)
    assert ada.result == 1


def test_a_process_that_dies_every_hour(edda_sim):
    """A week of crashes: seven reminders."""
    edda_sim.start(reminder_loop, user="ada")
    for _ in range(7 * 24):
        edda_sim.crash()
        edda_sim.advance(hours=1)
    assert [call.args for call in edda_sim.calls(remind)] == [("ada", day) for day in range(1, 8)]


def two_days(sim):
    ada = sim.start(reminder_loop, user="ada")
    sim.advance(days=2)
    sim.send("reminder.stop", {"user": "ada"})
    return ada.result


def test_a_crash_anywhere():
    """Wherever the process dies, the reminders are counted right."""
    assert check_crashes(two_days).exhaustive


# ---- A bug, and the test that finds it -------------------------------------------------------
# Before: "wait a day" instead of "wait until nine". A reminder that is sent late makes every later
# one late as well, and the history grows with each day.


@workflow
async def drifting_loop(ctx: WorkflowContext, user: str) -> None:
    day = 0
    while True:
        await wait_timer(ctx, 24 * 3600)
        day += 1
        await remind(ctx, user, day)


def times_of_day(sim, definition):
    """When reminders went out, after a morning on which the network was down for a minute."""
    sim.advance(hours=9)
    sim.stub(remind, side_effect=down_on_the_first_day(sim))
    sim.start(definition, user="ada")
    sim.advance(days=5)
    return {call.at.time() for call in sim.calls(remind) if call.attempt == 1}


def down_on_the_first_day(sim):
    began = sim.now

    def answer(user, day):
        if (sim.now - began).total_seconds() < 24 * 3600 + 5:
            raise ConnectionError("no network")

    return answer


def test_a_late_reminder_delays_no_other(edda_sim):
    """One bad morning: the next reminder is at nine again."""
    assert times_of_day(edda_sim, reminder_loop) == {time(9)}


def test_virtual_time_shows_the_drift(edda_sim):
    """Before, every later reminder was late; a test on a real clock would take days to see it."""
    assert times_of_day(edda_sim, drifting_loop) != {time(9)}
