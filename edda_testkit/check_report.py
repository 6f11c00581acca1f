"""What `edda check` has to say: as lines, as JSON, as JUnit's XML. Pure text.

A report is as much about what was not covered as about what failed: a check that replays half of
the histories is half a check.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from xml.etree import ElementTree as ET

from edda_testkit.perturb import PERTURBATIONS, Batch, Judged

__all__ = ["Report", "as_json", "as_junit", "as_lines"]

FORMAT = "edda-check/1"
NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class Report:
    """The outcome of one check. `skipped` counts JSON files that are no histories."""

    batch: Batch
    seconds: float
    skipped: int = 0

    @cached_property
    def judged(self) -> list[Judged]:
        """Every history, by its path."""
        return [self.batch.judged[path] for path in sorted(self.batch.judged)]

    @cached_property
    def replayed(self) -> list[Judged]:
        """Those that replay as recorded."""
        return [one for one in self.judged if one.answer.state == "passed"]

    @cached_property
    def unknown(self) -> list[Judged]:
        """Those whose workflow is not there."""
        return [one for one in self.judged if one.answer.state == "unknown"]

    @cached_property
    def failed(self) -> list[Judged]:
        """The others: departed from, unreadable, or fatal."""
        return [one for one in self.judged if one.answer.state not in ("passed", "unknown")]

    @cached_property
    def sides(self) -> dict[str, dict[str, int]]:
        """By the id of a patch: how many histories are on its new and on its old side."""
        found: dict[str, dict[str, int]] = {}
        for one in self.judged:
            for id, is_new in one.answer.patches.items():
                found.setdefault(id, {"new": 0, "old": 0})["new" if is_new else "old"] += 1
        return dict(sorted(found.items()))

    @cached_property
    def idle(self) -> list[str]:
        """The workflows without a history."""
        held = {one.answer.workflow for one in self.judged}
        return sorted(self.batch.workflows - held)

    @cached_property
    def unheld(self) -> dict[str, str]:
        """The patches in the code that no history holds, and where they are."""
        return {
            id: place for id, place in sorted(self.batch.patches.items()) if id not in self.sides
        }

    @cached_property
    def unfinished(self) -> int:
        """How many histories end before their workflow did."""
        return sum(not one.answer.is_finished for one in self.replayed)

    @property
    def uncovered(self) -> bool:
        """Whether something is not covered that could be."""
        return bool(self.unknown or self.idle or self.unheld)


def as_lines(report: Report) -> list[str]:
    """The report for people."""
    lines = []
    for one in report.failed:
        answer = one.answer
        who = f"  {answer.workflow} {answer.instance!r}" if answer.workflow else ""
        lines += [f"FAILED {one.path}{who}", *_indented(one.message), ""]
    events = sum(one.answer.events for one in report.judged)
    lines.append(
        f"{_count(len(report.judged), 'history', 'histories')} ({events:,} events) in "
        f"{report.seconds:.1f} s: {len(report.replayed):,} as recorded, "
        f"{len(report.failed):,} failed, {len(report.unknown):,} not replayed."
    )
    lines.append("Each was replayed with " + "; ".join(map(str, PERTURBATIONS)) + ".")
    for id, count in report.sides.items():
        lines.append(
            f"patched({id!r}): held by {_count(count['new'], 'history', 'histories')} on the new "
            f"side, {count['old']:,} on the old."
        )
    if left := _not_covered(report):
        lines += ["Not covered:", *(f"  {line}" for line in left)]
    return lines


def as_json(report: Report) -> str:
    """The report for programs."""
    return json.dumps(
        {
            "format": FORMAT,
            "histories": len(report.judged),
            "passed": len(report.replayed),
            "failed": len(report.failed),
            "seconds": round(report.seconds, 3),
            "perturbations": [str(one) for one in PERTURBATIONS],
            "files": [
                {
                    "file": str(one.path),
                    "workflow": one.answer.workflow or None,
                    "instance": one.answer.instance or None,
                    "events": one.answer.events,
                    "finished": one.answer.is_finished,
                    "state": one.answer.state,
                    "under": one.under,
                    "message": one.message or None,
                }
                for one in report.judged
            ],
            "patches": report.sides,
            "not_covered": {
                "histories_of_unknown_workflows": dict(_unknown(report)),
                "workflows_without_histories": report.idle,
                "patches_without_histories": report.unheld,
                "unfinished_histories": report.unfinished,
                "other_json_files": report.skipped,
                "notes": report.batch.notes,
            },
        },
        indent=2,
    )


def as_junit(report: Report) -> str:
    """The report for CI servers."""
    suite = ET.Element(
        "testsuite",
        name="edda check",
        tests=str(len(report.judged)),
        failures=str(len(report.failed)),
        errors="0",
        skipped=str(len(report.unknown)),
        time=f"{report.seconds:.3f}",
    )
    for one in report.judged:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=_clean(one.answer.workflow or "unreadable"),
            name=_clean(str(one.path)),
        )
        text = _clean(one.message)
        if one.answer.state == "unknown":
            ET.SubElement(case, "skipped", message=text)
        elif one.answer.state != "passed":
            first = text.partition("\n")[0]
            ET.SubElement(case, "failure", message=first, type=one.answer.state).text = text
    ET.indent(suite)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"
    )


def _not_covered(report: Report) -> list[str]:
    lines = [
        f"{_count(many, 'history', 'histories')} of {name!r}, which is no workflow here"
        for name, many in _unknown(report)
    ]
    if report.idle:
        lines.append(f"workflows without a history: {', '.join(report.idle)}")
    for id, place in report.unheld.items():
        lines.append(f"patched({id!r}) at {place}: no history holds it, on either side")
    if report.unfinished:
        lines.append(
            f"{_count(report.unfinished, 'history', 'histories')} had not finished: nobody knows "
            f"what should follow"
        )
    if report.skipped:
        lines.append(
            _count(report.skipped, "JSON file is no history", "JSON files are no histories")
        )
    return lines + report.batch.notes


def _unknown(report: Report) -> list[tuple[str, int]]:
    return sorted(Counter(one.answer.workflow for one in report.unknown).items())


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _indented(text: str) -> list[str]:
    return [f"  {line}".rstrip() for line in text.splitlines()]


def _clean(text: str) -> str:
    return NOT_XML.sub("?", text)
