"""What is tried again at an object store, for how long, and what a failure means that stays. Without obstore."""

from __future__ import annotations

import re
from datetime import timedelta

from docid.errors import StoreUnavailable

RETRIES = {"max_retries": 8, "retry_timeout": timedelta(seconds=90)}
"""obstore's `retry_config`: it tries a request again where the server is busy or the line is cut, for 90 s in all."""

LISTINGS = 3
"""How often docid goes on with a listing whose answer was cut off: that obstore does not try again."""

_NO_CREDENTIALS = re.compile(r"169\.254\.16|169\.254\.17|metadata\.google\.internal|CredentialsError")
_BUCKET = re.compile(r"<Code>(NoSuchBucket|ContainerNotFound|ContainerBeingDeleted)</Code>|bucket does not exist")


def is_bucket_missing(text: str) -> bool:
    """Return whether a service says that there is no such bucket or container."""
    return _BUCKET.search(text) is not None


def explain_failure(error: Exception, action: str, location: str) -> StoreUnavailable:
    """Return what the failure of a request means. Of what the service says only its status and code are shown.

    Args:
        error: what obstore raised, after its tries.
        action: what the request was to do: read, write, list, delete.
        location: where.
    """
    text = str(error)
    code, status = re.search(r"<Code>(\w{1,60})</Code>", text), re.search(r"status code: ([45]\d\d)", text)
    said = " ".join(found[1] for found in (status, code) if found)
    told = f" ({said})" if said else ""
    number = int(status[1]) if status else 0
    if is_bucket_missing(text):
        problem, remedy = f"the bucket or container is not there{told}", "create it, or correct the URL"
    elif number == 0 and _NO_CREDENTIALS.search(text):
        problem, remedy = "no credentials were found", "set them in the environment, or give them as options"
    elif number in {401, 403} or type(error).__name__ in {"PermissionDeniedError", "UnauthenticatedError"}:
        problem = f"the service refused the credentials{told}"
        remedy = "see to the credentials, the region, and the rights on the bucket"
    elif number in {408, 429, 500, 502, 503, 504}:
        problem = f"the service is busy or failing{told}, after several tries"
        remedy = "try again later, or with fewer requests at once (in_flight); what was written is there"
    elif number == 0:
        problem = f"no whole answer came ({type(error).__name__}), after several tries"
        remedy = "look at the network and the endpoint, and try again; what was written is there"
    else:
        problem, remedy = f"the service refused it{told}", "see what the service says to that code"
    # Of the client's faults by HTTP these two are the service's: too slow, too many.
    refused = 400 <= number < 500 and number not in {408, 429}  # noqa: PLR2004 - HTTP's
    return StoreUnavailable(action, location, problem, remedy, refused=refused)
