import os
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
#: The build of the site runs the notebooks as well; this names the folder where it has just left them.
EXECUTED = os.environ.get("EDGEINFER_EXECUTED_NOTEBOOKS")


@pytest.mark.process
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "notebooks are kept without outputs"
    if EXECUTED:
        executed = nbformat.read(Path(EXECUTED, path.name), as_version=4)
        assert [cell.source for cell in executed.cells] == [cell.source for cell in notebook.cells]
        notebook = executed
    else:
        resources = {"metadata": {"path": tmp_path}}
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    ran = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert ran == list(range(1, len(ran) + 1)), "a cell was not run"
    for cell in notebook.cells:
        if cell.cell_type == "code" and ".draw(" in cell.source.splitlines()[-1]:
            kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
            assert kinds & {"image/png", "text/markdown"}, f"{cell.source}: is not seen"


def test_there_is_one_for_each_item():
    from edgeinfer.paper.items import ITEMS

    assert {"tour", *ITEMS} <= {path.stem for path in NOTEBOOKS}
