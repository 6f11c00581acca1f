"""Every sentence the engine says when something is wrong, word for word."""

import pickle

import pytest

from edda import errors
from edda.codec import decode_error, encode_error

BOOM = ValueError("boom")

SAID = [
    (errors.EddaError("said"), "E000", "said"),
    (errors.DefinitionError("said"), "E101", "said"),
    (
        errors.DuplicateWorkflowError("pay", "shop:pay (line 3)", "bank:pay (line 9)"),
        "E102",
        "Two different workflows of this app are called 'pay': shop:pay (line 3) and bank:pay "
        "(line 9). Instances are stored under the name, so it must mean one thing: rename one, "
        'or give it a name of its own with @workflow(name="...").',
    ),
    (
        errors.UnknownWorkflowError("pay", ["ship", "order"]),
        "E103",
        "This app knows no workflow called 'pay' (it knows: order, ship). Import the module that "
        "defines it, or pass it in EddaApp(workflows=[...]).",
    ),
    (
        errors.UnknownWorkflowError("pay", []),
        "E103",
        "This app knows no workflow called 'pay' (it knows: none). Import the module that "
        "defines it, or pass it in EddaApp(workflows=[...]).",
    ),
    (
        errors.ArgumentError("Workflow 'pay'", ["amount: too small", "to: missing"]),
        "E104",
        "Workflow 'pay': amount: too small; to: missing",
    ),
    (
        errors.DuplicateIdError("charge:1", "shop.py:7"),
        "E105",
        "The id 'charge:1' is used twice in one workflow (second time at shop.py:7). An id names "
        "one step for ever: leave it out and the engine numbers the steps, or make it unique.",
    ),
    (
        errors.NoAppError("pay.start()", "Open one."),
        "E106",
        "pay.start() needs an app, and none is running here. Open one.",
    ),
    (
        errors.AmbiguousAppError("pay.start()", ["shop", "bank"]),
        "E107",
        "pay.start() does not say which app it means, and 2 are open (bank, shop). Call it inside "
        "`async with app:`, or on the app.",
    ),
    (
        errors.StrandedAppError("shop"),
        "E108",
        "The app 'shop' was opened on an event loop that has been closed since, with its worker "
        "and connections. What was stored is there. Use `async with app:` (and Starlette's "
        "TestClient in a `with`), or await app.shutdown() before the loop ends; here, make a new "
        "EddaApp.",
    ),
    (
        errors.EncodingError("The result", "it is odd"),
        "E201",
        "The result cannot be stored: it is odd",
    ),
    (
        errors.DecodingError("The result", "it is odd"),
        "E202",
        "The result does not fit the type that the code has today: it is odd. Stored values stay "
        "as they were written: give new fields a default, or accept both shapes.",
    ),
    (errors.HistoryFormatError("said"), "E203", "said"),
    (errors.NonDeterminismError("said"), "E301", "said"),
    (
        errors.NotReplayableError("loop.stop", "Do not."),
        "E302",
        "loop.stop cannot be replayed, so a workflow cannot use it. Do not.",
    ),
    (
        errors.RunawayWorkflowError("pay", 100_000),
        "E303",
        "The workflow 'pay' ran 100,000 callbacks in a row without waiting for anything. A loop "
        "around `await asyncio.sleep(0)` never ends: wait for an event, a timer or an activity "
        "in it.",
    ),
    (errors.TerminalError("said"), "E401", "said"),
    (errors.ActivityError("shop:Store.Closed", "till 9"), "E402", "Store.Closed: till 9"),
    (
        errors.ActivityTimeoutError("charge", 2.5),
        "E403",
        "The activity 'charge' did not finish within 2.5 s. The attempt counts as failed; raise "
        "timeout_seconds if it may take longer.",
    ),
    (
        errors.RetryExhaustedError("charge", 1, BOOM),
        "E404",
        "The activity 'charge' failed once; the last error was ValueError: boom",
    ),
    (
        errors.RetryExhaustedError("charge", 3, BOOM),
        "E404",
        "The activity 'charge' failed 3 times; the last error was ValueError: boom",
    ),
    (
        errors.EventTimeoutError("payment.completed", 300.0),
        "E501",
        "No 'payment.completed' event came within 300 s.",
    ),
    (
        errors.InvalidEventError("paid", "e-1", "Payment", ["data.amount: odd", "data.to: odd"]),
        "E502",
        "The event 'paid' (id 'e-1') does not fit Payment: data.amount: odd; data.to: odd. It was "
        "not taken; send a corrected one.",
    ),
    (
        errors.BrokerError("http://broker", "404"),
        "E503",
        "The broker at http://broker did not take the event: 404",
    ),
    (
        errors.InstanceNotFoundError("i-1"),
        "E601",
        "There is no instance 'i-1' in this store. `edda ps` lists those there are; an id is what "
        "`start` returned.",
    ),
    (
        errors.InstanceExistsError("i-1", "other arguments"),
        "E602",
        "The instance 'i-1' exists already, with other arguments. The same id starts the same "
        "work once; choose another id for other work.",
    ),
    (
        errors.ResultTimeout("i-1", "waiting_for_event", None),
        "E603",
        "The instance 'i-1' has no result yet: it is waiting_for_event. It goes on by itself; ask "
        "again later, or with a longer timeout.",
    ),
    (
        errors.ResultTimeout("i-1", "running", 2.0),
        "E603",
        "The instance 'i-1' has no result yet after 2 s: it is running. It goes on by itself; ask "
        "again later, or with a longer timeout.",
    ),
    (
        errors.WorkflowFailed("i-1", BOOM),
        "E604",
        "The instance 'i-1' failed with ValueError: boom",
    ),
    (
        errors.WorkflowCancelled("i-1"),
        "E605",
        "The instance 'i-1' was cancelled; it has no result.",
    ),
    (
        errors.WorkflowStuck("i-1", BOOM),
        "E606",
        "The instance 'i-1' is stuck, and goes on once code that fits its history is deployed.\n"
        "boom",
    ),
    (errors.StoreError("said"), "E701", "said"),
    (
        errors.StoreUrlError("redis://", "has no store"),
        "E702",
        "The database URL 'redis://' has no store. Use memory://, sqlite:///relative.db, "
        "sqlite:////absolute/path.db or postgresql://user@host/database.",
    ),
    (
        errors.StoreVersionError("edda.db", 9, 1),
        "E703",
        "edda.db has schema version 9, and this version of Edda reads version 1. Nothing was "
        "changed. Use the edda-durable that wrote it, or another database.",
    ),
    (errors.StoreUnavailableError("said"), "E704", "said"),
    (errors.TransactionOverError("said"), "E706", "said"),
    (
        errors.CompensationError(BOOM, ["a:1"], [("b:1", "undo_b", "OSError: off")]),
        "E405",
        "The workflow ended with ValueError: boom, and could not be undone as a whole. Not undone: "
        "b:1 (by undo_b: OSError: off). Undone: a:1. What is left must be undone by hand.",
    ),
    (
        errors.NoTransactionError("charge:1"),
        "E406",
        "ctx.connection in 'charge:1': only a transactional activity shares the store's "
        "transaction. Declare it with @activity(transactional=True).",
    ),
    (
        errors.NotSubscribedError("jobs", None),
        "E504",
        "receive() from the channel 'jobs', which this workflow has not subscribed to: `await "
        "subscribe(ctx, 'jobs')` first.",
    ),
    (
        errors.NotSubscribedError("jobs", "direct", "broadcast"),
        "E504",
        "This workflow reads the channel 'jobs' in the mode 'direct', and asks for 'broadcast'. A "
        "channel is read in one way: unsubscribe first, or use another channel.",
    ),
    (
        errors.LeaseLost("i-1"),
        "E705",
        "The lease of 'i-1' is not ours any more; nothing was committed. Another worker goes on "
        "from the last commit.",
    ),
]


