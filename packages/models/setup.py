"""The files that edgeinfer's wheel leaves out, at the very places where it looks for them; see scripts/wheel.sh."""

from pathlib import Path

from setuptools import setup

version: dict[str, str] = {}
exec(Path("edgeinfer/_version.py").read_text(), version)
setup(
    version=version["__version__"],
    install_requires=[f"edgeinfer=={version['__version__']}"],
    packages=[
        f"edgeinfer.{room}"
        for room in ("network.models", "paper.data", "paper.items", "paper.measured", "paper.reproduction")
    ],
    package_data={name: ["*", "**/*"] for name in ("edgeinfer.network.models", "edgeinfer.paper.data")}
    | {"edgeinfer.paper.reproduction": ["page.css"]},
    include_package_data=False,
)
