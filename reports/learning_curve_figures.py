"""Learning curves as figures: kNN against samples and against compute, and the loss terms.

A bold line is an arm's mean over its seeds, thin ones are the seeds. Arms that vary another one
stand in a panel of their own. It must know nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import altair as alt

from reports import words
from reports.learning_curves import (
    ArmInfo,
    LearningCurves,
    Metric,
    Reading,
    TrainingCurve,
    mean_curve,
    smoothed,
)
from reports.line_panels import Line, Panel, Style, line_panels
from reports.look import INK, MUTED, VERSION_COLOURS, WARNING, WIDE, Frame, Spec, wrapped

MEAN, SEED = "mean over seeds", "one seed"
_TERA = 1e12
_GREYS = (MUTED, "#a8b0b8", INK)
_TERMS: tuple[tuple[Metric, str], ...] = (
    ("discrimination", "Patch discrimination"),
    ("contrast", "Instance contrast"),
)
Axis = Callable[[TrainingCurve, Reading], float | None]


@dataclass(frozen=True)
class _Part:
    """Some arms that share a panel; ``references`` are what they depart from, in grey."""

    title: str
    arms: tuple[ArmInfo, ...]
    references: tuple[ArmInfo, ...] = ()


def knn_chart(curves: LearningCurves, frame: Frame = WIDE) -> Spec | None:
    """KNN accuracy against samples seen; ``None`` where no probe was taken."""
    return _knn(curves, lambda _, r: float(r.samples), "Samples seen", "samples seen", frame)


def compute_chart(curves: LearningCurves, frame: Frame = WIDE) -> Spec | None:
    """KNN accuracy against MACs of the training; ``None`` without probes or MACs."""

    def macs(training: TrainingCurve, reading: Reading) -> float | None:
        each = training.macs_per_sample
        return None if each is None else each * reading.samples / _TERA

    x_title = "Training so far, TMACs, forward and backward"
    return _knn(curves, macs, x_title, "training compute", frame, log_x=True)


def loss_chart(curves: LearningCurves, frame: Frame = WIDE) -> Spec | None:
    """The loss's two terms against samples seen, each on an axis of its own."""
    panels = []
    for part in _parts(curves):
        for metric, title in _TERMS:
            lines = [
                line
                for arm, grey in _shown(part)
                if (line := _loss_line(curves, arm, metric, title, grey)) is not None
            ]
            if lines:
                where = f"{title} ({part.title.lower()})" if part.title else title
                panels.append(Panel(where, "Samples seen", tuple(lines)))
    if not panels:
        return None
    said = "A scheme of more tokens has more negatives: its losses are not another scheme's"
    heading = _title(f"Loss terms: study {curves.study}", [_about(curves), said], curves, frame)
    style = Style("Mean over seeds", (MEAN,), shared=False, keyed=True)
    return line_panels(panels, style, _colour(curves), heading, frame)


def _loss_line(
    curves: LearningCurves, arm: ArmInfo, metric: Metric, title: str, grey: bool
) -> Line | None:
    mean = smoothed(mean_curve(curves.of(arm.name), metric))
    if len(mean) < 2:
        return None
    return _line(arm.name, MEAN, [(float(r.samples), r.value) for r in mean], title, grey)


def _shown(part: _Part) -> list[tuple[ArmInfo, bool]]:
    """Arms of a panel, and whether each is a reference there."""
    return [*((arm, False) for arm in part.arms), *((arm, True) for arm in part.references)]


def _knn(
    curves: LearningCurves,
    axis: Axis,
    x_title: str,
    against: str,
    frame: Frame,
    log_x: bool = False,
) -> Spec | None:
    panels = []
    for part in _parts(curves):
        lines = [line for arm, grey in _shown(part) for line in _arm_lines(curves, arm, axis, grey)]
        if lines:
            panels.append(Panel(part.title, x_title, tuple(lines)))
    if not panels:
        return None
    kinds = (MEAN, SEED) if any(line.kind == SEED for p in panels for line in p.lines) else (MEAN,)
    style = Style("kNN accuracy (validation)", kinds, faint=True, keyed=True, log_x=log_x)
    title = _title(
        f"kNN against {against}: study {curves.study}",
        [_about(curves), f"kNN (k = 20) on the validation split of {words.clip(curves.probe, 60)}"],
        curves,
        frame,
    )
    return line_panels(panels, style, _colour(curves), title, frame)


