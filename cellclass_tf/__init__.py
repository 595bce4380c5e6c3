"""Names, outlines and counts every cell in two-channel fluorescence fields."""

import importlib

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


def __getattr__(name):
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULE_OF_NAME[name]}")
    return getattr(module, name)


def __dir__():
    return [*sorted(__all__), "__version__"]
