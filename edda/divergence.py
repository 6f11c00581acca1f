"""What to say when code and history part ways: the two sequences, aligned (law H3).

Whether one output agrees with another, and the words when it does not; pure, both. When they are
compared the machine decides. The alignment is a longest common subsequence, so that one inserted
step reads as one insertion and the steps after it still stand beside their old selves.
"""

import json
from collections.abc import Callable, Sequence
from typing import assert_never

from edda.codec import decode_error
from edda.commands import (
    ActivityAsk,
    Failure,
    Outcome,
    Recurrence,
    Result,
    SendAsk,
    StartAsk,
)
from edda.history import Asked, Finished, Output, Patched, Subscribed, Unsubscribed, Withdrawn

__all__ = ["agrees", "explain"]

Same = Callable[[str, str], bool]

_CURE = (
    "Nothing was committed. If the change is meant, keep the old path for instances that "
    "are under way:"
)

# A mark, what was recorded, what is asked now.
_Row = tuple[str, Output | None, Output | None]

# The asks that have arguments (`CallAsk`; a tuple is looked through in less time).
_CALLS = (ActivityAsk, SendAsk, StartAsk)

# Lines of agreement shown before the first difference.
CONTEXT = 3
# Lines of difference shown.
SHOWN = 12


def agrees(recorded: Output, fresh: Output, same: Same | None) -> bool:
    """Whether the code does what history recorded: kind, name, id and arguments (law H3).

    `same` says whether two texts mean equal arguments, or equal results. Durations, timeouts,
    matches and models are not compared: the recorded deadline stands.
    """
    if isinstance(recorded, Asked) and isinstance(fresh, Asked):  # nearly always
        old, new = recorded.ask, fresh.ask
        if old.kind != new.kind or old.name != new.name or old.id != new.id:
            return False
        if not isinstance(old, _CALLS) or not isinstance(new, _CALLS):
            return True
        return old.arguments == new.arguments or (
            same is not None and same(old.arguments, new.arguments)
        )
    match recorded, fresh:
        case Subscribed(), Subscribed():
            return (recorded.id, recorded.mode) == (fresh.id, fresh.mode)
        case Finished(), Finished():
            return _same_outcome(recorded.outcome, fresh.outcome, same)
        case _:
            return type(recorded) is type(fresh) and recorded.id == fresh.id


def _same_outcome(one: Outcome, other: Outcome, same: Same | None) -> bool:
    if one == other:
        return True
    match one, other:
        case Result(old), Result(new):
            return same is not None and same(old, new)
        case Failure(old), Failure(new):
            # The text of a traceback names lines, which every edit moves.
            was, now = decode_error(old), decode_error(new)
            return type(was) is type(now) and str(was) == str(now)
        case Recurrence(old), Recurrence(new):
            return bool(json.loads(old) == json.loads(new))
        case _:
            return False


def explain(
    workflow: str, recorded: Sequence[Output], asked: Sequence[Output], *, agreed: int
) -> str:
    """The message of a `NonDeterminismError`.

    `recorded` are the outputs of the history, `asked` those of today's code as far as it got;
    the first `agreed` of both are the same.
    """
    lines = [
        f"The code of workflow {workflow!r} does not do what its history recorded.",
        "",
        *_table(recorded, asked, agreed),
        "",
        *_details(recorded, asked, agreed),
        _CURE,
        f'    if ctx.patched("{_patch_name(recorded, asked, agreed)}"): ...  # new code',
        "    else: ...  # what the history recorded",
    ]
    return "\n".join(lines)


def label(output: Output) -> str:
    """An output as one short phrase: `charge_card:1 (activity)`."""
    match output:
        case Asked():
            return f"{output.id} ({output.ask.kind})"
        case Withdrawn():
            return f"{output.id} given up"
        case Patched():
            return f"patched({output.id!r})"
        case Subscribed():
            return f"subscribe to {output.id!r} ({output.mode})"
        case Unsubscribed():
            return f"unsubscribe from {output.id!r}"
        case Finished():
            return output.kind.replace("_", " ")
        case _:  # pragma: no cover
            assert_never(output)


def _site(output: Output) -> str:
    return output.site if isinstance(output, Asked) else ""


def _key(output: Output) -> tuple[str, str]:
    # An id is numbered by order, so an insertion would shift it: align by kind and name.
    name = output.name if isinstance(output, Asked) else output.id
    return output.kind, name


