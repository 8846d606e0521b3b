"""A check as JUnit XML, which every build server shows: one test case per variant and task.

A regression is a failure, a cell that cannot be compared an error, one that the baseline does
not know is skipped. The layout is that of Jenkins' and Ant's reports; there is no time in it,
so the same check gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.regression.escaping import xml_attribute, xml_text
from harness.regression.scores import Verdict
from harness.regression.verdicts import Check, Judged

_ELEMENT: dict[Verdict, str] = {"worse": "failure", "missing": "error", "new": "skipped"}


def junit_xml(check: Check) -> str:
    """The whole document."""
    counts = (
        f'tests="{len(check.judged)}" failures="{len(check.of("worse"))}" '
        f'errors="{len(check.of("missing"))}" skipped="{len(check.of("new"))}"'
    )
    name = xml_attribute(f"tokenrank check {check.suite}")
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        "<testsuites>",
        f" <testsuite name={name} {counts}>",
        "  <properties>",
        *(f'   <property name="{key}" value="{value:g}"/>' for key, value in _settings(check)),
        "  </properties>",
        *(line for judged in check.judged for line in _case(check, judged)),
        " </testsuite>",
        "</testsuites>",
    ]
    return "\n".join(lines) + "\n"


def _settings(check: Check) -> list[tuple[str, float]]:
    return [("margin", check.margin), ("sketch_tolerance", check.tolerance)]


def _case(check: Check, judged: Judged) -> Iterator[str]:
    place = f"{check.suite}.{judged.task}"
    head = f"  <testcase classname={xml_attribute(place)} name={xml_attribute(judged.variant)}"
    element = _ELEMENT.get(judged.verdict)
    if element is None:
        yield f"{head}/>"
        return
    yield f"{head}>"
    message = xml_attribute("; ".join(judged.reasons))
    if element == "skipped":
        yield f"   <skipped message={message}/>"
    else:
        details = xml_text("\n".join(judged.reasons))
        yield f'   <{element} message={message} type="{judged.verdict}">{details}</{element}>'
    yield "  </testcase>"
