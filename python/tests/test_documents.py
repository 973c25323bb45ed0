"""The documentation's Python runs, its types hold, and the examples do what they say."""

import doctest
import re
import subprocess
import sys

import pollux
import pytest


def test_the_examples_of_the_documentation_run():
    import pollux.config

    for module in (pollux, pollux.config):
        result = doctest.testmod(module)
        assert result.failed == 0
    assert doctest.testmod(pollux).attempted > 0


@pytest.mark.parametrize("document", ["README.md", "python/README.md", "docs/src/python.md"])
def test_the_python_of_the_documents_runs(root, tmp_path, monkeypatch, document):
    blocks = re.findall(r"```python\n(.*?)```", (root / document).read_text(), re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    for name in ("programs", "crates"):
        (tmp_path / name).symlink_to(root / name)
    pytest.importorskip("pandas")
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, document, "exec"), names)


def test_the_types_are_strict(root):
    pytest.importorskip("mypy")
    checked = subprocess.run([sys.executable, "-m", "mypy"], cwd=root / "python", capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("name", "needs", "prints"),
    [
        ("optuna_study.py", "optuna", "best:"),
        ("timeloop_loop.py", "numpy", "best mapping"),
        ("scale_sim_columns.py", "numpy", "SCALE-Sim"),
    ],
)
def test_the_examples_do_what_they_say(root, name, needs, prints):
    pytest.importorskip(needs)
    run = subprocess.run(
        [sys.executable, root / "python/examples" / name, "--quick"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert prints in run.stdout


@pytest.mark.parametrize("name", ["size-for-minilm", "why-is-this-layer-slow", "a-thousand-mappings"])
def test_the_notebooks_run_and_show_what_they_compute(root, name):
    for package in ("nbclient", "ipykernel", "pandas"):
        pytest.importorskip(package)
    sys.path.insert(0, str(root / "docs/notebooks"))
    import nbformat
    import run

    path = root / "docs/notebooks" / f"{name}.ipynb"

    def printed(notebook):
        outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
        # How the text is cut into pieces depends on time; warnings of the kernel are not the notebook's.
        return "".join(output["text"] for output in outputs if output.get("name") == "stdout")

    shown = printed(nbformat.read(path, as_version=4))
    assert shown, "the outputs are kept"
    assert printed(run.execute(path)) == shown


def test_the_manifests_of_the_documents_are_read(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "programs").symlink_to(root / "programs")
    (tmp_path / "builds").mkdir()
    (tmp_path / "builds/wide.toml").write_text("base = 'norm16'\nname = 'wide'\nsp_capacity = '512 KiB'\n")
    points = {}
    for document in ("README.md", "docs/src/sweeps.md"):
        (text,) = re.findall(r"```toml\n(.*?)```", (root / document).read_text(), re.DOTALL)
        points[document] = pollux.points(text).num_rows
    # 8 configurations x 2 memories x (2 products by 201 mappings and a list), less 2 configurations behind one of the memories.
    assert points == {"README.md": 8, "docs/src/sweeps.md": (8 * 2 - 2) * (2 * 201 + 1)}