def _parts(curves: LearningCurves) -> list[_Part]:
    """Main arms, and beside them the others with what they depart from."""
    begun = [arm for arm in curves.arms if curves.of(arm.name)]
    main = tuple(arm for arm in begun if arm.main)
    others = tuple(arm for arm in begun if not arm.main)
    if not main or not others:
        return [_Part("", main or others)]
    bases = {arm.departs_from for arm in others}
    references = tuple(arm for arm in main if arm.name in bases)
    return [_Part("Main arms", main), _Part("One thing changed", others, references)]


def _arm_lines(curves: LearningCurves, arm: ArmInfo, axis: Axis, grey: bool) -> list[Line]:
    """An arm's mean, and its seeds where there are several; of a reference the mean alone."""
    trainings = curves.of(arm.name)
    mean = mean_curve(trainings, "knn")
    first = next((t for t in trainings if t.readings.get("knn")), None)
    if first is None or not mean:
        return []
    places = [(axis(first, reading), reading.value) for reading in mean]
    points = [(x, y) for x, y in places if x is not None]
    if not points:
        return []
    lines = [_line(arm.name, MEAN, points, f"{arm.name}, kNN", grey)]
    seeds = [t for t in trainings if len(t.readings.get("knn", ())) > 1]
    if len(seeds) < 2 or grey:
        return lines
    for training in seeds:
        places = [(axis(training, r), r.value) for r in training.readings["knn"]]
        own = [(x, y) for x, y in places if x is not None]
        lines.append(_line(arm.name, SEED, own, "", grey))
    return lines


def _line(
    arm: str, kind: str, points: Sequence[tuple[float, float]], about: str, grey: bool
) -> Line:
    dots = kind == MEAN and len(points) <= 30
    return Line(
        label=words.clip(arm, 34),
        version=_as_reference(arm) if grey else arm,
        kind=kind,
        x=tuple(float(f"{x:.6g}") for x, _ in points),
        y=tuple(round(y, 5) for _, y in points),
        about=tuple(f"{about} {y:.3f} at {x:,.6g}" for x, y in points) if dots else (),
    )


def _colour(curves: LearningCurves) -> alt.Color:
    """A colour per arm; lines carry their names, so there is no legend.

    There are fewer colours than a study may have arms: they begin anew with the second panel.
    """
    main = [arm.name for arm in curves.arms if arm.main]
    others = [arm.name for arm in curves.arms if not arm.main]
    colours = [VERSION_COLOURS[i % len(VERSION_COLOURS)] for i in range(len(main))]
    colours += [VERSION_COLOURS[i % len(VERSION_COLOURS)] for i in range(len(others))]
    greys = [_GREYS[i % len(_GREYS)] for i in range(len(main))]
    domain = [*main, *others, *map(_as_reference, main)]
    scale = alt.Scale(domain=domain, range=[*colours, *greys])
    return alt.Color("version:N", scale=scale, legend=None)


def _as_reference(arm: str) -> str:
    """Key of an arm's grey where it is a reference."""
    return f"{arm} (reference)"


def _about(curves: LearningCurves) -> str:
    origin = words.ORIGIN_WORDS.get(curves.origin, curves.origin)
    return f"{origin[0].upper()}{origin[1:]}: trained on {words.clip(curves.data, 100)}"


def _title(text: str, said: Sequence[str], curves: LearningCurves, frame: Frame) -> alt.TitleParams:
    warn = curves.origin != "real"
    lines = [line for sentence in said for line in wrapped(sentence, _length(frame))]
    return alt.TitleParams(
        wrapped(text, 34) if frame.is_narrow else text,
        subtitle=lines,
        subtitleColor=WARNING if warn else MUTED,
        subtitleFontWeight="bold" if warn else "normal",
        subtitleFontSize=12,
        subtitlePadding=4,
    )


def _length(frame: Frame) -> int:
    return 44 if frame.is_narrow else 110
