# pyright: strict
# ruff: noqa: E402, I001, T201
"""The Python code of README.md, as users copy it into a file; mypy and pyright check it, and it is not run."""

from docid import Document, DocsStore, DraftTask, reserve_tasks


def draft(row: DraftTask) -> str:
    return f"A model's reply to {row.task_id}"  # call your model here


store = DocsStore("docs")
tasks = [DraftTask(task_id="tides__large-1"), DraftTask(task_id="moss__large-1")]
for row in reserve_tasks(tasks, DraftTask):  # derives each row's doc id from the row alone
    done = store.ensure(row, draft)  # calls draft(row) only if the document does not exist
    print(row.doc_id, done.outcome, done.path)

import attrs
from docid import Stages, TaskRow


class OutlineTask(TaskRow):
    stage = "outline"


@attrs.frozen(kw_only=True)  # needed for a row with columns of its own
class ChapterTask(TaskRow):
    stage, parent_stage = "chapter", "outline"
    words: int = 1000


book = DocsStore("book", stages=Stages.chain("outline", "chapter", "review"))
(outline,) = reserve_tasks([OutlineTask(task_id="whales")], OutlineTask)
book.write(Document.from_task(outline, raw_text="1. The sea. 2. The whale."))
(chapter,) = reserve_tasks(
    [ChapterTask(task_id="whales__1", extra={"outline_task_id": "whales"})], ChapterTask, parents=[outline]
)
book.write(Document.from_task(chapter, raw_text="Call me anything."))
assert book.open("chapter", chapter.doc_id).parent_doc_id == outline.doc_id
