"""The files that edgeinfer's wheel leaves out, at the very places where it looks for them; see scripts/wheel.sh."""

from pathlib import Path

from setuptools import setup

version: dict[str, str] = {}
exec(Path("edgeinfer/_version.py").read_text(), version)
setup(
    version=version["__version__"],
    install_requires=[f"edgeinfer=={version['__version__']}"],
    packages=["edgeinfer.network.models", "edgeinfer.paper.data", "edgeinfer.paper.items", "edgeinfer.paper.measured"],
    package_data={name: ["*", "**/*"] for name in ("edgeinfer.network.models", "edgeinfer.paper.data")},
    include_package_data=False,
)
