"""A check as Markdown: the sentence first, then what is not as it was, then everything.

Made for the summary page of a build; rendered by GitHub, GitLab and others alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.regression.baseline import Baseline
from harness.regression.escaping import markdown
from harness.regression.snapshot import Snapshot
from harness.regression.verdicts import Check, Judged, told_together, verdict_counts

_MARKS = {"worse": "❌", "missing": "❓", "new": "🆕", "better": "✅", "same": "✅"}


def markdown_summary(check: Check, baseline: Baseline) -> str:
    """The whole page."""
    counts = ", ".join(f"{n} {verdict}" for verdict, n in verdict_counts(check).items() if n)
    mark = {0: "✅", 1: "❌"}.get(check.exit_code, "❓")
    lines = [
        f"## {mark} Regression check: {markdown(check.suite)}",
        "",
        f"**{markdown(check.sentence)}**",
        "",
        f"{counts}. Margin {check.margin_words}; embeddings of the same weights may differ by "
        f"{check.tolerance:g} of their size.",
        "",
        *(f"- {markdown(sentence)}" for sentence in origin_sentences(baseline.snapshot)),
        "",
        "| | variant | task | baseline | now | change | at least (95%) | embeddings moved |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *(_row(each) for each in check.judged),
        "",
        *_reasons(check.judged),
        *_baseline_facts(baseline),
    ]
    return "\n".join(lines) + "\n"


_WHOSE = {"random": " (untrained)", "study": " (trained by this project at small scale)"}


def origin_sentences(found: Snapshot) -> list[str]:
    """What the numbers were measured on, where a reader might take them for more."""
    sentences = []
    simulated = sorted(t.name for t in found.tasks.values() if t.origin == "simulated")
    if simulated:
        sentences.append(f"SIMULATED data, not real images: {', '.join(simulated)}")
    for tier in sorted({v.tier for v in found.variants.values()}):
        names = ", ".join(sorted(v.name for v in found.variants.values() if v.tier == tier))
        sentences.append(f"{tier} weights{_WHOSE.get(tier, '')}: {names}")
    return sentences


def _row(each: Judged) -> str:
    cells = [
        f"{_MARKS[each.verdict]} {each.verdict}",
        markdown(each.variant),
        markdown(each.task),
        number(each.baseline_score),
        number(each.score),
        change(each),
        "–" if each.bound is None else f"{each.bound.low:+.3f}",
        drift(each),
    ]
    return f"| {' | '.join(cells)} |"


def number(value: float | None) -> str:
    """A score."""
    return "–" if value is None else f"{value:.3f}"


def change(each: Judged) -> str:
    """The change of the score, positive where it is better."""
    if each.bound is None:
        return "–"
    return f"{each.bound.difference:+.3f}" if each.bound.difference else "0"


def drift(each: Judged) -> str:
    """How far the embeddings moved, as a share of their size."""
    if each.drift is None:
        return "–"
    return "0" if each.drift == 0 else f"{each.drift:.0e}"


def _reasons(judged: Sequence[Judged]) -> list[str]:
    items = [
        f"- **{markdown(names)}**, {verdict}: {markdown(why)}"
        for verdict, names, why in told_together(judged)
    ]
    return ["### Why", "", *items, ""] if items else []


def _baseline_facts(baseline: Baseline) -> list[str]:
    origin = baseline.provenance
    versions = sorted(origin["versions"].items())
    facts = [
        str(origin["command"]),
        f"commit {origin['git_commit']}",
        str(origin["hardware"]),
        ", ".join(f"{name} {version}" for name, version in versions),
    ]
    return [f"Baseline: {'; '.join(markdown(fact) for fact in facts)}."]
