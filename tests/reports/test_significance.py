"""The tests of significance against scipy, statsmodels, scikit-posthocs and published tables."""

from __future__ import annotations

import numpy as np
import pytest
import scikit_posthocs
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_table
from statsmodels.stats.multitest import multipletests

from reports.ranking import task_ranks
from reports.significance import (
    bootstrap_p_value,
    cliques,
    critical_difference,
    friedman,
    holm,
    mcnemar,
)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (5, 2), (12, 12), (40, 19), (300, 250)])
def test_mcnemar_is_the_exact_one(a: int, b: int) -> None:
    table = [[100, a], [b, 50]]
    expected = mcnemar_table(table, exact=True).pvalue
    assert mcnemar(a, b) == pytest.approx(expected)
    assert mcnemar(a, b) == mcnemar(b, a)


def test_holm_agrees_with_statsmodels_on_unsorted_and_equal_values() -> None:
    p = [0.04, 0.001, 0.2, 0.04, 0.9, 0.0]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([]) == []


def test_friedman_agrees_with_scipy_with_and_without_ties() -> None:
    rng = np.random.default_rng(3)
    for scores in (rng.normal(size=(12, 5)), rng.integers(0, 4, size=(9, 6)).astype(float)):
        found = friedman(task_ranks(scores))
        assert found is not None
        chi2 = stats.friedmanchisquare(*scores.T).statistic
        n, k = scores.shape
        assert found.statistic == pytest.approx((n - 1) * chi2 / (n * (k - 1) - chi2))


def test_friedman_on_the_worked_example_of_its_source() -> None:
    """Demsar (2006), table 6: four trees on 14 data sets, F = 3.69 with ranks as printed."""
    average = np.array([3.143, 2.000, 2.893, 1.964])
    chi2 = 12 * 14 / (4 * 5) * (float((average**2).sum()) - 4 * 25 / 4)
    assert chi2 == pytest.approx(9.28, abs=0.02)
    assert (14 - 1) * chi2 / (14 * 3 - chi2) == pytest.approx(3.69, abs=0.02)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.01)
    # Table 5 (a): q for 2 and 10 classifiers, as q sqrt(k (k + 1) / 6 N).
    assert critical_difference(2, 1) == pytest.approx(1.960 * 1.0, abs=0.002)
    assert critical_difference(10, 1) == pytest.approx(3.164 * (110 / 6) ** 0.5, abs=0.01)


def test_the_ends_of_friedman() -> None:
    agreeing = np.tile([1.0, 2.0, 3.0], (5, 1))
    assert friedman(agreeing).p_value == 0  # type: ignore[union-attr]
    assert friedman(np.full((5, 3), 2.0)).p_value == 1  # type: ignore[union-attr]
    assert friedman(agreeing[:1]) is None
    assert friedman(agreeing[:, :1]) is None


def test_nemenyi_draws_the_line_where_scikit_posthocs_does() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20, 6)) + np.arange(6) * 0.5
    ranks = task_ranks(scores)
    p = scikit_posthocs.posthoc_nemenyi_friedman(scores).to_numpy()
    average = ranks.mean(axis=0)
    apart = np.abs(average[:, None] - average[None, :]) > critical_difference(6, 20)
    np.testing.assert_array_equal(apart, p < 0.05)


def test_cliques_are_maximal_runs() -> None:
    assert cliques([1.0, 1.5, 2.0, 4.0, 4.2], 0.6) == [(0, 1), (1, 2), (3, 4)]
    assert cliques([1.0, 1.2, 1.4], 5) == [(0, 2)]
    assert cliques([1.0, 3.0], 1) == []


def test_a_bootstrap_p_value_counts_draws_on_the_wrong_side() -> None:
    draws = np.concatenate([np.full(990, 0.1), np.full(9, -0.1)])
    assert bootstrap_p_value(draws) == pytest.approx(2 * 10 / 1000)
    assert bootstrap_p_value(np.zeros(99)) == 1
    assert bootstrap_p_value(np.full(999, 0.2)) == pytest.approx(0.002)
