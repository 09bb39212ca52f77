"""`docid register`: the tables that it derives from a curated one, and their partitions."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from docid import DocsStore, Document, DraftTask, EvaluationTask, read_tasks
from docid.cli import main
from docid.tables.rows import row_type_of
from tests.dagster.helpers import DAGSTER_WARNINGS

pytestmark = DAGSTER_WARNINGS


CURATED = (
    "essay_task_id,parent_doc_id,draft_task_id,combo_id,draft_template,essay_template,doc_id\n"
    "t-1__x,d1,t-1,c-1,plain,x,e1\n"
    "t-1__y,d1,t-1,c-1,plain,y,e2\n"
    "t-2__x,d2,t-2,c-2,plain,x,e3\n"
)


@pytest.fixture
def curated(tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOCID_STORE", raising=False)
    path = tmp_path / "best" / "essay_generation_tasks.csv"
    path.parent.mkdir()
    path.write_text(CURATED)
    return path


def register(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        code = main(["register", *map(str, arguments)])
    except SystemExit as error:
        code = int(error.code or 0)
    out, err = capfd.readouterr()
    return code, out, err


def test_register_writes_tables_and_partitions(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = (curated, "--output", "out", "--templates", "novelty,kind", "--models", "m-1")
    code, out, _ = register(capfd, *arguments, "--dry-run")
    assert (code, Path("out").exists(), instance.get_dynamic_partitions("draft_documents")) == (0, False, [])
    assert out == (
        "out/draft_generation_tasks.csv: 2 rows, would be written; partitions of draft: 2 would be added, 0 would be "
        "removed, 0 kept\n"
        "out/essay_generation_tasks.csv: 3 rows, would be written; partitions of essay: 3 would be added, 0 would be "
        "removed, 0 kept\n"
        "out/evaluation_tasks.csv: 6 rows, would be written; partitions of evaluation: 6 would be added, 0 would be "
        "removed, 0 kept\n"
    )
    code, out, _ = register(capfd, *arguments)
    assert code == 0
    assert "out/evaluation_tasks.csv: 6 rows, written; partitions of evaluation: 6 added, 0 removed, 0 kept\n" in out
    one, two = read_tasks("out/draft_generation_tasks.csv", DraftTask)
    assert (one.task_id, one.doc_id, one.combo_id, one.draft_template) == ("t-1", "d1", "c-1", "plain")
    assert two.doc_id == "d2"
    evaluations = list(read_tasks("out/evaluation_tasks.csv", EvaluationTask))
    assert evaluations[1].task_id == "e1__kind__m-1"
    assert (evaluations[1].essay_task_id, evaluations[1].combo_id) == ("t-1__x", "c-1")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    code, out, _ = register(capfd, *arguments)
    assert "6 rows, written; partitions of evaluation: 0 added, 0 removed, 6 kept\n" in out
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before

    curated.write_text("".join(CURATED.splitlines(keepends=True)[:2]).replace("e1", "e9"))
    code, out, _ = register(capfd, *arguments, "--add-only", "--salt", "random")
    assert "out/essay_generation_tasks.csv: 4 rows, written; partitions of essay: 1 added, 0 removed, 3 kept\n" in out
    code, out, _ = register(capfd, curated, "--output", "out")
    assert "partitions of essay: 0 added, 3 removed, 1 kept\n  3 rows of the earlier table removed (--add-" in out
    assert "no evaluation rows; --templates and --models add them\n" in out


def test_register_makes_replicates_of_evaluations(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = (curated, "--output", "out", "--templates", "kind", "--models", "m-1")
    assert register(capfd, *arguments)[0] == 0
    once = list(read_tasks("out/evaluation_tasks.csv", EvaluationTask))
    code, out, _ = register(capfd, *arguments, "--replicates", "3")
    assert code == 0
    assert "9 rows, written; partitions of evaluation: 6 added, 0 removed, 3 kept" in out
    rows = list(read_tasks("out/evaluation_tasks.csv", EvaluationTask))
    assert [row.doc_salt for row in rows] == [None, "1.1.2", "1.1.3"] * 3
    assert rows[::3] == once
    assert len(set(instance.get_dynamic_partitions("evaluation_documents"))) == 9


def test_register_keeps_values_of_existing_tables(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    del instance
    out = Path("out")
    out.mkdir()
    (out / "draft_generation_tasks.csv").write_text(
        "note,draft_task_id,combo_id,generation_model,source_doc_id,doc_run_id,doc_salt,doc_id\n"
        "first,t-1,c-0,large-1,d0,run-1,s-1,d1\n"
        "of another,t-9,c-9,large-9,,,s-9,d2\n"
    )
    code, printed, _ = register(capfd, curated, "--output", out)
    assert code == 0
    assert "gone" not in printed
    one, two = read_tasks(out / "draft_generation_tasks.csv", DraftTask)
    assert (one.extra, one.combo_id, one.generation_model) == ({"note": "first"}, "c-1", "large-1")
    assert (one.doc_run_id, one.doc_salt, one.source_doc_id) == ("run-1", "s-1", None)
    # The old row is of another task, so register keeps none of its values.
    assert (two.task_id, two.extra, two.generation_model, two.doc_salt) == ("t-2", {"note": ""}, "", None)
    assert one.columns[:3] == ("note", "draft_task_id", "combo_id")

    before = (out / "draft_generation_tasks.csv").read_bytes()
    assert register(capfd, curated, "--output", out)[0] == 0
    assert (out / "draft_generation_tasks.csv").read_bytes() == before


def test_register_takes_templates_and_models_from_tables(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("templates.csv").write_text("template_id,active,parser\nkind,true,in_last_line\nold,false,complex\n")
    Path("models.csv").write_text("id,model,for_evaluation\nm-1,maker/m-1,true\nm-2,maker/m-2,false\n")
    store = DocsStore("docs", durability="none")
    store.write(Document(stage="draft", doc_id="s1", task_id="s", raw_text="x", prompt_text="p"))
    store.write(Document(stage="draft", doc_id="s2", task_id="s2", raw_text="x"))
    arguments = (curated, "--templates", "templates.csv", "--models", "models.csv", "--store", "docs")
    code, _, _ = register(capfd, *arguments, "--source", "draft/s1")
    assert code == 0
    assert curated.with_name("essay_generation_tasks.csv").read_text().splitlines()[1].startswith("t-1__x,d1,")
    rows = list(read_tasks(curated.with_name("evaluation_tasks.csv"), EvaluationTask))
    assert [(row.evaluation_model_name, row.parser) for row in rows] == [("maker/m-1", "in_last_line")] * 3
    assert {row.source_doc_id for row in read_tasks(curated.with_name("draft_generation_tasks.csv"), DraftTask)} == {
        "s1"
    }
    # Without a store, docid cannot check the document.
    code, _, _ = register(capfd, *arguments[:-2], "--source", "draft/s9", "--dry-run")
    assert code == 0
    code, _, err = register(capfd, *arguments, "--source", "draft/s2")
    assert (code, err) == (
        2,
        "docid: --source draft/s2 (task_id='s2'): the document has no stored prompt to send again\n",
    )


def test_register_materialises_named_assets(
    curated: Path, module: str, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = (curated, "--materialize", "combinations", "draft_tasks")
    code, out, _ = register(capfd, *arguments, "--module", module, "--dry-run")
    assert (code, "would be materialised: combinations, draft_tasks\n" in out) == (0, True)
    Path("pyproject.toml").write_text(f'[tool.dagster]\nmodule_name = "{module}"\n')
    code, out, _ = register(capfd, *arguments)
    assert (code, "materialised: combinations, draft_tasks\n" in out) == (0, True)
    assert Path("tables/draft_tasks.csv").exists()
    code, _, err = register(capfd, curated, "--materialize", "broken")
    assert code == 2
    assert "broken: the run " in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ["--dagster-home", ""], "no Dagster instance given; expected --dagster-home DIR", id="no instance"
        ),
        pytest.param(["--dagster-home", "none"], "--dagster-home none: no such directory", id="no such instance"),
        pytest.param(["--templates", "a"], "--templates and --models: expected both", id="templates alone"),
        pytest.param(["--templates", ",", "--models", "m"], ",: expected ids separated by commas", id="no template"),
        pytest.param(["--source", "d1"], "--source d1: expected STAGE/ID", id="source without stage"),
        pytest.param(["--source", "draft/D1"], "not a doc id", id="invalid source"),
        pytest.param(["--source", "draft/gone", "--store", "docs"], "no store at docs", id="no such store"),
        pytest.param(["--source", "draft/gone", "--store", "A STORE"], "draft/gone is not in", id="missing source"),
        pytest.param(["--materialize", "x"], "no definitions found; expected --module MODULE", id="no module"),
        pytest.param(
            ["--materialize", "x", "--module", "no_such_module"], "--module no_such_module: ", id="no such module"
        ),
        pytest.param(
            ["--output", "best/essay_generation_tasks.csv"], "a file; expected a directory", id="output is a file"
        ),
        pytest.param(
            ["--materialize", "x", "--module", "docid"],
            "found 0 Definitions objects; expected one",
            id="no definitions",
        ),
        pytest.param(["--replicates", "2"], "expected --templates and --models with it", id="replicates alone"),
        pytest.param(
            ["--replicates", "2", "--templates", "a", "--models", "m", "--salt", "s"],
            "--replicates gives each row a salt of its own; expected it without --salt",
            id="replicates with a salt",
        ),
    ],
)
def test_register_refuses_wrong_arguments(
    curated: Path,
    instance: dg.DagsterInstance,
    capfd: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
    arguments: list[str],
    message: str,
) -> None:
    store = tmp_path_factory.mktemp("docs")
    (store / "draft").mkdir()
    arguments = [str(store) if each == "A STORE" else each for each in arguments]
    code, _, err = register(capfd, curated, *arguments, *([] if "--materialize" not in arguments else ["--dry-run"]))
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in curated.parent.iterdir()) == [curated.name]


def test_register_checks_before_it_writes(
    curated: Path, module: str, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> str:
        code, _, err = register(capfd, curated, *arguments)
        assert code == 2
        assert len(err.splitlines()) == 1
        assert sorted(path.name for path in curated.parent.iterdir()) == [curated.name]
        assert instance.get_dynamic_partitions("essay_documents") == []
        return err

    for options in ([], ["--dry-run"]):
        assert "no_such_asset" in refuse("--materialize", "no_such_asset", "--module", module, *options)
    Path("raising.py").write_text("raise RuntimeError('at import')")
    assert "RuntimeError: at import" in refuse("--materialize", "x", "--module", "raising")
    curated.write_text(CURATED.replace(",e2\n", ",e1\n").replace("t-2__x,d2,e2", "t-2__x,d2,e1"))
    assert "same doc id as row 2" in refuse()
    curated.write_text(CURATED.splitlines(keepends=True)[0])
    assert "no rows to register" in refuse()
    curated.write_text(CURATED)
    Path("broken").mkdir()
    Path("broken/dagster.yaml").write_text("]")
    assert "cannot open the Dagster instance" in refuse("--dagster-home", "broken")
    Path("empty").mkdir()
    code, out, _ = register(capfd, curated, "--dagster-home", "empty", "--dry-run")
    assert (code, "3 would be added" in out, list(Path("empty").iterdir())) == (0, True, [])
    for name in ("draft_tasks.csv", "draft_generation_tasks.csv"):
        (curated.parent / name).write_text("draft_task_id,doc_id\n")
    code, _, err = register(capfd, curated)
    assert (code, "are both tables of stage draft; expected one" in err) == (2, True)


def test_register_refuses_to_keep_a_row_of_another_lineage(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    Path("out/essay_tasks.csv").write_text("essay_task_id,parent_doc_id,doc_id\nt-9__x,d9,e1\n")
    code, _, err = register(capfd, curated, "--output", "out", "--add-only")
    assert code == 2
    assert "its row of e1 has task 't-9__x', parent d9; the new row has task 't-1__x', parent d1" in err
    assert [path.name for path in Path("out").iterdir()] == ["essay_tasks.csv"]


def test_register_finds_aliased_and_lazy_definitions(
    curated: Path, module: str, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("two_names.py").write_text(f"from {module} import defs\nother = defs\n")
    Path("lazy.py").write_text(
        f"import dagster as dg\nimport {module} as it\n@dg.definitions\ndef defs():\n    return it.defs\n"
    )
    for name in ("two_names", "lazy"):
        code, out, _ = register(capfd, curated, "--materialize", "combinations", "--module", name)
        assert (code, "materialised: combinations\n" in out) == (0, True)


def test_register_names_rows_without_ids_and_writes_nothing(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    curated.write_text(CURATED.replace(",e2\n", ",\n").replace("t-2__x,d2", "t-2__x,"))
    code, _, err = register(capfd, curated, "--templates", "a", "--models", "b")
    assert code == 2
    assert "row 3, column doc_id: missing" in err
    assert "row 4, column parent_doc_id: missing" in err
    assert sorted(path.name for path in curated.parent.iterdir()) == [curated.name]
    assert instance.get_dynamic_partitions("essay_documents") == []
    curated.write_text(CURATED.replace("parent_doc_id", "x"))
    code, _, err = register(capfd, curated)
    assert (code, "column parent_doc_id: missing from the header" in err) == (2, True)


def test_register_without_dagster_says_what_to_install(
    curated: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dagster", None)
    monkeypatch.delitem(sys.modules, "docid.dagster", raising=False)
    code, _, err = register(capfd, curated)
    assert (code, err) == (2, "docid: register needs Dagster: pip install 'docid-store[dagster]'\n")


def test_module_without_dagster_says_what_to_install() -> None:
    code = "import sys; sys.modules['dagster'] = None; import docid.dagster"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: docid.dagster needs Dagster: pip install 'docid-store[dagster]'" in done.stderr


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("template_id,active\nkind,true\nnovelty,vrai\n", "row 3, column active: 'vrai'; expected true or false"),
        ("template_id, ACTIVE\nkind,no\n", "templates.csv: no row is marked active"),
    ],
)
def test_register_writes_nothing_for_a_doubtful_list(
    table: str, message: str, curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("templates.csv").write_text(table)
    code, _, err = register(capfd, curated, "--output", "out", "--templates", "templates.csv", "--models", "m-1")
    assert (code, message in err, Path("out").exists()) == (2, True, False)
    assert instance.get_dynamic_partitions("essay_documents") == []


def test_register_refuses_a_source_that_it_would_ignore(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    del instance
    code, _, err = register(capfd, curated, "--source", "evaluation/v1")
    assert (code, err) == (2, "docid: --source evaluation/v1: the command writes no table of stage evaluation\n")


def test_register_does_not_replace_a_list_that_it_reads(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    del instance
    Path("out").mkdir()
    text = "evaluation_task_id,parent_doc_id,doc_id,template_id\nv,e1,v1,kind\n"
    Path("out/evaluation_tasks.csv").write_text(text)
    lists = ("--templates", "out/evaluation_tasks.csv", "--models", "m-1")
    code, _, err = register(capfd, curated, "--output", "out", *lists)
    assert (code, "out/evaluation_tasks.csv: the command reads this file and would replace it" in err) == (2, True)
    assert Path("out/evaluation_tasks.csv").read_text() == text


def test_register_keeps_line_ends_and_bom(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    del instance
    curated.write_bytes(b"\xef\xbb\xbf" + CURATED.replace("\n", "\r\n").encode())
    before = curated.read_bytes()
    assert register(capfd, curated)[0] == 0
    assert curated.read_bytes() == before


def test_evaluations_need_one_stage(
    curated: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    del instance
    stages = ("--stages", "draft,essay,evaluation,review:essay")
    code, _, err = register(capfd, curated, *stages, "--templates", "kind", "--models", "m-1")
    assert (code, "stages evaluation, review have the parent stage essay; expected one stage" in err) == (2, True)


def test_register_reads_tables_with_semicolons(curated: Path, capfd: pytest.CaptureFixture[str]) -> None:
    curated.write_text(CURATED.replace(",", ";"))
    drafts = curated.with_name("draft_generation_tasks.csv")
    drafts.write_text("draft_task_id;note;doc_id\nt-1;mine;d1\n")
    Path("templates.csv").write_text("template_id;active;parser\nkind;true;in_last_line\nold;false;complex\n")
    arguments = ("--templates", "templates.csv", "--models", "m-1", "--delimiter", ";")
    code, _, err = register(capfd, curated, *arguments)
    assert (code, err) == (0, "")
    assert drafts.read_text().splitlines()[0].startswith("draft_task_id;note;")
    assert "t-1;mine;" in drafts.read_text()
    assert len(list(read_tasks(curated.with_name("evaluation_tasks.csv"), EvaluationTask))) == 3
    assert register(capfd, curated, *arguments[:-2])[0] == 2


def test_register_fills_the_names_of_models(curated: Path, capfd: pytest.CaptureFixture[str]) -> None:
    header, *lines = CURATED.splitlines()
    curated.write_text("\n".join([f"{header},generation_model", *(f"{line},gen" for line in lines)]) + "\n")
    models = "id,model,for_evaluation\ngen,provider/gen-1,false\njudge,provider/judge-2,true\nlocal,,false\n"
    Path("models.csv").write_text(models)
    arguments = (curated, "--templates", "novelty", "--models", "models.csv", "--output", "out")
    assert register(capfd, *arguments)[0] == 0
    for stage, name in (
        ("draft", "draft_generation_tasks"),
        ("essay", "essay_generation_tasks"),
        ("evaluation", "evaluation_tasks"),
    ):
        rows = list(read_tasks(f"out/{name}.csv", row_type_of(stage)))
        assert {row.cell("generation_model_name") for row in rows} == {"provider/gen-1"}
    assert {row.cell("evaluation_model_name") for row in rows} == {"provider/judge-2"}
