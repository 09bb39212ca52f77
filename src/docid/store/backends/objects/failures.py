"""Why a request to an object store failed: the service's answer in docid's words; no I/O."""

from __future__ import annotations

import re
from typing import NamedTuple

from docid.errors import StoreUnavailable

_NO_CREDENTIALS = re.compile(r"169\.254\.16|169\.254\.17|metadata\.google\.internal|/latest/api/token|CredentialsError")
_NO_BUCKET = re.compile(r"<Code>(NoSuchBucket|ContainerNotFound|ContainerBeingDeleted)</Code>|bucket does not exist")
_STATUS = re.compile(r"status code: ([345]\d\d)")
_CODE = re.compile(r"<Code>([\w.]{1,60})</Code>")
_RETRIES = re.compile(r", after (\d+) retries")
_TIMEOUT = re.compile(r"kind: Timeout|TimedOut|timed out")
UNSUPPORTED = "the service or an option does not allow conditional writes"
_SLOW_LINE = "set a longer client_options={'timeout': …}, or send fewer requests at once (in_flight)"


class _Cause(NamedTuple):
    """A kind of failure. `pattern` is searched in the kind of obstore's error, the status and the service's code."""

    pattern: str
    problem: str
    remedy: str
    refused: bool = True


# The first match counts.
_CAUSES = [
    _Cause("NoBucket", "the bucket or container does not exist", "create it, or correct the URL"),
    _Cause(
        "NoCredentials",
        "no credentials were found",
        "set them in the environment, or pass them as options",
        refused=False,
    ),
    _Cause(
        r"Redirect|\b30\d\b|AuthorizationHeaderMalformed|IllegalLocationConstraint",
        "the bucket is in another region or at another endpoint",
        "set region or endpoint, in the options or the environment (AWS_REGION, AWS_ENDPOINT_URL)",
    ),
    _Cause(
        "RequestTimeTooSkewed", "the clock of this machine is wrong", "set the clock: the service allows a few minutes"
    ),
    _Cause(
        "InvalidObjectState|BlobArchived|BlobBeingRehydrated",
        "the object is in an archive",
        "restore it at the service, and keep lifecycle rules away from this store",
    ),
    _Cause(
        "ExpiredToken|TokenRefreshRequired|InvalidToken",
        "the credentials have expired",
        "get new ones, and repeat the call",
    ),
    _Cause(
        "RequestTimeout|RequestBodyIncomplete|IncompleteBody",
        "the service did not get the data in time",
        _SLOW_LINE,
        refused=False,
    ),
    _Cause(
        r"\b(408|429|500|502|503|504)\b",
        "the service is busy or failing",
        "try again later, or send fewer requests at once (in_flight); finished writes are stored",
        refused=False,
    ),
    _Cause(
        r"\b507\b|Quota|StorageFull|InsufficientStorage",
        "the quota is used up, or the disk of the service is full",
        "free space, or raise the quota; finished writes are stored",
    ),
    _Cause(
        r"\b413\b|EntityTooLarge|BodyTooLarge|MaxMessageLengthExceeded",
        "the document is too large for one request",
        "split its texts; S3 takes 5 GB at once",
    ),
    _Cause(
        r"\b501\b|NotImplemented",
        UNSUPPORTED,
        "docid needs them: upgrade the service or use another one, and do not set conditional_put='disabled'",
    ),
    _Cause(
        r"\b40[13]\b|PermissionDenied|Unauthenticated",
        "the service refused the credentials",
        "check the credentials, the region, and the permissions on the bucket",
    ),
    _Cause("NoTime", "no complete response in time", _SLOW_LINE + "; finished writes are stored", refused=False),
    _Cause(
        "NoStatus",
        "no complete response",
        "check the network and the endpoint, and try again; finished writes are stored",
        refused=False,
    ),
    _Cause("", "the service refused the request", "see the service's documentation of this code"),
]


def is_missing_bucket(error: Exception) -> bool:
    """Return whether the bucket is missing, and not only an object."""
    return _NO_BUCKET.search(str(error)) is not None


def is_late_upload(error: Exception) -> bool:
    """Return whether a put ended because its data came too slowly. obstore does not retry it: its status is 400."""
    return "<Code>RequestTimeout</Code>" in str(error)


def explain_failure(error: Exception, action: str, location: str, tries: int = 1) -> StoreUnavailable:
    """Return docid's error for a failed request, with the service's status and code but not its text.

    Args:
        error: the error that obstore raised; its text may show secrets.
        action, location: what docid tried, and where.
        tries: how often docid itself sent the request; obstore counts its own retries.
    """
    text, kind = str(error), type(error).__name__
    answer = " ".join(found[1] for found in (_STATUS.search(text), _CODE.search(text)) if found)
    if is_missing_bucket(error):
        facts = "NoBucket"
    elif "Received redirect without LOCATION" in text:
        facts = "Redirect"
    elif answer or kind in {"PermissionDeniedError", "UnauthenticatedError", "NotImplementedError"}:
        facts = f"{kind} {answer}"
    elif _NO_CREDENTIALS.search(text):
        facts = "NoCredentials"
    else:
        facts = "NoTime" if _TIMEOUT.search(text) else "NoStatus"
    cause = next(each for each in _CAUSES if re.search(each.pattern, facts))
    shown = answer or (kind if facts in {"NoTime", "NoStatus"} else "")
    retries = tries - 1 + sum(int(found) for found in _RETRIES.findall(text)[:1])
    retried = f", after {retries} {'retry' if retries == 1 else 'retries'}" if retries else ""
    problem = f"{cause.problem}{f' ({shown})' if shown else ''}{retried}"
    return StoreUnavailable(action, location, problem, cause.remedy, refused=cause.refused)
