"""`document_checks`: the findings of the audit as asset checks."""

import re
from pathlib import Path

import dagster as dg

from docid import Document, DraftTask, write_tasks
from docid.core.findings import LEVELS
from docid.dagster import DocsStoreResource, document_checks, document_partitions, replay_job
from docid.integrations.dagster import checks
from docid.integrations.dagster.checks import find_faults
from tests.dagster.helpers import DAGSTER_WARNINGS, Pipeline, failure, list_failed_checks

pytestmark = DAGSTER_WARNINGS


def test_checks_find_faults_of_a_document(pipeline: Pipeline) -> None:
    key = pipeline.key("draft")
    check = dg.AssetSelection.checks(pipeline.checks["draft"])
    assert list_failed_checks(pipeline.run(check, key)) == {"record": ["missing-document"]}
    pipeline.make("draft")
    path = pipeline.root / "docs" / "draft" / key
    (path / "notes.txt").write_text("x")
    assert list_failed_checks(pipeline.run(check, key)) == {"parts": ["unlisted-file"]}
    (path / "notes.txt").unlink()
    (path / "raw.txt").write_text((path / "raw.txt").read_text().swapcase())
    assert list_failed_checks(pipeline.run(check, key)) == {"parts": ["hash-mismatch"]}
    (path / "metadata.json").write_text("{")
    assert list_failed_checks(pipeline.run(check, key)) == {"record": ["unreadable-record"]}
    message, facts = failure(pipeline.make("draft"))
    assert "cannot be used" in message
    assert "docid repair" in facts["what to do"]


def test_range_of_partitions_is_checked_one_by_one(pipeline: Pipeline) -> None:
    keys = [pipeline.key("draft", number) for number in range(3)]
    for number in range(3):
        pipeline.make("draft", number)
    (pipeline.root / "docs" / "draft" / keys[1] / "notes.txt").write_text("x")
    table = pipeline.root / "tables" / "draft_generation_tasks.csv"
    table.write_text("".join(line for line in table.read_text().splitlines(keepends=True) if keys[2] not in line))
    tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[2]}
    result = pipeline.run(dg.AssetSelection.checks(pipeline.checks["draft"]), **tags)
    assert result.success
    found = {
        (each.check_name, each.partition): each.metadata["codes"].value
        for each in result.get_asset_check_evaluations()
        if not each.passed
    }
    # A deleted row does not stop the checks of the other rows.
    assert found == {
        ("parts", keys[1]): ["unlisted-file"],
        ("parts", None): ["unlisted-file"],
        ("lineage", keys[2]): ["missing-row"],
        ("lineage", None): ["missing-row"],
    }
    parts_check = dg.AssetCheckKey(dg.AssetKey("draft"), "parts")
    known = pipeline.instance.event_log_storage.get_asset_check_partition_info([parts_check])
    assert {each.partition_key: each.latest_execution_status.value for each in known if each.partition_key} == {
        keys[0]: "SUCCEEDED",
        keys[1]: "FAILED",
        keys[2]: "SUCCEEDED",
    }


def test_codes_are_audit_codes_and_three_documented_ones() -> None:
    root = Path(__file__).parent.parent.parent
    page = (root / "docs" / "dagster.md").read_text(encoding="utf-8")
    codes = set(re.findall(r'"([a-z]+-[a-z-]+)"', Path(checks.__file__).read_text(encoding="utf-8")))
    own = {"missing-document", "missing-row", "parsed-missing"}
    assert codes - LEVELS.keys() == own == checks._OWN_LEVELS.keys()
    assert checks._CHECK_OF_CODE.keys() <= codes
    assert set(checks._CHECK_OF_CODE.values()) | {"record"} == checks._CHECKS.keys()
    for each in own:
        assert f"`{each}`" in str(document_checks.__doc__)
        assert f"| `{each}` |" in page


def test_check_names_url_of_object(tmp_path: Path) -> None:
    write_tasks(tmp_path / "draft_tasks.csv", [DraftTask(task_id="t", doc_id="there1")])
    docs = DocsStoreResource(root="memory://", tables=str(tmp_path), durability="none")
    for doc_id in ("there1", "other1"):
        docs.store().write(Document(stage="draft", doc_id=doc_id, task_id="other", raw_text="x"))

    def messages(doc_id: str) -> list[str]:
        return [str(each) for each in find_faults(docs, "draft", doc_id, {}, parsed=True, verify=False)]

    assert messages("gone1") == [
        "missing-document: draft/gone1 at memory://draft/gone1: not in the store; materialise its partition"
    ]
    lineage, parsed = messages("there1")
    assert lineage == (
        "lineage-conflict: draft/there1 (task_id='other') at memory://draft/there1: the document has "
        "task_id='other', parent_doc_id=None; the row has task_id='t', parent_doc_id=None; correct the row, or reserve "
        "another id"
    )
    assert parsed == (
        "parsed-missing: draft/there1 (task_id='other') at memory://draft/there1: the reply was not parsed; fix the "
        "parser and materialise it again, which parses the stored reply"
    )
    row, _ = messages("other1")
    assert row == (
        "missing-row: draft/other1 (task_id='other') at memory://draft/other1: "
        f"{tmp_path / 'draft_tasks.csv'}: no row with doc id other1; materialise the table again, which updates "
        "its partitions"
    )


def test_two_assets_of_a_stage_have_their_own_checks() -> None:
    one, two = (
        dg.AssetsDefinition.from_op(
            dg.op(name=name)(lambda: None), partitions_def=document_partitions("draft"), key_prefix=[name]
        )
        for name in ("one", "two")
    )
    checks = [document_checks("draft", one), document_checks("draft", two, resource="others")]
    resources = {"docs": DocsStoreResource(root="one"), "others": DocsStoreResource(root="two")}
    job = replay_job(one.key, name="again")
    dg.Definitions(assets=[one, two], asset_checks=checks, jobs=[job], resources=resources).resolve_job_def("again")