@pytest.mark.parametrize(("error", "code", "text"), SAID, ids=lambda value: type(value).__name__)
def test_says_exactly_this(error, code, text):
    """An error has its code, and says this sentence, word for word."""
    assert (error.code, str(error)) == (code, text)


@pytest.mark.parametrize("error", [error for error, _, _ in SAID], ids=lambda e: type(e).__name__)
def test_comes_back_from_a_history(error):
    """An error that is stored in a history comes back with class, text, code and fields."""
    back = decode_error(encode_error(error))
    assert (type(back), str(back), back.code) == (type(error), str(error), error.code)
    assert {**vars(back), "__notes__": None} == {**vars(error), "__notes__": None}
    assert repr(back.__cause__) == repr(error.__cause__)


def test_every_class_is_pinned():
    """No class is without a pinned sentence, and a code belongs to one class."""
    codes = {type(error): code for error, code, _ in SAID}
    assert {kind.__name__ for kind in codes} == set(errors.__all__)
    assert len(set(codes.values())) == len(codes)


def test_errors_are_what_python_calls_them():
    """Errors can be caught as the built-in kind they are."""
    assert issubclass(errors.EventTimeoutError, TimeoutError)
    assert issubclass(errors.ActivityTimeoutError, TimeoutError)
    assert not issubclass(errors.ResultTimeout, TimeoutError)
    assert issubclass(errors.ArgumentError, TypeError)
    assert issubclass(errors.ArgumentError, ValueError)
    assert issubclass(errors.UnknownWorkflowError, LookupError)


def test_the_last_error_is_the_cause():
    """`RetryExhaustedError.last_error` is the exception of the last attempt, and its cause."""
    error = errors.RetryExhaustedError("charge", 3, BOOM)
    assert error.last_error is BOOM
    assert error.__cause__ is BOOM


def test_an_activity_error_keeps_where_it_was_raised():
    """`ActivityError` keeps the class's full name, the text and the traceback."""
    error = errors.ActivityError("shop:Closed", "till 9", "line 3")
    assert (error.type_name, error.message, error.traceback) == ("shop:Closed", "till 9", "line 3")


def test_plain_errors_survive_pickle():
    """An error whose constructor takes a sentence can be sent to another process."""
    assert str(pickle.loads(pickle.dumps(errors.TerminalError("no")))) == "no"


def test_a_long_value_is_shortened():
    """A value inside a message has at most the given number of characters."""
    assert errors.sentence("x") == "'x'"
    assert errors.sentence("x" * 200, 10) == "'xxxxxxxx…"
    assert len(errors.sentence("x" * 200)) == 120
