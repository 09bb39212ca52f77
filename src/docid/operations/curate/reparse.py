"""`reparse`: parse the stored raw texts of documents that lack a parsed text."""

from collections.abc import Callable, Iterator

from docid._files import raise_time_limit
from docid.core.findings import Change
from docid.errors import ContentConflict, DocidError, describe_error
from docid.store.docs_store import DocsStore, check_store


def reparse(
    store: DocsStore, stage: str, parse: Callable[[str], str | None], *, apply: bool = False
) -> Iterator[Change]:
    """Parse the raw texts of documents without parsed text, and add the parsed text; plan it, or do it with `apply`.

    For documents whose parser has failed. No model is called. Parsed texts that exist never change.

    Args:
        store: the store.
        stage: the stage of the documents.
        parse: takes a raw text and returns the parsed text, or None. If it raises, the document is left alone.
        apply: add the parsed texts; otherwise only plan.

    Returns:
        A stream with one `Change` per document, sorted by doc id: `parse`, `current` (it has a parsed text), or `leave`
        with the reason.

    Raises:
        InvalidName: the store lacks the stage.
        OSError: the stage cannot be listed.

    Example:
        >>> from docid import DocsStore, Document
        >>> store = DocsStore("memory://")
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="t-1", raw_text="SCORE: 7"))
        >>> [change.outcome for change in reparse(store, "draft", lambda text: text[-1], apply=True)]
        ['parse']
        >>> store.open("draft", "d1").parsed_text
        '7'
    """
    stage = check_store(store).stages.check(stage)

    def reparse_one(doc_id: str) -> Change:
        return _reparse(store, stage, doc_id, parse, apply=apply)

    return store.backend.each(reparse_one, sorted(set(store.ids(stage))))


def _reparse(store: DocsStore, stage: str, doc_id: str, parse: Callable[[str], str | None], *, apply: bool) -> Change:
    change = Change("leave", stage, doc_id, None, store.location(stage, doc_id))
    try:
        document = store.open(stage, doc_id)
        change = change._replace(task_id=document.task_id)
        if "parsed" in document.sizes:
            return change._replace(outcome="current")
        if document.legacy:
            return change._replace(message="an older system wrote its record; run 'docid migrate' first")
        parsed, problem = _try_parse(parse, document.raw_text)
        if parsed is None:
            return change._replace(message=problem)
        if apply:
            store.add_part(stage, doc_id, "parsed", parsed)
        return change._replace(outcome="parse", done=apply)
    except ContentConflict:  # another process has just parsed it
        return change._replace(outcome="current")
    except (DocidError, OSError, TypeError) as error:
        raise_time_limit(error)
        return change._replace(message=str(error), error=error)


def _try_parse(parse: Callable[[str], str | None], raw_text: str) -> tuple[str | None, str]:
    """Return the parsed text, or None and the reason."""
    try:
        return parse(raw_text), "the parser returned None"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the parser is the caller's
        return None, f"the parser raised {describe_error(error)}"
