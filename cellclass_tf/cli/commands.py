"""Every command: its flags, and the public function that it calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from absl import flags

from cellclass_tf import process_state
from cellclass_tf.cli import calls
from cellclass_tf.drawing import panels
from cellclass_tf.maskrcnn import hardware


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag of a command; its default is that of the function's parameter.

    What it was called by earlier versions, `former`, is still understood.
    """

    name: str
    help: str
    define: Callable = flags.DEFINE_string
    choices: tuple[str, ...] = ()
    default: Any = None
    required: bool = False
    former: str = ""


@dataclasses.dataclass(frozen=True)
class Command:
    """One command: `execute` gets the flags' values and returns what `_report` says.

    One that works on a single thing may take it as `argument`, without a flag's name.
    """

    help: str
    flags: tuple[Flag, ...]
    execute: Callable[..., Any]
    argument: str = ""


def _call(function: str) -> Callable[..., Any]:
    """Calls a public function of the package, which loads only now."""

    def execute(**values: Any) -> Any:
        import cellclass_tf

        return getattr(cellclass_tf, function)(**values)

    return execute


_STUDY = Flag("study", "Folder of the study.", required=True)
_PREDICTIONS = Flag("predictions", "Folder of `predict`.", required=True)
_ANSWER_ANYWAY = Flag(
    "answer_anyway",
    "Tell shares of unlike fields; else as predict was asked for.",
    flags.DEFINE_bool,
)
_DATA_DIR = Flag("data_dir", "Folder or bucket of datasets; else STUDY/tfds.")
_PROCESSES = Flag(
    "processes",
    "Worker processes; with one, a file that crashes its reader ends the run.",
    flags.DEFINE_integer,
    default=max(2, process_state.processors()),
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
# A study keeps what it was converted with.
_CHANNELS_KEPT = (
    *_CHANNELS[:2],
    Flag(
        "projection",
        "What to do with Z stacks; else as at the last conversion, or max.",
        choices=("max", "best", "none"),
    ),
)

_ALLOW_LOSSY = Flag(
    "allow_lossy",
    "Read JPEG too, which changed pixels to save room.",
    flags.DEFINE_bool,
    default=False,
)
_FLOW_THRESHOLD = Flag(
    "flow_threshold",
    "cellpose's; larger keeps more cells.",
    flags.DEFINE_float,
    default=0.4,
)
_CELLPROB_THRESHOLD = Flag(
    "cellprob_threshold",
    "cellpose's; smaller finds more and larger cells.",
    flags.DEFINE_float,
    default=0.0,
)
_DIAMETER = Flag("diameter", "Of a cell in px; else estimated.", flags.DEFINE_float)
_LABEL_COMPONENTS = Flag(
    "label_components",
    "Each piece of a label image is a cell, as in black-and-white masks.",
    flags.DEFINE_bool,
    default=False,
)
_DEVICE = Flag("device", "cellpose's: auto, cpu, cuda, cuda:1, mps.", default="auto")

_EXPERIMENTS = ("cellclass_maskrcnn_small", "cellclass_maskrcnn")

_CULTURES = (
    Flag(
        "images_per_type",
        "Fields of each pure culture.",
        flags.DEFINE_integer,
        default=24,
    ),
    Flag("mixed", "Mixed fields.", flags.DEFINE_integer, default=8),
    Flag("size", "Width of a field in px.", flags.DEFINE_integer, default=512),
)

COMMANDS = {
    "demo": Command(
        "The whole way on simulated cultures, without a network.",
        (
            Flag("output", "Folder for everything.", required=True),
            *_CULTURES,
            Flag("steps", "Training steps.", flags.DEFINE_integer),
            Flag("seed", "Of the simulation.", flags.DEFINE_integer, default=0),
            Flag(
                "precision",
                "In which the network is trained; auto takes the fastest that the "
                "machine multiplies in hardware.",
                choices=(hardware.AUTO, *hardware.PRECISIONS),
                default=hardware.AUTO,
            ),
            _PROCESSES,
        ),
        calls.demo,
    ),
    "run": Command(
        "From raw files to the proportions of mixed cultures; goes on where it was.",
        (
            Flag("output", "Folder of the results, with run.yaml.", required=True),
            Flag(
                "input",
                "Folder of the raw files; sub-folders name the types, and mixed.",
            ),
            Flag("study", "Folder of the study, made if new."),
            Flag(
                "group",
                "Regular expression that names dish or slide in a path.",
            ),
            *_CHANNELS[:2],
            dataclasses.replace(_CHANNELS_KEPT[2]),
            Flag("annotator", "Who outlines.", choices=("cellpose", "watershed")),
            Flag("model", "cellpose model by name, or path to weights."),
            _DIAMETER,
            Flag("corrections", "Folder of cells corrected in cellpose's window."),
            Flag("minutes", "That training may take.", flags.DEFINE_float),
            Flag("steps", "Or training steps.", flags.DEFINE_integer),
            Flag("seed", "Of the training.", flags.DEFINE_integer),
            Flag(
                "namer", "Train a second network that names cells.", flags.DEFINE_bool
            ),
            Flag("outlines", "Who outlines mixed fields: network, or the annotator."),
            _ANSWER_ANYWAY,
            Flag(
                "plan",
                "Say what would be done, and stop.",
                flags.DEFINE_bool,
                default=False,
            ),
            Flag(
                "yes",
                "Go on where a person should look first.",
                flags.DEFINE_bool,
                default=False,
            ),
            _PROCESSES,
        ),
        _call("run"),
    ),
    "simulate": Command(
        "Simulated cultures as a microscope would write them, with the truth.",
        (
            Flag("study", "Folder of the new study.", required=True),
            *_CULTURES,
            Flag("seed", "Same seed, same bytes.", flags.DEFINE_integer, default=0),
            Flag("dishes", "Of each culture.", flags.DEFINE_integer, default=4),
            Flag(
                "confounded",
                "What of pure dishes depends on their type, parted by commas: "
                "illumination, stain, focus, density.",
                default="",
                former="tied",
            ),
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
            *_CHANNELS_KEPT,
            Flag(
                "group",
                "Regular expression that names dish or slide in a path; else as at the "
                "last conversion.",
            ),
            Flag(
                "channel_files",
                "Of one-file-a-channel folders: regular expression with a group "
                "(?P<channel>...), searched in names; MetaXpress's are known.",
            ),
            Flag(
                "contrast",
                "Whose limits: the group's, set once; measured anew; each field's own. "
                "Else as at the last conversion, or group.",
                choices=("group", "anew", "field"),
            ),
            _ALLOW_LOSSY,
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
            _DIAMETER,
            Flag(
                "diameter_by",
                "Whose diameter is estimated.",
                choices=("group", "field"),
                default="group",
            ),
            _FLOW_THRESHOLD,
            _CELLPROB_THRESHOLD,
            _DEVICE,
            Flag(
                "overwrite_corrected",
                "Annotate corrected fields too; STUDY/.trash keeps their old cells.",
                flags.DEFINE_bool,
                default=False,
            ),
            _ONE_PROCESS,
            *_ENGINE,
        ),
        _call("annotate"),
    ),
    "import": Command(
        "Brings labels made elsewhere into a study, or those of a spot check.",
        (
            Flag("study", "Folder of the study."),
            Flag("predictions", "Or what `predict` wrote, for labels of a spot check."),
            Flag(
                "format",
                "Of the source.",
                choices=("masks", "cellpose", "coco", "spotcheck"),
                default="masks",
            ),
            Flag(
                "source",
                "Folder of the labels, or COCO file, or table of a spot check.",
                required=True,
            ),
            Flag(
                "allow_gaps",
                "Masks of single cells may lack numbers.",
                flags.DEFINE_bool,
                default=False,
            ),
            _LABEL_COMPONENTS,
            Flag(
                "crowds",
                "What COCO's annotations with iscrowd are; cells, as CVAT writes masks.",
                choices=("left_out", "cells"),
                default="left_out",
            ),
            Flag(
                "group",
                "Of new COCO images: regular expression that names dish or slide.",
            ),
            Flag(
                "overwrite_corrected",
                "Import also what was imported before, and what removes cells from "
                "corrected fields; STUDY/.trash keeps the old ones.",
                flags.DEFINE_bool,
                default=False,
            ),
        ),
        calls.import_,
    ),
    "export": Command(
        "Cells for ImageJ, QuPath, OME, COCO, or cellpose's window.",
        (
            Flag("study", "Folder of the study, whose annotated cells are written."),
            Flag("predictions", "Or what `predict` wrote."),
            Flag(
                "format",
                "To write.",
                choices=("cellpose", "coco", "imagej", "geojson", "ome", "zarr"),
                default="cellpose",
            ),
            Flag("output", "Folder to write to.", required=True),
            Flag(
                "segmentation",
                "Of COCO; polygons cannot say holes, which stay RLE.",
                choices=("rle", "polygons"),
                default="rle",
            ),
            Flag(
                "first",
                "For cellpose's window: only so many of the fields that come first in "
                "review/queue.csv.",
                flags.DEFINE_integer,
            ),
        ),
        calls.export,
    ),
    "finetune": Command(
        "Trains cellpose further on corrected fields, and says whether it helped.",
        (
            _STUDY,
            Flag("output", "File of the tuned weights.", required=True),
            Flag(
                "model", "To begin with, by name, or path to weights.", default="cyto3"
            ),
            Flag("epochs", "At most.", flags.DEFINE_integer, default=100),
            Flag("learning_rate", "Of cellpose's.", flags.DEFINE_float, default=0.05),
            Flag(
                "hand_weight",
                "How many times as often hand-drawn cells are seen.",
                flags.DEFINE_float,
                default=1.0,
            ),
            _FLOW_THRESHOLD,
            _DEVICE,
        ),
        _call("finetune"),
    ),
    "dataset": Command(
        "Prepares the TFDS dataset of a study, a new version if the study has changed.",
        (
            _STUDY,
            _DATA_DIR,
            Flag(
                "allow_no_validation",
                "Go on where a type has no group that can be held out.",
                flags.DEFINE_bool,
                default=False,
            ),
            _PROCESSES,
            *_ENGINE,
        ),
        calls.dataset,
    ),
    "check": Command(
        "Looks for leaks between the splits of a prepared dataset.",
        (
            Flag("study", "Folder of the study, whose newest dataset is checked."),
            _DATA_DIR,
            Flag("dataset", "Or the folder of one version, with dataset_info.json."),
        ),
        calls.check,
    ),
    "train": Command(
        "Trains a network on a study's dataset; a run that was killed goes on.",
        (
            _STUDY,
            Flag("output", "Folder of the training run.", required=True),
            Flag(
                "experiment",
                "Which network; docs/training.md tells them apart.",
                choices=_EXPERIMENTS,
                default=_EXPERIMENTS[0],
            ),
            Flag("data_dir", "Where the dataset lies, if not in STUDY/tfds."),
            Flag("dataset_version", "Such as 2.1.0; else the newest."),
            Flag(
                "steps", "Training steps; else the experiment's.", flags.DEFINE_integer
            ),
            Flag(
                "minutes",
                "That training may take, instead of steps.",
                flags.DEFINE_float,
            ),
            Flag("init", "Starting weights: simulated, random, imagenet, or a run."),
            Flag("seed", "Of crops and new weights.", flags.DEFINE_integer),
            Flag(
                "precision",
                "In which the network is trained; auto takes the fastest.",
                choices=(hardware.AUTO, *hardware.PRECISIONS),
                default=hardware.AUTO,
            ),
            Flag("params_override", "Overrides, such as task.model_diameter_px=30"),
            Flag(
                "namer",
                "Train a second network, which names cells by crops.",
                flags.DEFINE_bool,
                default=True,
            ),
        ),
        calls.train,
    ),
    "export-model": Command(
        "Writes and calibrates the model of one or several training runs.",
        (
            Flag(
                "training",
                "Folder of the run; of several, parted by commas.",
                required=True,
            ),
            Flag("output", "Folder of the model.", required=True),
            Flag(
                "experiment",
                "That was trained.",
                choices=_EXPERIMENTS,
                default=_EXPERIMENTS[0],
            ),
            Flag("data_dir", "Where the dataset lies now, if it was moved."),
            Flag(
                "outlines",
                "Whose outlines the model will name, too.",
                choices=("cellpose", "watershed"),
            ),
            Flag(
                "weights",
                "cellpose model by name, or path to weights.",
                default="cyto3",
            ),
            _DIAMETER,
            Flag(
                "views",
                "Views of a field that are merged, 1 to 8.",
                flags.DEFINE_integer,
            ),
            Flag(
                "calibrate",
                "By the held-out fields of the dataset.",
                flags.DEFINE_bool,
                default=True,
            ),
        ),
        calls.export_model,
    ),
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
                "Cells of a lower score are left out; else as held-out fields say.",
                flags.DEFINE_float,
            ),
            Flag(
                "min_probability",
                "Calls of a lower probability are uncertain.",
                flags.DEFINE_float,
                default=0.7,
            ),
            Flag(
                "outlines",
                "Who outlines: network, cellpose, watershed, or a folder of label images.",
                default="network",
            ),
            Flag(
                "weights",
                "cellpose model by name, or path to weights.",
                default="cyto3",
            ),
            _DIAMETER,
            _FLOW_THRESHOLD,
            _CELLPROB_THRESHOLD,
            _DEVICE,
            _LABEL_COMPONENTS,
            Flag(
                "answer_anyway",
                "Tell shares of fields that do not resemble the training fields.",
                flags.DEFINE_bool,
                default=False,
            ),
            *_CHANNELS,
            _ALLOW_LOSSY,
            _ONE_PROCESS,
            *_ENGINE,
        ),
        _call("predict"),
    ),
    "evaluate": Command(
        "Scores predictions against a study's known cells.",
        (_PREDICTIONS, _STUDY),
        calls.evaluate,
    ),
    "compare": Command(
        "What changed, cell by cell, between two runs, or a run and the truth.",
        (
            Flag("a", "Folder of `predict`, or a study.", required=True),
            Flag("b", "The same.", required=True),
            Flag("output", "Folder of tables and pictures.", required=True),
            Flag("pictures", "At most so many.", flags.DEFINE_integer, default=20),
        ),
        _call("compare"),
    ),
    "spotcheck": Command(
        "Draws random cells and writes a page on which you label them.",
        (
            _PREDICTIONS,
            Flag("cells", "To label, roughly.", flags.DEFINE_integer, default=100),
            Flag(
                "width",
                "Of an interval, for which the number of labels is told.",
                flags.DEFINE_float,
                default=0.1,
            ),
            Flag("seed", "Of the draw.", flags.DEFINE_integer, default=0),
            Flag(
                "overwrite",
                "Draw another one where there is one; its labels are set aside.",
                flags.DEFINE_bool,
                default=False,
            ),
        ),
        _call("spotcheck"),
    ),
    "conditions": Command(
        "Writes conditions.csv, in which you say what each dish was treated with.",
        (_STUDY,),
        calls.conditions,
    ),
    "compare-conditions": Command(
        "Do conditions differ in their shares of types? Tables, figure, and text.",
        (
            _PREDICTIONS,
            Flag("output", "Folder of tables, figure and text.", required=True),
            Flag("conditions", "Table of conditions; else STUDY/conditions.csv."),
            _ANSWER_ANYWAY,
        ),
        _call("compare_conditions"),
    ),
    "report": Command(
        "Writes report.html and mixture.json of predictions anew.",
        (
            _PREDICTIONS,
            Flag("expected", "Shares to test against: HEK=0.5,N2a=0.5."),
            Flag(
                "width",
                "Of an interval, for which the number of fields is told.",
                flags.DEFINE_float,
                default=0.1,
            ),
            Flag("gallery", "Overlays to show.", flags.DEFINE_integer, default=12),
            _ANSWER_ANYWAY,
            Flag(
                "counting_frame",
                "Count only cells that touch neither the left nor the lower edge.",
                flags.DEFINE_bool,
                default=False,
            ),
        ),
        calls.report,
    ),
    "figure": Command(
        "A figure for a paper: outlined cells, or proportions, as SVG, PDF or PNG.",
        (
            Flag("output", "File to write: .svg, .pdf or .png.", required=True),
            Flag("predictions", "Folder of `predict`."),
            Flag("study", "Or a study, whose annotated cells are drawn."),
            Flag("image", "TYPE/NAME of the field; not needed if there is only one."),
            Flag(
                "plot",
                "What to draw.",
                choices=("cells", "proportions"),
                default="cells",
            ),
            Flag("width_mm", "Width in mm.", flags.DEFINE_float, default=85.0),
            Flag(
                "channels",
                "Colours of the channels; grey puts both side by side.",
                choices=panels.CHANNELS,
                default=panels.CHANNELS[0],
            ),
            Flag("crop", "Part of the field in pixels: y,x,height,width."),
            Flag(
                "outlines",
                "Outline the cells.",
                flags.DEFINE_bool,
                default=True,
            ),
            Flag(
                "brighten",
                "Lift dark fields as in overlays; not linear.",
                flags.DEFINE_bool,
                default=False,
            ),
            Flag(
                "line_pt",
                "Width of outlines in points, at least 0.5.",
                flags.DEFINE_float,
                default=0.75,
            ),
            Flag(
                "scale_bar_um",
                "Length of the scale bar; else a round one. 0 draws none.",
                flags.DEFINE_float,
            ),
            Flag("pixel_size_um", "Overrides what is known.", flags.DEFINE_float),
            Flag(
                "min_probability",
                "Calls of a lower probability are dashed; else as in the run.",
                flags.DEFINE_float,
            ),
        ),
        _call("figure"),
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
    "restore": Command(
        "Lists what people made and had to make room, or brings a file of it back.",
        (
            Flag("folder", "A study, or the results of a command.", required=True),
            Flag("file", "To bring back, as it is listed; else the list."),
        ),
        calls.restore,
    ),
}