def _table(recorded: Sequence[Output], asked: Sequence[Output], agreed: int) -> list[str]:
    skipped = max(0, agreed - CONTEXT)
    rows: list[_Row] = [("=", recorded[index], asked[index]) for index in range(skipped, agreed)]
    rows += _align(recorded[agreed : agreed + SHOWN], asked[agreed : agreed + SHOWN])
    cells = [(mark, _cell(left), _cell(right)) for mark, left, right in rows]
    width = max((len(left) for _, left, _ in cells), default=0)
    width = max(width, len("history recorded"))
    head = [f"    {'history recorded':<{width}}   the code asks now"]
    if skipped:
        head.append(f"    ... {skipped} equal")
    return head + [f"  {mark} {left:<{width}}   {right}".rstrip() for mark, left, right in cells]


def _cell(output: Output | None) -> str:
    if output is None:
        return ""
    site = _site(output)
    return f"{label(output)}  {site}" if site else label(output)


def _align(old: Sequence[Output], new: Sequence[Output]) -> list[_Row]:
    table = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i in reversed(range(len(old))):
        for j in reversed(range(len(new))):
            table[i][j] = (
                table[i + 1][j + 1] + 1
                if _key(old[i]) == _key(new[j])
                else max(table[i + 1][j], table[i][j + 1])
            )
    rows: list[_Row] = []
    i = j = 0
    while i < len(old) and j < len(new):
        if _key(old[i]) == _key(new[j]):
            rows.append(("=" if _payload(old[i]) == _payload(new[j]) else "!", old[i], new[j]))
            i, j = i + 1, j + 1
        elif table[i + 1][j] > table[i][j + 1]:
            rows.append(("-", old[i], None))
            i += 1
        else:
            rows.append(("+", None, new[j]))
            j += 1
    rows += [("-", output, None) for output in old[i:]]
    rows += [("+", None, output) for output in new[j:]]
    return rows


def _payload(output: Output) -> str:
    match output:
        case Asked(ask=ActivityAsk() | SendAsk() | StartAsk() as ask):
            return ask.arguments
        case Finished(outcome=Result(text) | Failure(text)):
            return text
        case _:
            return ""


def _details(recorded: Sequence[Output], asked: Sequence[Output], agreed: int) -> list[str]:
    old = recorded[agreed] if agreed < len(recorded) else None
    new = asked[agreed] if agreed < len(asked) else None
    if new is None:
        return [] if old is None else [f"The history has {_at(old)} here; the code does not, yet."]
    if old is None:
        return [f"The history has no {label(new)} here; the code goes on with {_at(new)}."]
    if _key(old) != _key(new):
        return [f"The history goes on with {_at(old)}; the code goes on with {_at(new)}."]
    if old.id != new.id:
        return [f"{label(old)} has another id now: {new.id}."]
    if _payload(old) == _payload(new):
        return [f"{label(new)} comes too early: the history has an answer before it."]
    what = "has other arguments" if isinstance(old, Asked) else "came out differently"
    return [f"{label(old)} {what}:", *_differences(_payload(old), _payload(new))]


def _at(output: Output) -> str:
    site = _site(output)
    return f"{label(output)}, asked at {site}" if site else label(output)


def _differences(old: str, new: str) -> list[str]:
    try:
        before, after = json.loads(old), json.loads(new)
    except ValueError:
        before, after = old, new
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [f"    recorded  {_brief(before)}", f"    now       {_brief(after)}"]
    lines = []
    for name in [*before, *(key for key in after if key not in before)]:
        if name not in after:
            lines.append(f"    {name}: {_brief(before[name])} recorded, not given now")
        elif name not in before:
            lines.append(f"    {name}: {_brief(after[name])} now, not given when recorded")
        elif before[name] != after[name]:
            lines.append(f"    {name}: {_brief(before[name])} recorded, {_brief(after[name])} now")
    return lines


def _brief(value: object, limit: int = 200) -> str:
    text = value if isinstance(value, str) and len(value) > limit else json.dumps(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _patch_name(recorded: Sequence[Output], asked: Sequence[Output], agreed: int) -> str:
    for outputs in (asked, recorded):
        if agreed < len(outputs) and isinstance(outputs[agreed], Asked):
            return f"change-{outputs[agreed].name}".replace(".", "-").replace("_", "-")
    return "change-ending"
