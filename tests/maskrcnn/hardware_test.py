"""Tests of cellclass_tf.maskrcnn.hardware, with made-up machines."""

import stat

import pytest
import tensorflow as tf

from cellclass_tf import process_state
from cellclass_tf.maskrcnn import hardware
from cellclass_tf.maskrcnn.hardware import Gpu, Hardware

V100, A100 = Gpu("V100", (7, 0)), Gpu("A100", (8, 0))


@pytest.mark.parametrize(
    ("machine", "precision"),
    [
        (Hardware(), "float32"),
        (Hardware(processor_flags=frozenset({"avx2"})), "float32"),
        (Hardware(processor_flags=frozenset({"avx2", "amx_bf16"})), "bfloat16"),
        (Hardware(gpus=(Gpu("P100", (6, 0)),)), "float32"),
        (Hardware(gpus=(V100,)), "float16"),
        (Hardware(gpus=(Gpu("T4", (7, 5)),)), "float16"),
        (Hardware(gpus=(A100,)), "bfloat16"),
        (Hardware(gpus=(Gpu("H100", (9, 0)),)), "bfloat16"),
        # All replicas compute in the same precision.
        (Hardware(gpus=(A100, V100)), "float16"),
        # A GPU of another vendor, in a machine whose processor has AMX.
        (
            Hardware(gpus=(Gpu("M2"),), processor_flags=frozenset({"amx_bf16"})),
            "float32",
        ),
    ],
)
def test_the_precision_is_the_fastest_that_all_devices_have(machine, precision):
    assert machine.precision == precision


def test_the_devices_in_use_are_described():
    machine = Hardware(gpus=(A100, V100), processors=16)
    assert machine.in_use("GPU", 2) == "2 GPU (A100, V100)"
    assert machine.in_use("GPU", 1) == "1 GPU (A100)"
    assert machine.in_use("CPU", 1) == "CPU (16 logical processors)"
    assert machine.in_use("TPU", 8) == "8 TPU cores"


def test_unused_gpus_are_named_with_the_reason(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert Hardware().unused_gpus(0) == ""
    assert Hardware(gpus=(A100,)).unused_gpus(1) == ""
    assert "V100. Set runtime.num_gpus=2" in Hardware(gpus=(A100, V100)).unused_gpus(1)
    unknown_to_tensorflow = Hardware(driver_gpus=("H100",))
    assert "H100" in unknown_to_tensorflow.unused_gpus(0)
    assert "cellclass_tf[gpu]" in unknown_to_tensorflow.unused_gpus(0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "unset it to train on the GPU" in unknown_to_tensorflow.unused_gpus(0)


@pytest.fixture
def bare_machine(tmp_path, monkeypatch):
    """A machine without a GPU, a driver, nvidia-smi and /proc."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(hardware, "_DRIVER", tmp_path / "driver")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path


def test_a_machine_without_proc_has_nothing_but_processors(bare_machine, monkeypatch):
    monkeypatch.setattr(process_state, "processors", lambda: 3)
    assert hardware.detect() == Hardware(processors=3)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("processor: 0\nflags\t\t: fpu amx_bf16 avx2\nflags: fpu", {"fpu", "amx_bf16"}),
        # 64-bit Arm uses another name for the flags.
        ("processor: 0\nFeatures: fp asimd bf16", set()),
    ],
)
def test_the_flags_are_those_of_the_first_processor(bare_machine, text, flags):
    (bare_machine / "cpuinfo").write_text(text)
    found = hardware.detect().processor_flags
    assert flags <= found
    assert bool(flags) == bool(found)


def test_gpus_are_described_by_tensorflow(bare_machine, monkeypatch):
    devices = [
        tf.config.PhysicalDevice(f"/physical_device:GPU:{n}", "GPU") for n in (0, 1)
    ]
    details = [{"device_name": "A100", "compute_capability": (8, 0)}, {}]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: devices)
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda device: details[devices.index(device)],
    )
    assert hardware.detect().gpus == (A100, Gpu("/physical_device:GPU:1"))
    # A GPU hidden from TensorFlow was hidden on purpose.
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])
    (bare_machine / "driver" / "0000").mkdir(parents=True)
    (bare_machine / "driver" / "0000" / "information").write_text("Model: A100\n")
    found = hardware.detect()
    assert found.gpus == found.driver_gpus == ()


@pytest.mark.parametrize(
    ("information", "name"),
    [
        ("Model: \t\t NVIDIA H100 80GB\nIRQ: 11\n", "NVIDIA H100 80GB"),
        ("IRQ: 11\n", "NVIDIA GPU"),
    ],
)
def test_the_driver_lists_gpus_that_tensorflow_cannot_use(
    bare_machine, information, name
):
    (bare_machine / "driver" / "0000:1b:00.0").mkdir(parents=True)
    file = bare_machine / "driver" / "0000:1b:00.0" / "information"
    file.write_text(information)
    assert hardware.detect().driver_gpus == (name,)
    file.unlink()
    file.mkdir()
    assert hardware.detect().driver_gpus == ("NVIDIA GPU",)


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("echo NVIDIA A100; echo NVIDIA T4", ("NVIDIA A100", "NVIDIA T4")),
        ("echo 'NVIDIA-SMI has failed'; exit 9", ()),
        ("exec /bin/sleep 30", ()),
    ],
)
def test_nvidia_smi_is_called_if_proc_lists_no_gpus(
    bare_machine, monkeypatch, script, names
):
    monkeypatch.setattr(hardware, "_NVIDIA_SMI_TIMEOUT_S", 0.5)
    command = bare_machine / "bin" / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    assert hardware.detect().driver_gpus == names


def test_a_command_that_cannot_be_run_gives_no_gpus(bare_machine):
    command = bare_machine / "bin" / "nvidia-smi"
    command.write_bytes(b"\x7fELF, of another processor")
    command.chmod(0o755)
    assert hardware.detect().driver_gpus == ()
