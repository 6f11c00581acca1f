"""Which rule a call of an outside function breaks, given its arguments."""

import ast

from edda_testkit.lint_frames import Analysis, Args
from edda_testkit.lint_hazards import GIVEN_ENOUGH, LOCAL_TIME, OPENERS, READS, TIMED, rule_of
from edda_testkit.lint_tables import DO_NOT_CALL, DO_NOT_CALL_MODULES, same_name
from edda_testkit.lint_types import values_of
from edda_testkit.lint_values import NOTHING, Known, Made, Scope

__all__ = ["code_of", "is_exempt", "judge", "shown"]


def code_of(path: str, args: Args) -> str | None:
    """The rule that a call of `path` with these arguments breaks."""
    is_patient = "timeout" in dict(args.keywords) or len(args.positional) > 1
    if path.replace("@shared", "") in TIMED and args.is_whole and is_patient:
        return "EDL701"
    if (code := rule_of(path)) is not None:
        first = args.positional[0] if args.positional else NOTHING
        made = {atom.path for atom in first if isinstance(atom, Made)}
        is_in_memory = "io.BytesIO" in made and path in OPENERS
        is_dated = "zipfile.ZipInfo" in made  # `writestr` of a mere name takes the time of now
        return None if is_in_memory or is_dated else code
    if not args.is_whole:
        return None
    if path in LOCAL_TIME:
        return "EDL305" if len(args.positional) >= LOCAL_TIME[path] else "EDL101"
    if path in GIVEN_ENOUGH:
        code, count, keyword = GIVEN_ENOUGH[path]
        is_given = len(args.positional) >= count or keyword in dict(args.keywords)
        return None if is_given else code
    return None


def is_exempt(path: str) -> bool:
    """Whether a function neither calls what it is handed nor cares for its order."""
    return path in DO_NOT_CALL or path.partition(".")[0] in DO_NOT_CALL_MODULES


def shown(path: str) -> str:
    """A dotted path as people write it."""
    return path.removeprefix("builtins.").replace("@shared", "").replace("asyncio.loop", "loop")


def judge(analysis: Analysis, scope: Scope, node: ast.expr) -> tuple[str, str]:
    """The rule that a part of a value made at import breaks, and the words for it."""
    if isinstance(node, ast.Call):
        for atom in values_of(analysis, scope, node.func):
            if isinstance(atom, Known):
                positional = tuple(NOTHING for _ in node.args)
                keywords = tuple((one.arg or "", NOTHING) for one in node.keywords)
                code = code_of(same_name(atom.path), Args(positional, keywords))
                if code:
                    return code, f"{shown(atom.path)}()"
    elif isinstance(node, ast.Attribute):
        for atom in values_of(analysis, scope, node.value):
            path = f"{atom.path}.{node.attr}" if isinstance(atom, Known) else ""
            if path in READS:
                return READS[path], path
    elif isinstance(node, ast.Name):
        for atom in values_of(analysis, scope, node):
            if isinstance(atom, Known) and atom.path in READS:
                return READS[atom.path], atom.path
    return "", ""
