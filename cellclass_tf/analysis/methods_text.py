"""What was compared and found, in words for the Methods of a paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cellclass_tf
from cellclass_tf.core.run_record import RunRecord


def methods_text(result: Mapping[str, Any], record: RunRecord) -> str:
    """What was done, in words for the Methods of a paper.

    Args:
      result: what `compare_conditions` found.
      record: of the predictions.
    """
    metadata, outlines = record.model_metadata, record.outlines.source
    by = "the same network" if outlines == "network" else outlines
    counts = "; ".join(
        f"{told['name']}: {told['replicates']} replicates, {told['groups']} dishes, "
        f"{told['fields']} fields, {told['cells']} cells"
        + (f", {told['rejected']} fields rejected" if told["rejected"] else "")
        for told in result["conditions"]
    )
    corrected = (
        "Shares were corrected for cells that the network calls wrongly, misses or invents, as "
        "measured on held-out pure cultures (Rogan and Gladen 1978; Hay 1988). "
        if result["corrected"]
        else ""
    )
    several = len([told for told in result["contrasts"] if told["p_value"] is not None])
    adjusted = " P values were adjusted for several tests (Holm 1979)." * (several > 1)
    lines = [
        f"Cells were outlined by {by} and classified with cellclass_tf "
        f"{record.versions.get('cellclass_tf', cellclass_tf.__version__)} (Mask R-CNN"
        + (f", {metadata.train_steps} training steps" if metadata else "")
        + (f"; model SHA-256 {record.model_sha256[:16]}" if record.model_sha256 else "")
        + f"). {corrected}The statistical unit was the replicate ({counts}). Conditions were "
        "compared by Welch's t-test (two-sided) of the logit of the replicates' shares; "
        f"intervals have a confidence of {100 * result['level']:.0f} %.{adjusted}",
        "",
    ]
    for told in result["contrasts"]:
        if told["p_value"] is None:
            lines.append(
                f"{told['second']} against {told['first']}: not tested, {told['reason']}."
            )
            continue
        ends = ends_text(told["difference_low"], told["difference_high"], points=True)
        lines.append(
            f"The share of {told['type']} was {100 * told['difference']:+.1f} percentage "
            f"points{ends} in {told['second']} against {told['first']} (odds ratio "
            f"{told['odds_ratio']:.2f}, {told['odds_ratio_low']:.2f} to "
            f"{told['odds_ratio_high']:.2f}; p = {told['p_value']:.3g}"
            + (f", adjusted {told['p_adjusted']:.3g}" if several > 1 else "")
            + ")."
        )
    return "\n".join(lines) + "\n"


def ends_text(low: float | None, high: float | None, *, points: bool = False) -> str:
    if low is None:
        return ""
    unit = "" if points else " %"
    return f" ({100 * low:.1f} to {100 * high:.1f}{unit})"
