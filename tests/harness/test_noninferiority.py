"""Non-inferiority bounds: against a likelihood maximised by brute force, and their true error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from harness.metrics import sample_values
from harness.regression.noninferiority import (
    bounded_mean_lower,
    interval_bound,
    paired_bound,
    room_for_losses,
    tango_lower,
)
from harness.regression.scores import judge_scores
from harness.regression.snapshot import CellFacts, CellId, Snapshot, TaskFacts, VariantFacts
from harness.regression.verdicts import judge

Z = 1.6448536269514722


def score_statistic(gained: int, lost: int, n: int, difference: float) -> float:
    """Tango's statistic from its definition: the nuisance found by maximising the likelihood."""

    def deviance(q: float) -> float:
        p = q + difference
        rest = 1 - p - q
        terms = ((gained, p), (lost, q), (n - gained - lost, rest))
        return -sum(k * np.log(max(x, 1e-300)) for k, x in terms if k)

    low, high = max(0.0, -difference), (1 - difference) / 2
    q = optimize.minimize_scalar(
        deviance, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
    ).x
    variance = n * (2 * q + difference - difference**2)
    return float((gained - lost - n * difference) / np.sqrt(variance))


@pytest.mark.parametrize(
    ("gained", "lost", "n"), [(3, 9, 100), (1, 1, 80), (0, 4, 150), (12, 5, 60), (40, 44, 900)]
)
def test_the_bound_is_where_the_score_statistic_reaches_z(gained: int, lost: int, n: int) -> None:
    bound = tango_lower(gained, lost, n)
    assert score_statistic(gained, lost, n, bound) == pytest.approx(Z, abs=2e-3)


def test_without_a_discordant_pair_the_bound_still_has_a_width() -> None:
    """The closed form of that case, and next to the exact 3 / n ("rule of three")."""
    for n in (50, 140, 5400):
        assert tango_lower(0, 0, n) == pytest.approx(-(Z**2) / (n + Z**2), abs=1e-12)
        exact = 1 - 0.05 ** (1 / n)
        assert 0.85 * exact < -tango_lower(0, 0, n) < exact


@pytest.mark.parametrize(("n", "margin"), [(150, 0.05), (450, 0.02), (140, 0.03)])
def test_a_model_that_lost_the_margin_passes_in_about_one_of_twenty(n: int, margin: float) -> None:
    """The exact probability of passing at the margin, whatever share is gained beside it."""
    for gains in (0.0, 0.01, 0.05):
        chance = 0.0
        for gained in range(int(stats.binom.ppf(1 - 1e-6, n, gains)) + 1):
            if tango_lower(gained, 0, n) <= -margin:
                continue
            lost = 0
            while tango_lower(gained, lost, n) > -margin:
                lost += 1
            own = stats.binom.pmf(gained, n, gains)
            rest = (margin + gains) / (1 - gains)
            chance += own * stats.binom.cdf(lost - 1, n - gained, rest)
        assert 0.01 < chance < 0.07, gains


def test_an_unchanged_model_with_some_flips_passes_and_a_worse_one_does_not() -> None:
    rng = np.random.default_rng(0)
    old = (rng.random(450) < 0.7).astype(float)[:, None]
    flipped, broken = old.copy(), old.copy()
    flipped[[3, 40]] = 1 - flipped[[3, 40]]
    broken[np.flatnonzero(old)[:20]] = 0
    assert paired_bound(old, flipped).shows_not_worse(0.02)
    assert not paired_bound(old, broken).shows_not_worse(0.02)
    assert not paired_bound(old[:80], old[:80]).shows_not_worse(0.02)  # too few to say


def test_seeds_are_no_further_samples() -> None:
    """The same losses three times over are the evidence of once; spread out they are milder."""
    rng = np.random.default_rng(1)
    old = (rng.random((200, 1)) < 0.7).astype(float)
    new = old.copy()
    new[np.flatnonzero(old[:, 0])[:4]] = 0
    once = paired_bound(old, new)
    thrice = paired_bound(np.repeat(old, 3, 1), np.repeat(new, 3, 1))
    assert thrice.low == pytest.approx(once.low)
    one_seed = np.repeat(old, 3, 1)
    one_seed[:, 0] = new[:, 0]
    milder = paired_bound(np.repeat(old, 3, 1), one_seed)
    assert once.low < milder.low < 0


def test_the_bound_for_bounded_values_is_wilsons_for_rare_losses() -> None:
    """C losses of one in n samples: Wilson's bound on a Poisson mean, z^2/2 + z sqrt(c + z^2/4)."""
    differences = np.zeros(10_000)
    differences[:7] = -1
    expected = 7 + Z**2 / 2 + Z * np.sqrt(7 + Z**2 / 4)
    assert bounded_mean_lower(differences) * -10_000 == pytest.approx(expected, rel=1e-3)
    assert bounded_mean_lower(differences) == pytest.approx(tango_lower(0, 7, 10_000), rel=2e-3)


def test_the_bound_for_macro_f1_covers_what_it_should() -> None:
    """A later model that errs a little more: its true loss is below the bound 19 times of 20."""
    rng = np.random.default_rng(2)

    def drawn(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        labels = rng.choice(5, n, p=(0.4, 0.3, 0.15, 0.1, 0.05))
        old = np.where(rng.random(n) < 0.8, labels, (labels + 1) % 5)
        new = np.where(rng.random(n) < 0.03, (labels + 2) % 5, old)
        return labels, old, new

    def values(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels, old, new = drawn(n)
        return sample_values("macro_f1", labels, old), sample_values("macro_f1", labels, new)

    old, new = values(200_000)
    truth = float((new - old).mean())
    below = 0
    for _ in range(400):
        old, new = values(300)
        below += paired_bound(old[:, None], new[:, None]).low <= truth
    assert below / 400 > 0.93


def test_intervals_alone_are_compared_as_independent_normals() -> None:
    bound = interval_bound(0.7, (0.65, 0.75), 0.69, (0.64, 0.74))
    deviation = 0.05 / stats.norm.ppf(0.975) * 2**0.5
    assert bound.low == pytest.approx(-0.01 - stats.norm.ppf(0.95) * deviation)


def test_room_for_losses_counts_what_the_margin_forgives() -> None:
    room = room_for_losses(450, 0.02)
    assert tango_lower(0, room, 450) > -0.02 >= tango_lower(0, room + 1, 450)
    assert room_for_losses(80, 0.02) == -1


@pytest.mark.parametrize(("now", "verdict"), [(30.3, "same"), (30.9, "worse"), (29.0, "better")])
def test_of_an_error_the_margin_is_a_share(now: float, verdict: str) -> None:
    """An RMSE of 30 with intervals of a tenth: 0.02 would be nothing, 2% of it is 0.6."""
    task = TaskFacts("fuel", "real", False, {"metric": "rmse"}, {}, 1, None)
    cell = CellId("olmoearth-v1-nano", "fuel", 0)

    def run(score: float) -> Snapshot:
        facts = CellFacts(score, 6, 1, 1, (score - 0.1, score + 0.1), None, ())
        variant = VariantFacts("olmoearth-v1-nano", "random", "single", "random")
        return Snapshot("s", {"fuel": task}, {variant.name: variant}, {cell: facts}, {})

    _, bound, found = judge_scores([cell], run(30.0), run(now), margin=0.02)
    assert found == verdict
    assert bound is not None
    assert bound.difference == pytest.approx(30.0 - now)
    said = judge(run(30.0), run(30.0), 0.02).sentence
    assert "worse by 0.02 (of an error: that share of it) or more" in said
