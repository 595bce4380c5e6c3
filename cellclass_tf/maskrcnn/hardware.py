"""Detects the processor and the GPUs; no other module of the package does."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import subprocess
from typing import Any, Literal, get_args

from cellclass_tf import process_state

AUTO: Literal["auto"] = "auto"
Precision = Literal["auto", "float32", "bfloat16", "float16"]
PRECISIONS = get_args(Precision)[1:]

_CPUINFO = pathlib.Path("/proc/cpuinfo")
_DRIVER = pathlib.Path("/proc/driver/nvidia/gpus")
_NVIDIA_SMI_TIMEOUT_S = 20


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU that TensorFlow can use.

    Attributes:
      name: name of the GPU, such as 'NVIDIA A100-SXM4-40GB'.
      compute_capability: NVIDIA's compute capability, such as (8, 0); None for GPUs of
        other vendors.
    """

    name: str
    compute_capability: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Hardware:
    """The processor and the GPUs of this machine.

    Attributes:
      gpus: GPUs that TensorFlow can use.
      driver_gpus: names of the NVIDIA GPUs that the driver lists, if TensorFlow finds
        none.
      processors: number of logical processors that this process may use.
      processor_flags: instruction sets as in /proc/cpuinfo; empty if unknown.
    """

    gpus: tuple[Gpu, ...] = ()
    driver_gpus: tuple[str, ...] = ()
    processors: int = 1
    processor_flags: frozenset[str] = frozenset()

    @property
    def precision(self) -> str:
        """The fastest of `PRECISIONS` for which all devices have hardware multiplication.

        GPUs have bfloat16 from compute capability 8.0 and float16 from 7.0; processors
        have bfloat16 if they have AMX.
        """
        if not self.gpus:
            return "bfloat16" if "amx_bf16" in self.processor_flags else "float32"
        capability = min(gpu.compute_capability or (0, 0) for gpu in self.gpus)
        if capability >= (8, 0):
            return "bfloat16"
        return "float16" if capability >= (7, 0) else "float32"

    def in_use(self, device_type: str, count: int) -> str:
        """Describes the devices of a run: `count` devices of type 'GPU', 'TPU' or 'CPU'."""
        if device_type == "GPU":
            return f"{count} GPU ({', '.join(gpu.name for gpu in self.gpus[:count])})"
        if device_type == "CPU":
            return f"CPU ({self.processors} logical processors)"
        return f"{count} {device_type} cores"

    def unused_gpus(self, gpus: int) -> str:
        """Says which GPUs a run on `gpus` of them does not use, and why; '' if none."""
        if gpus < len(self.gpus):
            idle = ", ".join(gpu.name for gpu in self.gpus[gpus:])
            return (
                f"GPU not used: {idle}. Set runtime.num_gpus={len(self.gpus)} and "
                "runtime.distribution_strategy=mirrored to use all."
            )
        if self.gpus or not self.driver_gpus:
            return ""
        present = ", ".join(self.driver_gpus)
        if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
            return (
                f"GPU not used: {present}. The environment variable CUDA_VISIBLE_DEVICES "
                "hides it; unset it to train on the GPU."
            )
        return (
            f"GPU not used: {present}. TensorFlow did not find its CUDA libraries. "
            "Run: pip install 'cellclass_tf[gpu]'"
        )


def detect() -> Hardware:
    """Asks TensorFlow, the NVIDIA driver and the operating system."""
    # Imported late: the command line uses this module's constants without TensorFlow.
    import tensorflow as tf

    is_known = bool(tf.config.list_physical_devices("GPU"))
    return Hardware(
        gpus=tuple(_gpu(d) for d in tf.config.get_visible_devices("GPU")),
        driver_gpus=() if is_known else _driver_gpus(),
        processors=process_state.processors(),
        processor_flags=_processor_flags(),
    )


def _gpu(device: Any) -> Gpu:
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(device)
    name = details.get("device_name", device.name)
    return Gpu(name, details.get("compute_capability"))


def _processor_flags() -> frozenset[str]:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2] for line in lines if line.startswith("flags"))
    return frozenset(next(flags, "").split())


def _driver_gpus() -> tuple[str, ...]:
    """Returns the GPUs' names from /proc, or from nvidia-smi (on Windows and WSL2)."""
    names = [_model_of(path) for path in sorted(_DRIVER.glob("*/information"))]
    command = shutil.which("nvidia-smi")
    if names or not command:
        return tuple(names)
    try:
        found = subprocess.run(
            [command, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            timeout=_NVIDIA_SMI_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    # Without a driver or a GPU it prints an error message and fails.
    return tuple(found.stdout.splitlines()) if found.returncode == 0 else ()


def _model_of(information: pathlib.Path) -> str:
    try:
        text = information.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "NVIDIA GPU"
    models = [
        line.partition(":")[2].strip()
        for line in text.splitlines()
        if line.startswith("Model:")
    ]
    return models[0] if models else "NVIDIA GPU"
