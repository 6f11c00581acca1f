"""A lint's report as text for people, as JSON for scripts, and as SARIF 2.1.0 for code review.

Pure functions from a report to text. Paths are shown from the working directory.
"""

import json
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from edda_testkit.lint import Report
from edda_testkit.lint_frames import Finding, Gap
from edda_testkit.lint_rules import RULES
from edda_testkit.lint_values import Place

__all__ = ["as_json", "as_sarif", "as_text", "finding_text", "summary"]

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"error": "error", "warning": "warning", "note": "note"}


# ---- Text ------------------------------------------------------------------------------------


def as_text(report: Report) -> str:
    """The findings, each with the way down to it; what was not analysed; a summary."""
    parts = [finding_text(finding) for finding in report.findings]
    if report.gaps:
        lines = [f"  {_where(gap.place)}: {gap.reason}" for gap in report.gaps]
        parts.append("\n".join([f"not analysed ({len(lines)}):", *lines]))
    return "\n\n".join([*parts, summary(report)])


def finding_text(finding: Finding) -> str:
    """One finding: where, which rule, what; the code; the calls down to it; the cure."""
    rule = finding.rule
    level = "" if rule.severity == "error" else f"{rule.severity}, "
    lines = [f"{_where(finding.place)}: {rule.code} {level}{rule.category}: {finding.what}"]
    if finding.place.text:
        lines.append(f"    | {finding.place.text}")
    for n, site in enumerate(finding.chain):
        who = f"workflow {site.function}" if n == 0 else f"which calls {site.function}"
        lines.append(f"    {who}, {_where(site)}: {site.text}")
    if not finding.chain and finding.workflow:
        lines.append(f"    workflow {finding.workflow}")
    lines.append(f"    instead: {rule.cure}")
    return "\n".join(lines)


def summary(report: Report) -> str:
    """How much was found, and in how much."""
    notes = sum(finding.rule.severity == "note" for finding in report.findings)
    parts = [_count(len(report.findings) - notes, "finding")]
    if notes:
        parts.append(_count(notes, "note"))
    if report.gaps:
        parts.append(f"{_count(len(report.gaps), 'place')} not analysed")
    looked = f"{_count(report.workflows, 'workflow')} in {_count(report.files, 'file')}"
    if not report.workflows:
        looked = f"no workflow in {_count(report.files, 'file')}, so nothing was checked"
    return f"{', '.join(parts)}; {looked}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _where(place: Place) -> str:
    return f"{place.file}:{place.line}:{place.column}"


# ---- JSON ------------------------------------------------------------------------------------


def as_json(report: Report) -> str:
    """The report as one JSON object, `edda-lint/1`."""
    notes = sum(finding.rule.severity == "note" for finding in report.findings)
    document = {
        "format": "edda-lint/1",
        "findings": [_finding_object(finding) for finding in report.findings],
        "not_analysed": [{**_spot(gap.place), "reason": gap.reason} for gap in report.gaps],
        "summary": {
            "files": report.files,
            "workflows": report.workflows,
            "findings": len(report.findings) - notes,
            "notes": notes,
            "not_analysed": len(report.gaps),
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _finding_object(finding: Finding) -> dict[str, Any]:
    rule = finding.rule
    return {
        "code": rule.code,
        "category": rule.category,
        "severity": rule.severity,
        **_spot(finding.place),
        "message": finding.what,
        "instead": rule.cure,
        "workflow": finding.workflow,
        "chain": [{**_spot(site), "text": site.text} for site in finding.chain],
    }


def _spot(place: Place) -> dict[str, Any]:
    return {
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "function": place.function,
    }


# ---- SARIF -----------------------------------------------------------------------------------


def as_sarif(report: Report, version: str = "0") -> str:
    """The report as a SARIF 2.1.0 log: findings are results, gaps are notifications."""
    codes = list(RULES)
    run = {
        "tool": {
            "driver": {
                "name": "edda lint",
                "version": version,
                "rules": [_rule_object(code) for code in codes],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [_notification(gap) for gap in report.gaps],
            }
        ],
        "results": [_result(finding, codes) for finding in report.findings],
    }
    log = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False)


def _rule_object(code: str) -> dict[str, Any]:
    rule = RULES[code]
    return {
        "id": code,
        "shortDescription": {"text": f"{rule.category}: {rule.title}"},
        "help": {"text": f"Instead: {rule.cure}."},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
        "properties": {"category": rule.category},
    }


def _result(finding: Finding, codes: list[str]) -> dict[str, Any]:
    rule = finding.rule
    found: dict[str, Any] = {
        "ruleId": rule.code,
        "ruleIndex": codes.index(rule.code),
        "level": LEVELS[rule.severity],
        "message": {"text": f"{finding.what}. Instead: {rule.cure}."},
        "locations": [_location(finding.place)],
    }
    if finding.chain:
        steps = [{"location": location} for location in _steps(finding)]
        found["codeFlows"] = [{"threadFlows": [{"locations": steps}]}]
    return found


def _steps(finding: Finding) -> Iterator[dict[str, Any]]:
    for site in (*finding.chain, finding.place):
        yield {**_location(site), "message": {"text": f"in {site.function}"}}


def _notification(gap: Gap) -> dict[str, Any]:
    return {
        "level": "note",
        "message": {"text": f"Not analysed: {gap.reason}."},
        "locations": [_location(gap.place)],
    }


def _location(place: Place) -> dict[str, Any]:
    path = PurePath(place.file)
    if path.is_absolute():
        artifact = {"uri": path.as_uri()}
    else:
        artifact = {"uri": quote(path.as_posix()), "uriBaseId": "%SRCROOT%"}
    region = {"startLine": place.line, "startColumn": place.column}
    return {"physicalLocation": {"artifactLocation": artifact, "region": region}}
