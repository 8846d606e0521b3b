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
from harness.mlflow_view.facts import (
    BEATS,
    SuiteRun,
    margin_key,
    rank_keys,
    score_key,
    suite_run_title,
)

TAG = "mlflow.sharedViewState."
CHARTED_TASKS = 30
_COST, _SCORES, _REST = "tokenrank-cost", "tokenrank-score", "tokenrank-rest"


def view_key(run: SuiteRun) -> str:
    """The key of the suite run's view."""
    return f"tokenrank-{run.name}"


def view_tag(run: SuiteRun, now: int) -> tuple[str, str]:
    """Tag and value that make the view known; ``now`` in milliseconds since 1970."""
    # Packed as the page itself packs it: a tag holds 20,000 characters, and the page loads the
    # views of all suite runs with the experiment.
    packed = zlib.compress(json.dumps(view_state(run), separators=(",", ":")).encode(), 9)
    envelope = {
        "name": names.one_line(suite_run_title(run), 120),
        "createdAt": now,
        "updatedAt": now,
        "state": f"deflate;{base64.b64encode(packed).decode()}",
    }
    return f"{TAG}{view_key(run)}", json.dumps(envelope)


def view_link(experiment_id: str, key: str) -> str:
    """The address that opens a view, after the server's own part."""
    # MLflow's pages open for language models unless the address says otherwise.
    return (
        f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={key}"
    )


def view_state(run: SuiteRun) -> dict[str, Any]:
    """Columns, order and charts of the runs page for one suite run."""
    columns = list(_columns(run))
    rank = rank_keys(run)[0]
    return {
        "searchFilter": f"params.suite_run = '{run.name}'",
        "orderByKey": _metric(rank),
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": ["attributes.`Run Name`", *columns],
        "columnWidths": {"attributes.`Run Name`": 230, **_columns(run)},
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": None,
        "useGroupedValuesInCharts": False,
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": [
            {
                **_section(_COST, "Cost and rank: lower is better in all of these"),
                "columns": 2,
                "cardHeight": 420,
            },
            _section(_SCORES, "score"),
            {**_section(_REST, "Model metrics"), "display": False},
        ],
        "compareRunCharts": _charts(run),
    }


def _columns(run: SuiteRun) -> dict[str, int]:
    """Columns in their order, with widths in pixels that let all of a laptop's screen count."""
    texts = {"macs": 80, "token_scheme": 115, "tokens": 70, "size": 70, "version": 75}
    texts |= {"tier": 80, "data_origin": 95}
    if run.results.run.study:
        texts["recipe"] = 140
    if run.against:
        texts[BEATS] = 130
    ranks = {_metric(key): 110 for key in rank_keys(run)}
    scores = {_metric(score_key(task)): 130 for task in run.results.run.tasks[:CHARTED_TASKS]}
    return {**ranks, **{f"params.`{name}`": width for name, width in texts.items()}, **scores}


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
    charts = [_scatter("macs_log10", key) for key in ranks]
    charts += [_bar(key, _COST) for key in (*ranks, "macs", "tokens")]
    charts += [_bar(score_key(task), _SCORES) for task in run.results.run.tasks[:CHARTED_TASKS]]
    # The page adds a chart for each metric that has none, unless that one was removed.
    plain = ["macs_log10", "macs_attention", "parameters", "published_gflops"]
    if run.against:
        plain += [BEATS, *(margin_key(task) for task in run.results.run.tasks)]
    plain += [f"{key}_{end}" for key in ranks for end in ("low", "high")]
    return [*charts, *({**_bar(key, _REST), "deleted": True} for key in plain)]


def _card(kind: str, section: str, uuid: str) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "type": kind,
        "metricSectionId": section,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }


def _bar(key: str, section: str) -> dict[str, Any]:
    return {**_card("BAR", section, f"tokenrank-bar-{key}"), "metricKey": key}


def _scatter(x: str, y: str) -> dict[str, Any]:
    return {
        **_card("SCATTER", _COST, f"tokenrank-scatter-{y}"),
        "xaxis": {"key": x, "type": "METRIC"},
        "yaxis": {"key": y, "type": "METRIC"},
    }
