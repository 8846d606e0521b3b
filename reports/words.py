"""Numbers and terms as a reader sees them: one place, so that figures, tables and prose agree.

Pure formatting. It must know nothing of layout or of where a number came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports.resampling import Interval

TIER_WORDS = {
    "official": "official weights (published checkpoints)",
    "study": "study weights (trained by this project at small scale)",
    "random": "untrained (random) weights",
    "baseline": "baselines (nothing trained)",
    "published": "published results (imported, not run here)",
}
ORIGIN_WORDS = {"real": "real data", "simulated": "SIMULATED DATA"}
NO_VALUE = "–"


def status(tiers: Sequence[str], origin: str, trained_on: str = "") -> str:
    """Origin and tier in words, e.g. "SIMULATED DATA, untrained (random) weights".

    ``trained_on`` says on what study weights were trained, where there are some.
    """
    known = dict(TIER_WORDS)
    if trained_on:
        known["study"] = f"study weights (trained by this project at small scale on {trained_on})"
    weights = " and ".join(known.get(tier, f"{tier} weights") for tier in tiers)
    words = f"{ORIGIN_WORDS.get(origin, f'{origin} data')}, {weights}"
    return words[0].upper() + words[1:]


def tier_note(tier: str) -> str:
    """A tier in two words, beside a name."""
    return {"published": "published results", "baseline": "a baseline"}.get(tier, f"{tier} weights")


def is_trustworthy(tiers: Sequence[str], origin: str) -> bool:
    """Whether nothing needs a warning: real data and weights as published."""
    return origin == "real" and set(tiers) <= {"official", "published"}


def short_label(variant: str, main_family: str) -> str:
    """A variant in a figure: version and size, the scheme when it departs, a foreign family.

    ``olmoearth-v1-nano:single`` reads ``v1 nano :single`` among OlmoEarth variants. What
    follows an ``@`` (whose weights) stays as it is.
    """
    name, at, whose = variant.partition("@")
    stem, colon, scheme = name.partition(":")
    text = stem.removeprefix(f"{main_family}-").replace("-", " ")
    return clip(text + (f" :{scheme}" if colon else "") + at + whose, 40 if at else 34)


def clip(text: str, length: int) -> str:
    """At most ``length`` characters on one line, an ellipsis marking what was cut."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def quantity(value: float | None) -> str:
    """Three significant digits with a metric prefix: ``1.21 G``."""
    if value is None:
        return NO_VALUE
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * 0.9995:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g}"


def gflops(value: float | None) -> str:
    """GFLOPs with three digits or all whole ones: ``2,445``, ``70.7``, ``1.62``."""
    if value is None:
        return NO_VALUE
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def count(value: float | None) -> str:
    """A whole number with thin groups: ``12,288``; a fraction keeps one decimal."""
    if value is None:
        return NO_VALUE
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def whole(value: int | None) -> str:
    """A small whole number."""
    return NO_VALUE if value is None else str(value)


def percent(share: float | None) -> str:
    """A share of one in whole percent."""
    return NO_VALUE if share is None else f"{share:.0%}"


def score(value: float | None) -> str:
    """A score with three decimals."""
    return NO_VALUE if value is None else f"{value:.3f}"


def signed(value: float) -> str:
    """A difference with its sign; a true minus, so that columns align."""
    text = f"{value:+.3f}"
    return text.replace("-", "−") if float(text) else "0.000"


def rank_text(value: float) -> str:
    """An average rank: two decimals, trailing zeros dropped."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def ratio(value: float | None) -> str:
    """Reference over candidate cost: ``2.9x``."""
    return NO_VALUE if value is None else f"{value:.2f}x" if value < 10 else f"{value:.0f}x"


def cost_change(value: float, unit: str = "MACs") -> str:
    """A cost ratio (reference / candidate) as a phrase: ``2.9x fewer MACs``."""
    if abs(value - 1) < 0.005:
        return f"the same {unit}"
    change, word = (value, "fewer") if value > 1 else (1 / value, "more")
    return f"{change:.2f}x {word} {unit}" if change < 1.1 else f"{change:.1f}x {word} {unit}"


def p_value(value: float | None) -> str:
    """A p-value with two digits, as far as that is worth saying: ``0.012``, ``< 0.001``."""
    if value is None:
        return NO_VALUE
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def p_equals(value: float) -> str:
    """A p-value in a sentence: ``p = 0.012``, ``p < 0.001``."""
    text = p_value(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def patches(sizes: Iterable[int]) -> str:
    """The patch sizes of some tasks in words; 0 means unknown: ``patch size 4 or 8``."""
    known = sorted({size for size in sizes if size > 0})
    return f"patch size {' or '.join(map(str, known))}" if known else ""


def spans(found: Interval | None, form: str = "score") -> str:
    """An interval in words: ``0.66 to 0.76``."""
    if found is None:
        return NO_VALUE
    write = {"score": score, "rank": rank_text, "signed": signed}[form]
    return f"{write(found.low)} to {write(found.high)}"


def number(n: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: ``1 task``, ``2 tasks``."""
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names joined for a sentence; beyond ``most``, how many more there are."""
    names = list(names)
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""
