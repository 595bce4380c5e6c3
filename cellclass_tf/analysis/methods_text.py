"""What was compared and found, in words for the Methods of a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cellclass_tf
from cellclass_tf.analysis.contrasts import PAIRED, WELCH
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
        + f"). {corrected}The statistical unit was the replicate ({counts}). "
        f"{_tests(result['contrasts'])}Intervals have a confidence of "
        f"{100 * result['level']:.0f} %.{adjusted}",
        "",
    ]
    checked = result["spot_check"]
    if checked and not checked["reason"]:
        lines += [_spot_check(checked), ""]
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


_TESTS = {
    WELCH: "by Welch's t-test (two-sided; Welch 1947) of the logit of the replicates' shares",
    PAIRED: "by a paired t-test (two-sided) of the logit of the shares, within replicates that "
    "were seen in both conditions",
}


def _tests(told: Sequence[Mapping[str, Any]]) -> str:
    """Says which tests were made, and of which conditions where there are two kinds."""
    pairs = {
        test: [
            f"{one['second']} and {one['first']}" for one in told if one["test"] == test
        ]
        for test in _TESTS
    }
    made = [test for test in _TESTS if pairs[test]]
    if not made:
        return ""
    if len(made) == 1:
        return f"Conditions were compared {_TESTS[made[0]]}. "
    said = [f"{', '.join(dict.fromkeys(pairs[test]))} {_TESTS[test]}" for test in made]
    return f"Conditions were compared: {'; '.join(said)}. "


def _spot_check(checked: Mapping[str, Any]) -> str:
    """Says how labels were drawn, and what they gave."""
    people = len(checked["labellers"])
    shares = ", ".join(
        f"{name} {100 * of['share']:.1f} %{ends_text(of['low'], of['high'])}"
        for name, of in checked["types"].items()
    )
    accuracy = ends_text(checked["accuracy_low"], checked["accuracy_high"])
    kappa = (checked["agreement"] or {}).get("kappa")
    return (
        f"As a check, {'one person' if people == 1 else f'{people} persons'}, to whom the "
        f"calls were not shown, labelled {checked['cells']} cells in {checked['windows']} "
        "windows, a stratified random sample of all fields"
        + ("" if kappa is None else f" (Cohen's kappa {kappa:.2f}; Cohen 1960)")
        + f". Of the cells that were found {100 * checked['accuracy']:.1f} %{accuracy} were "
        "called as they were labelled. By labels and calls together the shares in all fields "
        f"were {shares}, estimated by prediction-powered inference (Angelopoulos et al. 2023, "
        "doi:10.1126/science.adi6000, with the tuning of arXiv:2311.01453; a difference "
        "estimator, Särndal et al. 1992). The comparison of conditions makes no use of the "
        "labels."
    )


def ends_text(low: float | None, high: float | None, *, points: bool = False) -> str:
    """Returns the ends of an interval of shares in brackets; '' without an interval.

    Args:
      low: lower end, a fraction.
      high: upper end.
      points: whether they are percentage points, which are written without a unit.
    """
    if low is None or high is None:
        return ""
    unit = "" if points else " %"
    return f" ({100 * low:.1f} to {100 * high:.1f}{unit})"
