"""Tuning studies in a real PostgreSQL: a journal's trials, resumed; away, in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.probes import tuning
from harness.probes.study import _database
from harness.probes.tuning import LinearSettings, tune_linear
from models.errors import UserError
from tests.harness.test_tuning import SHORT, as_bytes, make_inputs
from tests.services import postgres

SETTINGS = LinearSettings(trials=16, round_size=8, training=SHORT)


def test_a_shared_study_has_the_trials_of_a_journal_and_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = make_inputs(2.0)
    journal = as_bytes(tune_linear(inputs, SETTINGS, 0, tmp_path / "cell.journal"))
    with postgres() as cluster:
        monkeypatch.setenv("TOKENRANK_TUNING", cluster.uri)
        there = tmp_path / "elsewhere" / "cell.journal"
        assert as_bytes(tune_linear(inputs, SETTINGS, 0, there)) == journal
        assert not there.parent.exists()
        # Other embeddings: another cell, whose study must not be taken for this one.
        other = tune_linear(make_inputs(0.0), SETTINGS, 0, there.with_name("other.journal"))
        assert as_bytes(other) != journal
        trained: list[int] = []
        whole = tuning.train_heads
        monkeypatch.setattr(
            tuning, "train_heads", lambda *args: trained.append(len(args[1])) or whole(*args)
        )
        assert as_bytes(tune_linear(inputs, SETTINGS, 0, there)) == journal
        assert trained == [1]  # the best one, refitted: no trial again
        cluster.stop()
        _database.cache_clear()
        with pytest.raises(UserError, match=r"TOKENRANK_TUNING.*cannot be used"):
            tune_linear(inputs, SETTINGS, 0, there)
        cluster.start()
