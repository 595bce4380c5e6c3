"""The command `cellclass COMMAND --flag=value`: thin calls of the public functions."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from cellclass_tf import batch, demonstration
from cellclass_tf.files import InputError, one_line
from cellclass_tf.provenance.links import Trace

DONE, SOME_FAILED, USAGE = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag of a command; its default is that of the function's parameter."""

    name: str
    help: str
    define: Callable = flags.DEFINE_string
    choices: tuple[str, ...] = ()
    default: Any = None
    required: bool = False


@dataclasses.dataclass(frozen=True)
class Command:
    """One command: `execute` gets the flags' values and returns what `_report` says.

    One that works on a single thing may take it as `argument`, without a flag's name.
    """

    help: str
    flags: tuple[Flag, ...]
    execute: Callable[..., Any]
    argument: str = ""


def main() -> None:
    """Runs the command that the process's arguments name."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command.

    Returns:
      0 if all is done, 1 if some files failed or a link is broken (they are listed), 2
      if the command could not be understood or had nothing to work on.
    """
    if not arguments or arguments[0] in ("help", "--help", "-h"):
        print(_overview())
        return DONE if arguments else USAGE
    name, *rest = arguments
    if name not in COMMANDS:
        return _complain(f"unknown command {name!r}; known are {', '.join(COMMANDS)}.")
    if {"--help", "-help", "-h", "--helpshort", "--helpfull"} & set(rest):
        print(_usage(name))
        return DONE
    # TensorFlow's start-up notes would bury the answer; errors come as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        values = _parse(name, rest)
        return _report(COMMANDS[name].execute(**values))
    except (flags.Error, InputError, OSError) as error:
        return _complain(str(error))


def _parse(name: str, arguments: Sequence[str]) -> dict[str, Any]:
    values = flags.FlagValues()
    # Else flags that follow an argument would be taken for arguments.
    values.set_gnu_getopt()
    for flag in COMMANDS[name].flags:
        options = {"flag_values": values}
        if flag.choices:
            flags.DEFINE_enum(
                flag.name, flag.default, list(flag.choices), flag.help, **options
            )
        else:
            flag.define(flag.name, flag.default, flag.help, **options)
    rest = values([f"cellclass {name}", *arguments])[1:]
    given = _arguments(name, rest)
    missing = [
        f.name for f in COMMANDS[name].flags if f.required and not values[f.name].value
    ]
    if missing:
        raise flags.Error(f"--{missing[0]} is missing.\n\n{_usage(name)}")
    return given | {f.name: values[f.name].value for f in COMMANDS[name].flags}


def _arguments(name: str, rest: Sequence[str]) -> dict[str, str]:
    """What is no flag: the command's one argument, or nothing."""
    wanted = [COMMANDS[name].argument] if COMMANDS[name].argument else []
    if len(rest) > len(wanted):
        expected = "only --flag=value" if not wanted else f"one {wanted[0].upper()}"
        raise flags.Error(f"expected {expected}, got {rest[len(wanted)]!r}.")
    if len(rest) < len(wanted):
        raise flags.Error(f"{wanted[0].upper()} is missing.\n\n{_usage(name)}")
    return dict(zip(wanted, rest, strict=True))


def _report(result: Any) -> int:
    if not isinstance(result, batch.Outcome):
        if result is not None:
            print(result)
        is_broken = isinstance(result, Trace) and not result.is_whole
        return SOME_FAILED if is_broken else DONE
    print(
        f"{len(result.done)} done, {len(result.skipped)} were done before, "
        f"{len(result.failures)} failed."
    )
    for name, reason in sorted(result.failures.items()):
        # Names may hold line breaks, and each failure has one line.
        name, reason = one_line(name), one_line(reason)
        print(f"  {reason if name in reason else f'{name}: {reason}'}")
    return SOME_FAILED if result.failures else DONE


