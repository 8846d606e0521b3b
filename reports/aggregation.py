"""More than one way to turn scores on many tasks into one order, each explained.

The average rank comes first; beside it the Borda count, the win rate, Elo ratings, the mean
score and the mean improvability. Pure functions of a ranking; it must know nothing of
figures or pages.

In a complete table, where all variants meet on all tasks, Borda count and win rate are
linear in the average rank, and Bradley-Terry strengths ascend with the number of wins
(L. R. Ford, American Mathematical Monthly 64, 1957): those four always agree on the order,
up to the ties. Only the mean score and the improvability can contradict it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports.ranking import RankingTable, task_ranks
from reports.resampling import Floats

_ROUNDS, _CLOSE = 2000, 1e-12  # of the fixed-point iteration for Bradley-Terry


@dataclass(frozen=True)
class Aggregation:
    """One way to aggregate: its values in the ranking's order, and what they mean.

    ``is_new_order`` says whether its order can differ from the average rank's.
    """

    name: str
    values: tuple[float, ...]
    higher_is_better: bool
    is_new_order: bool
    explanation: str
    source: str

    def first(self, variants: tuple[str, ...]) -> tuple[str, ...]:
        """The best of the variants, several when they tie."""
        ranks = task_ranks(np.array(self.values), self.higher_is_better)
        return tuple(v for v, r in zip(variants, ranks, strict=True) if r == ranks.min())


def aggregations(ranking: RankingTable) -> tuple[Aggregation, ...]:
    """All that the tasks allow, average rank first; empty for fewer than two variants.

    The mean score needs one metric for all tasks, the improvability scores with a known
    best: shares up to 1, or errors of which 0 is the best.
    """
    if len(ranking.ranked) < 2:
        return ()
    scores = np.array([[r.scores[t.name].value for r in ranking.ranked] for t in ranking.tasks])
    up = np.array([task.higher_is_better for task in ranking.tasks])
    ranks = np.array([task_ranks(s, bool(u)) for s, u in zip(scores, up, strict=True)])
    k = ranks.shape[1]
    found = [
        Aggregation(
            "Average rank",
            _numbers(ranks.mean(axis=0)),
            False,
            False,
            "Mean over tasks of the place within the task; every task counts the same, and by "
            "how much a task is won does not count.",
            "Demsar, JMLR 7 (2006), 3.2",
        ),
        Aggregation(
            "Borda count",
            _numbers((k - ranks).sum(axis=0)),
            True,
            False,
            "Sum over tasks of how many variants are beaten there, ties counting half.",
            "de Borda (1781); Colombo et al., NeurIPS (2022)",
        ),
        Aggregation(
            "Win rate",
            _numbers(((k - ranks) / (k - 1)).mean(axis=0)),
            True,
            False,
            "Chance to beat a random other variant on a random task, ties counting half.",
            "Liang et al., HELM, TMLR (2023)",
        ),
        Aggregation(
            "Elo",
            _numbers(elo(wins(ranks))),
            True,
            False,
            "Bradley-Terry ratings from all duels on all tasks, 1000 for the average variant; "
            "400 points are odds of 10 to 1. One drawn duel is added per pair, to keep them "
            "finite.",
            "Bradley and Terry, Biometrika 39 (1952); Hunter, Annals of Statistics 32 (2004)",
        ),
    ]
    comparable = len({task.dataset for task in ranking.tasks}) == 1 or bool(up[0])
    # Errors have units, and those of two data sets are no one number.
    if len({task.metric for task in ranking.tasks}) == 1 and comparable:
        found.append(
            Aggregation(
                "Mean score",
                _numbers(scores.mean(axis=0)),
                bool(up[0]),
                True,
                "Mean over tasks of the score; tasks on which scores spread most decide.",
                "Demsar, JMLR 7 (2006), 3.1.1, who advises against it",
            )
        )
    lost = improvability(scores, up)
    if lost is not None:
        found.append(
            Aggregation(
                "Mean improvability",
                _numbers(lost.mean(axis=0)),
                False,
                True,
                "Mean over tasks of the share of a variant's error that the best variant there "
                "would remove; 0 is the best everywhere.",
                "Erickson et al., TabArena (2025)",
            )
        )
    return tuple(found)


def wins(ranks: Floats) -> Floats:
    """How often each variant beats each other ``[V, V]``, ties half; ranks are ``[T, V]``."""
    mine, theirs = ranks[:, :, None], ranks[:, None, :]
    won = ((mine < theirs) + 0.5 * (mine == theirs)).sum(axis=0)
    np.fill_diagonal(won, 0)
    return np.asarray(won, dtype=np.float64)


def elo(won: Floats) -> Floats:
    """Bradley-Terry strengths by maximum likelihood, on Elo's scale with mean 1000.

    ``won`` is ``[V, V]``. Half a win either way is added per pair (a drawn duel), without
    which a variant that wins everything has no finite strength. Solved by Hunter's MM
    iteration, which converges from anywhere.
    """
    k = len(won)
    won = won + 0.5 * (1 - np.eye(k))
    met, total, strength = won + won.T, won.sum(axis=1), np.ones(k)
    for _ in range(_ROUNDS):
        new = total / (met / (strength[:, None] + strength[None, :])).sum(axis=1)
        new /= np.exp(np.log(new).mean())
        done = np.abs(new / strength - 1).max() < _CLOSE
        strength = new
        if done:
            break
    return np.asarray(1000 + 400 * np.log10(strength), dtype=np.float64)


def improvability(scores: Floats, higher_is_better: Floats) -> Floats | None:
    """``(error - best error) / error`` ``[T, V]``, 0 for no error at all.

    The error of a score is its distance from 1, or the score itself where lower is better;
    ``None`` when a score lies beyond that best.
    """
    errors = np.where(np.asarray(higher_is_better, dtype=bool)[:, None], 1 - scores, scores)
    if (errors < 0).any():
        return None
    gap = errors - errors.min(axis=1, keepdims=True)
    return np.asarray(np.divide(gap, errors, out=np.zeros_like(gap), where=errors > 0))


def _numbers(values: Floats) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
