"""What a measurement says of the machine that it was made on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def machine() -> dict[str, Any]:
    """Provenance of a measurement made here and now: its kind, the date, the processor, the system, the versions."""
    return {
        "kind": "measured",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "logical_cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": version("onnxruntime"),
    }


def _processor() -> str:
    # platform.processor() is empty on most Linux systems.
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