def _complain(message: str) -> int:
    print(f"cellclass: {message}", file=sys.stderr)
    return USAGE


def _overview() -> str:
    lines = ["usage: cellclass COMMAND --flag=value ...", ""]
    lines += [f"  {name:<10}{command.help}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "cellclass COMMAND --help tells a command's flags."])


def _usage(name: str) -> str:
    shown = f"{name} {COMMANDS[name].argument.upper()}".rstrip()
    lines = [f"cellclass {shown}: {COMMANDS[name].help}", ""]
    for flag in COMMANDS[name].flags:
        note = "required" if flag.required else f"default: {flag.default}"
        choices = f" One of {', '.join(flag.choices)}." if flag.choices else ""
        lines.append(f"  --{flag.name}: {flag.help}{choices} ({note})")
    return "\n".join(lines)


def _call(function: str) -> Callable[..., Any]:
    """Calls a public function of the package, which loads only now."""

    def execute(**values: Any) -> Any:
        import cellclass_tf

        return getattr(cellclass_tf, function)(**values)

    return execute


def _import(study: str, format: str, source: str) -> Any:
    import cellclass_tf

    return {"masks": cellclass_tf.import_masks}[format](study, source)


def _dataset(study: str) -> batch.Outcome:
    import tfds_builders

    prepared = tfds_builders.dataset(study)
    splits = prepared.info.splits
    counts = ", ".join(f"{name} {splits[name].num_examples}" for name in sorted(splits))
    print(f"{prepared.info.full_name} in {prepared.info.data_dir}\nfields: {counts}")
    for reason, cost in prepared.rejected.items():
        print(f"left out, {reason}: {cost.fields} fields, about {cost.cells} cells")
    return prepared.outcome


def _evaluate(predictions: str, study: str) -> str:
    import cellclass_tf

    scores = cellclass_tf.evaluate(predictions, study)
    names = ("AP", "AP50", "AP75", "PQ", "type_accuracy", "images", "cells_true")
    lines = [f"{name:<14}{demonstration.shown(scores[name])}" for name in names]
    return "\n".join([*lines, f"All of it is in {predictions}/evaluation.json"])


def _demo(**values: Any) -> str:
    return demonstration.summary(demonstration.demo(**values))


_STUDY = Flag("study", "Folder of the study.", required=True)
_PROCESSES = Flag(
    "processes",
    "Worker processes; with one, a file that crashes its reader ends the run.",
    flags.DEFINE_integer,
    default=max(2, os.cpu_count() or 1),
)
_ONE_PROCESS = dataclasses.replace(_PROCESSES, default=1)
_ENGINE = (
    Flag(
        "engine",
        "What runs the jobs; see docs/scaling.md.",
        choices=("local", "beam"),
        default="local",
    ),
    Flag(
        "beam_options",
        "Apache Beam's flags, parted by commas: --runner=FlinkRunner,--parallelism=8",
        default="",
    ),
)
_CHANNELS = (
    Flag("nuclei", "Name or index of the nuclei's channel; else by its name."),
    Flag("cytoplasm", "Name or index of the cytoplasm's channel; else by its name."),
    Flag(
        "projection",
        "What to do with Z stacks.",
        choices=("max", "best", "none"),
        default="max",
    ),
)

COMMANDS = {
    "demo": Command(
        "The whole way on simulated cultures, without a network.",
        (
            Flag("output", "Folder for everything.", required=True),
            Flag("steps", "Training steps.", flags.DEFINE_integer),
            Flag("seed", "Of the simulation.", flags.DEFINE_integer, default=0),
            _PROCESSES,
        ),
        _demo,
    ),
    "simulate": Command(
        "Simulated cultures as a microscope would write them, with the truth.",
        (
            Flag("study", "Folder of the new study.", required=True),
            Flag(
                "images_per_type",
                "Fields of each pure culture.",
                flags.DEFINE_integer,
                default=24,
            ),
            Flag("mixed", "Mixed fields.", flags.DEFINE_integer, default=8),
            Flag("size", "Width of a field in px.", flags.DEFINE_integer, default=512),
            Flag("seed", "Same seed, same bytes.", flags.DEFINE_integer, default=0),
            _PROCESSES,
        ),
        _call("simulate"),
    ),
    "convert": Command(
        "Microscope files to merged images and rows of the manifest.",
        (
            Flag("input", "A file, or a folder of them.", required=True),
            Flag("study", "Folder of the study, made if new.", required=True),
            Flag("cell_type", "Type of all files; else the sub-folders name it."),
            *_CHANNELS,
            Flag("group", "Regular expression that names dish or slide in a path."),
            Flag(
                "channel_files",
                "Of one-file-a-channel folders: regular expression with a group "
                "(?P<channel>...), searched in names; MetaXpress's are known.",
            ),
            Flag(
                "contrast",
                "Whose limits: the group's, set once; measured anew; each field's own.",
                choices=("group", "anew", "field"),
                default="group",
            ),
            Flag(
                "limit_s",
                "Seconds that a file may take, and one more for each megabyte.",
                flags.DEFINE_float,
                default=120.0,
            ),
            _PROCESSES,
            *_ENGINE,
        ),
        _call("convert"),
    ),
    "annotate": Command(
        "Outlines the cells of a study's images.",
        (
            _STUDY,
            Flag(
                "annotator",
                "Who outlines.",
                choices=("cellpose", "watershed"),
                default="cellpose",
            ),
            Flag(
                "model", "cellpose model by name, or path to weights.", default="cyto3"
            ),
            Flag("diameter", "Of a cell in px; else estimated.", flags.DEFINE_float),
            Flag(
                "flow_threshold",
                "cellpose's; larger keeps more cells.",
                flags.DEFINE_float,
                default=0.4,
            ),
            Flag(
                "overwrite_corrected",
                "Annotate corrected fields too; their corrections are lost.",
                flags.DEFINE_bool,
                default=False,
            ),
            _ONE_PROCESS,
            *_ENGINE,
        ),
        _call("annotate"),
    ),
    "import": Command(
        "Brings labels made elsewhere into a study.",
        (
            _STUDY,
            Flag("format", "Of the source.", choices=("masks",), default="masks"),
            Flag("source", "Folder of the labels.", required=True),
        ),
        _import,
    ),
    "dataset": Command("Prepares the TFDS dataset of a study.", (_STUDY,), _dataset),
    "predict": Command(
        "Outlines and names the cells of images, raw files or a study.",
        (
            Flag("model", "Folder of an exported model.", required=True),
            Flag("input", "A study, or images or raw files.", required=True),
            Flag("output", "Folder of the results.", required=True),
            Flag("cell_type", "Of a study, only this folder (for example mixed)."),
            Flag("pixel_size_um", "Overrides what is known.", flags.DEFINE_float),
            Flag(
                "score_threshold",
                "Cells of a lower score are left out.",
                flags.DEFINE_float,
                default=0.1,
            ),
            *_CHANNELS,
            _ONE_PROCESS,
            *_ENGINE,
        ),
        _call("predict"),
    ),
    "evaluate": Command(
        "Scores predictions against a study's known cells.",
        (Flag("predictions", "Folder of `predict`.", required=True), _STUDY),
        _evaluate,
    ),
    "trace": Command(
        "From an image or a cell back to the raw file: does every link still hold?",
        (
            Flag("predictions", "Folder of `predict`; else found above the image."),
            Flag("study", "Folder of the study; else found, or as it was recorded."),
            Flag("cell", "Number of a cell in the label image.", flags.DEFINE_integer),
            Flag("raw", "Folder in which to look for raw files that have moved."),
        ),
        _call("trace"),
        argument="image",
    ),
}

if __name__ == "__main__":
    main()
