"""The C core as a library of its own: installed, linked by the example of the documentation, run."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import edgeinfer as ei

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        not all(shutil.which(tool) for tool in ("make", "gcc", "pkg-config")),
        reason="builds with make, gcc and pkg-config",
    ),
]


@pytest.mark.parametrize("linking", [[], ["-static"]], ids=["shared", "static"])
def test_the_example_of_the_documentation_prints_the_bracket(tmp_path, linking):
    subprocess.run(["make", "-s", "install-core", f"PREFIX={tmp_path}"], cwd=ROOT, check=True, capture_output=True)
    # Of the two libraries in the folder the linker takes the shared one, unless that is away.
    if linking:
        for library in tmp_path.glob("lib/*.so*"):
            library.unlink()
    environment = {"PATH": "/usr/bin:/bin", "PKG_CONFIG_PATH": str(tmp_path / "lib" / "pkgconfig")}
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", *(["--static"] if linking else []), "edgeinfer"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    asked = ["pkg-config", "--modversion", "edgeinfer"]
    version = subprocess.run(asked, env=environment, check=True, capture_output=True, text=True).stdout
    assert version.strip() == ei.__version__
    program = tmp_path / "bracket"
    source = ROOT / "docs" / "examples" / "bracket.c"
    subprocess.run(["gcc", "-std=c11", source, *flags, f"-Wl,-rpath,{tmp_path}/lib", "-o", program], check=True)
    said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    link = ei.RayleighLink(10e6, 10 * 0.1003705451175629, 0.0, 0.0, 0.01)
    node = ei.Node("node", 1.0)
    pipeline = ei.Pipeline(
        [ei.Compute(0.4, node, "edge"), ei.Transfer(1e6, link, "link"), ei.Compute(0.3, node, "device")]
    )
    bracket = ei.violation_bracket(pipeline, 1.2, [2.0, 4.0])
    numbers = re.findall(r"(\S+) <= P\(W > \S+ s\) <= (\S+)", said)
    for (low, high), lower, upper in zip(numbers, bracket.lower, bracket.upper, strict=True):
        assert float(low) == pytest.approx(lower, rel=1e-5)
        assert float(high) == pytest.approx(upper, rel=1e-5)
