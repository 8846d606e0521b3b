"""Why a tracking server did not do what it was asked, in words that a user can act on."""

from __future__ import annotations

import contextlib
import importlib
import re
import textwrap
from urllib.parse import urlsplit

LOGIN = (
    "it demands a login (set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
    "MLFLOW_TRACKING_TOKEN)"
)
FORBIDDEN = (
    "it refuses access (error 403; the account may lack the permission, or the server does not "
    "allow this host name)"
)


def failures() -> tuple[type[Exception], ...]:
    """What MLflow, its database and its store of artifacts raise; imports MLflow (seconds)."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    found: list[type[Exception]] = [MlflowException, SQLAlchemyError, OSError, ImportError]
    # Where artifacts go to an S3 store directly; its client's errors share no other ancestor.
    for module, name in (
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("boto3.exceptions", "Boto3Error"),
    ):
        with contextlib.suppress(ImportError):
            found.append(getattr(importlib.import_module(module), name))
    return tuple(found)


def reason(error: BaseException) -> str:
    """One clause without a final full stop, e.g. "it demands a login (set ...)"."""
    text = str(error)
    status = getattr(error, "get_http_status_code", lambda: 0)()
    code = getattr(error, "error_code", "")
    if code in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED") or "error code 401" in text:
        return LOGIN
    if status == 403 or "error code 403" in text:
        return FORBIDDEN
    if "timeout exception" in text or "Read timed out" in text:
        return "it does not answer in time"
    if answered := re.search(r"too many (\d{3}) error responses|error code (5\d\d)", text):
        return f"it answers with error {answered[1] or answered[2]}"
    if "Connection refused" in text or "NewConnectionError" in text:
        return "it cannot be reached"
    first_line = (text.splitlines() or [type(error).__name__])[0]
    return textwrap.shorten(first_line, 200, placeholder="...").rstrip(".")


def shown_uri(uri: str) -> str:
    """A tracking URI without the user, password and query that it may hold."""
    parts = urlsplit(uri)
    if "@" not in uri and not parts.query:
        return uri
    # A password may itself hold "@" or "/": the host stands behind the last "@".
    return f"{parts.scheme}://{uri.partition('://')[2].rpartition('@')[2].partition('?')[0]}"
