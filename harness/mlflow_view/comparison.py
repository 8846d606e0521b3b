"""The comparison that MLflow's page opens on: which columns, in which order, which charts.

MLflow keeps a *saved view* of its runs page in a tag of the experiment
(``mlflow.sharedViewState.<key>``): the page's state as JSON, in an envelope that gives it
a name in the page's list of views; ``?viewStateShareKey=<key>`` opens it. One view per
suite run, because ranks of different suite runs do not compare. The field names are those of
MLflow 3.17's frontend (ExperimentPageUIState.tsx, runs-charts.types.ts); a version that does
not know one ignores it, and the page then opens as it does for everybody.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from harness.mlflow_view import names
from harness.mlflow_view.facts import SuiteRun, origins, rank_keys, score_key, tiers

TAG = "mlflow.sharedViewState."
CHARTED_TASKS = 30
_INFLATE_ABOVE = 12_000  # characters; a tag of an experiment holds 20,000
_COST, _SCORES, _REST = "tokenrank-cost", "tokenrank-score", "tokenrank-rest"


def view_key(run: SuiteRun) -> str:
    """The key of the suite run's view."""
    return f"tokenrank-{run.name}"


def view_tag(run: SuiteRun, now: int) -> tuple[str, str]:
    """Tag and value that make the view known; ``now`` in milliseconds since 1970."""
    name = f"{run.results.run.title} ({tiers(run)} weights, {origins(run)} data; {run.name})"
    state = json.dumps(view_state(run), separators=(",", ":"))
    if len(state) > _INFLATE_ABOVE:
        state = f"deflate;{base64.b64encode(zlib.compress(state.encode(), 9)).decode()}"
    envelope = {
        "name": names.one_line(name, 120),
        "createdAt": now,
        "updatedAt": now,
        "state": state,
    }
    return f"{TAG}{view_key(run)}", json.dumps(envelope)


def view_link(experiment_id: str, key: str) -> str:
    """The address that opens a view, after the server's own part."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={key}"


def view_state(run: SuiteRun) -> dict[str, Any]:
    """Columns, order and charts of the runs page for one suite run."""
    columns = _columns(run)
    rank = rank_keys(run)[0]
    return {
        "searchFilter": f"params.suite_run = '{run.name}'",
        "orderByKey": _metric(rank),
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": ["attributes.`Run Name`", *columns],
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": None,
        "useGroupedValuesInCharts": False,
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": [
            _section(_COST, "Cost and rank"),
            _section(_SCORES, "score"),
            {**_section(_REST, "Model metrics"), "display": False},
        ],
        "compareRunCharts": _charts(run),
    }


def _columns(run: SuiteRun) -> list[str]:
    texts = ("macs", "token_scheme", "tokens", "size", "version", "tier", "data_origin")
    ranks = [_metric(key) for key in rank_keys(run)]
    scores = [_metric(score_key(task)) for task in run.results.run.tasks[:CHARTED_TASKS]]
    return [*ranks, *(f"params.`{name}`" for name in texts), *scores]


def _metric(key: str) -> str:
    return f"metrics.`{key}`"


def _section(uuid: str, name: str) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": name,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }


def _charts(run: SuiteRun) -> list[dict[str, Any]]:
    ranks = rank_keys(run)
    charts = [
        _scatter("macs_log10", key, f"{_words(key)} (lower is better) against log10 of MACs")
        for key in ranks
    ]
    charts += [_bar(key, f"{_words(key)} (lower is better)", _COST) for key in ranks]
    charts += [
        _bar("macs", "MACs per sample, attention included", _COST),
        _bar("tokens", "Tokens per sample", _COST),
    ]
    charts += [
        _bar(score_key(task), f"{task.name}: {task.metric}", _SCORES)
        for task in run.results.run.tasks[:CHARTED_TASKS]
    ]
    # The page adds a chart for each metric that has none, unless that one was removed.
    plain = ["macs_log10", "macs_attention", "parameters", "published_gflops"]
    plain += [f"{key}_{end}" for key in ranks for end in ("low", "high")]
    return [*charts, *({**_bar(key, key, _REST), "deleted": True} for key in plain)]


def _words(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _card(kind: str, title: str, section: str, uuid: str) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "type": kind,
        "displayName": names.one_line(title, 120),
        "metricSectionId": section,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }


def _bar(key: str, title: str, section: str) -> dict[str, Any]:
    return {**_card("BAR", title, section, f"tokenrank-bar-{key}"), "metricKey": key}


def _scatter(x: str, y: str, title: str) -> dict[str, Any]:
    return {
        **_card("SCATTER", title, _COST, f"tokenrank-scatter-{y}"),
        "xaxis": {"key": x, "type": "METRIC"},
        "yaxis": {"key": y, "type": "METRIC"},
    }
