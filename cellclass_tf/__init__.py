"""Outlines, classifies and counts every cell in two-channel fluorescence images.

From the pixels of one field to its cells:

    import cellclass_tf as cc

    field = cc.read_micrograph("field.ome.tif")
    image = cc.merge_channels(field)
    cells = cc.Predictor.load("model").predict(image, pixel_size_um=field.pixel_size_um)

From raw files to the proportions of a mixed culture: `convert`, `annotate`, `dataset`,
`train`, `export_model`, `predict` and `report`, or `run` for all of them. Each is also a
command of the same name, `cellclass convert --help`. `Study` is the folder that they share,
and `Cells` what is known of the cells of one field. Bad input raises `InputError`.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public names and the modules that hold them. They load when first used, so that
# importing the package stays light.
_MODULE_OF_NAME = {
    "Cells": "core.cells",
    "InputError": "errors",
    "Micrograph": "core.micrograph",
    "Study": "core.study",
    "read_micrograph": "microscopy.readers",
    "read_micrographs": "microscopy.readers",
    "merge_channels": "microscopy.merge",
    "convert": "microscopy.conversion",
    "annotate": "annotation.annotate",
    "CellposeAnnotator": "annotation.annotators.cellpose",
    "WatershedAnnotator": "annotation.annotators.watershed",
    "import_masks": "interchange.masks",
    "import_cellpose": "interchange.cellpose_gui",
    "export_cellpose": "interchange.cellpose_gui",
    "import_coco": "interchange.coco.importing",
    "import_spotcheck_types": "interchange.spot_check_labels",
    "export_coco": "interchange.coco.writing",
    "finetune": "annotation.finetuning.tuning",
    "simulate": "datasets.simulation",
    "dataset": "workflows.training",
    "check_dataset": "datasets.leaks",
    "train": "workflows.training",
    "export_model": "workflows.training",
    "demo": "workflows.demo",
    "run": "workflows.run",
    "Predictor": "maskrcnn.predictor",
    "predict": "workflows.predict",
    "cell_table": "analysis.cell_table",
    "compare_cells": "analysis.metrics",
    "mixture": "analysis.mixture",
    "spotcheck": "analysis.spot_check.page",
    "import_spotcheck": "analysis.spot_check.labels",
    "evaluate": "analysis.evaluation",
    "conditions": "analysis.conditions",
    "compare_conditions": "analysis.condition_comparison",
    "json_schema": "analysis.schemas",
    "write_schemas": "analysis.schemas",
    "report": "analysis.report",
    "compare": "analysis.comparison",
    "export_cells": "interchange.exporting",
    "package_model": "interchange.bioimage_model",
    "draw_overlay": "drawing.overlay",
    "figure": "analysis.figure",
    "trace": "provenance.tracing",
    "restore": "workflows.restore",
}

__all__ = list(_MODULE_OF_NAME)


if TYPE_CHECKING:
    # The same names for type checkers and editors, which do not run this module.
    from cellclass_tf.analysis.cell_table import cell_table
    from cellclass_tf.analysis.comparison import compare
    from cellclass_tf.analysis.condition_comparison import compare_conditions
    from cellclass_tf.analysis.conditions import conditions
    from cellclass_tf.analysis.evaluation import evaluate
    from cellclass_tf.analysis.figure import figure
    from cellclass_tf.analysis.metrics import compare_cells
    from cellclass_tf.analysis.mixture import mixture
    from cellclass_tf.analysis.report import report
    from cellclass_tf.analysis.schemas import json_schema, write_schemas
    from cellclass_tf.analysis.spot_check.labels import import_spotcheck
    from cellclass_tf.analysis.spot_check.page import spotcheck
    from cellclass_tf.annotation.annotate import annotate
    from cellclass_tf.annotation.annotators.cellpose import CellposeAnnotator
    from cellclass_tf.annotation.annotators.watershed import WatershedAnnotator
    from cellclass_tf.annotation.finetuning.tuning import finetune
    from cellclass_tf.core.cells import Cells
    from cellclass_tf.core.micrograph import Micrograph
    from cellclass_tf.core.study import Study
    from cellclass_tf.datasets.leaks import check_dataset
    from cellclass_tf.datasets.simulation import simulate
    from cellclass_tf.drawing.overlay import draw_overlay
    from cellclass_tf.errors import InputError
    from cellclass_tf.interchange.bioimage_model import package_model
    from cellclass_tf.interchange.cellpose_gui import export_cellpose, import_cellpose
    from cellclass_tf.interchange.coco.importing import import_coco
    from cellclass_tf.interchange.coco.writing import export_coco
    from cellclass_tf.interchange.exporting import export_cells
    from cellclass_tf.interchange.masks import import_masks
    from cellclass_tf.interchange.spot_check_labels import import_spotcheck_types
    from cellclass_tf.maskrcnn.predictor import Predictor
    from cellclass_tf.microscopy.conversion import convert
    from cellclass_tf.microscopy.merge import merge_channels
    from cellclass_tf.microscopy.readers import read_micrograph, read_micrographs
    from cellclass_tf.provenance.tracing import trace
    from cellclass_tf.workflows.demo import demo
    from cellclass_tf.workflows.predict import predict
    from cellclass_tf.workflows.restore import restore
    from cellclass_tf.workflows.run import run
    from cellclass_tf.workflows.training import dataset, export_model, train
else:

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF_NAME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f"{__name__}.{_MODULE_OF_NAME[name]}")
        return getattr(module, name)


def __dir__() -> list[str]:
    return [*sorted(__all__), "__version__"]
