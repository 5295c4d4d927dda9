"""The notebooks run from top to bottom, in a kernel each; they are kept without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
KERNEL = "murmur-test"
CELL_TIMEOUT_S = 150

Outputs: TypeAlias = dict[str, list[Any]]  # of each code cell, by its id

# Warnings are errors here; what Jupyter's packages say about each other is theirs to mend.
_JUPYTER = "ipykernel|jupyter_client|jupyter_core|nbclient|nbformat|tornado|traitlets|zmq"
pytestmark = pytest.mark.filterwarnings(rf"ignore::DeprecationWarning:({_JUPYTER})(\..*)?")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    import nbformat

    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def run(path: Path, directory: Path) -> Outputs:
    """Execute a notebook in a directory, with the interpreter that runs the tests."""
    from ipykernel.kernelspec import write_kernel_spec
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    # A kernelspec of our own: what is registered on this machine, or is not, makes no difference.
    write_kernel_spec(str(directory / "kernels" / KERNEL))
    specs = KernelSpecManager(kernel_dirs=[str(directory / "kernels")])
    notebook = read(path)
    with pytest.MonkeyPatch.context() as patch:  # the kernel inherits the environment
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        patch.setenv("JUPYTER_RUNTIME_DIR", str(directory / "runtime"))
        patch.setenv("IPYTHONDIR", str(directory / "ipython"))
        client = NotebookClient(
            notebook,
            km=AsyncKernelManager(kernel_name=KERNEL, kernel_spec_manager=specs),
            timeout=CELL_TIMEOUT_S,
            resources={"metadata": {"path": str(directory)}},
        )
        client.execute(cleanup_kc=True)  # CellExecutionError shows the cell and its traceback
    return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def text_of(outputs: Outputs, cell: str) -> str:
    (result,) = outputs[cell]
    text: str = result.data["text/plain"]
    return text


def test_there_are_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS][:1] == ["01_first_swarm.ipynb"]


@each_notebook
def test_is_kept_without_outputs(path: Path) -> None:
    import nbformat

    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    for cell in notebook.cells:
        # Whoever saves it elsewhere gets random ids: names keep differences small.
        assert cell.id.replace("-", "").isalpha(), cell.id
        if cell.cell_type == "code":
            assert cell.outputs == [], cell.id
            assert cell.execution_count is None, cell.id
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


@each_notebook
def test_runs_and_shows_what_it_says(path: Path, tmp_path: Path) -> None:
    outputs = run(path, tmp_path)
    for cell in outputs.values():
        assert not [each for each in cell if each.output_type in ("error", "stream")]
    CHECKS[path.stem](outputs)


def check_first_swarm(outputs: Outputs) -> None:
    assert text_of(outputs, "equal") == "True"
    assert text_of(outputs, "bob-apart") == "False"
    assert text_of(outputs, "together") == "True"

    (merged,) = outputs["merged"]
    rows = [row.split() for row in merged.data["text/plain"].splitlines()]
    assert ["heron", "Heron", "rare", "175", "0"] in rows
    assert ["swift", "Common", "swift", "common", "45", "7"] in rows
    assert not [row for row in rows if row[0] == "owl"]
    assert "<th>wingspan_cm</th>" in merged.data["text/html"]

    conflicts = text_of(outputs, "conflicts")
    assert "channel 7" in conflicts
    assert "channel 5" in conflicts
    assert "foreign key" in conflicts
    assert text_of(outputs, "resolve") == "[]"

    operations = [row.split()[0] for row in text_of(outputs, "history").splitlines()[2:-1]]
    assert operations == ["insert", "delete", "update", "insert"]
    assert "shape: (11, 10)" in text_of(outputs, "history-frame")
    assert "engine: row (join; " in text_of(outputs, "explain")
    assert "engine: row (key lookup)" in text_of(outputs, "explain-key")
    assert [each for each in outputs["plot"] if "image/png" in each.get("data", {})]


def check_sql_in_a_notebook(outputs: Outputs) -> None:
    (grouped,) = outputs["grouped"]
    assert "<th>warmest</th>" in grouped.data["text/html"]
    rows = [row.split() for row in grouped.data["text/plain"].splitlines()]
    assert ["harbour", "1", "4.5", "4.5"] in rows
    (long,) = outputs["long"]
    assert "the first 20 rows" in long.data["text/html"]
    assert outputs["frame"] == []
    assert text_of(outputs, "frame-shape") == "(14, 3)"
    assert "'town': " in text_of(outputs, "pandas")
    assert int(text_of(outputs, "result")) > 0
    assert "town" in text_of(outputs, "lazy")


CHECKS = {
    "01_first_swarm": check_first_swarm,
    "02_sql_in_a_notebook": check_sql_in_a_notebook,
}
