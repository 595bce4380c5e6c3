"""Describes a comparison of conditions in words for the Methods section of a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cellclass_tf
from cellclass_tf.analysis import held_out_cells
from cellclass_tf.analysis.contrasts import PAIRED, WELCH
from cellclass_tf.core.run_record import BY_FILES, BY_NETWORK, RunRecord


def methods_text(result: Mapping[str, Any], record: RunRecord) -> str:
    """Returns what was done and found, in words for the Methods section of a paper.

    Args:
      result: result of `compare_conditions`.
      record: record of the run of predictions.
    """
    metadata, outlines = record.model_metadata, record.outlines.source
    by = "another program" if outlines == BY_FILES else outlines
    outlined = "" if outlines == BY_NETWORK else f" by {by}"
    conditions = result["conditions"]
    # If no group has several scenes, groups may be single files, and dishes are not known.
    are_dishes = any(of["scenes"] > of["groups"] for of in conditions)
    counts = "; ".join(
        f"{of['name']}: {of['replicates']} replicates, "
        + (f"{of['groups']} dishes, " if are_dishes else "")
        + f"{of['fields']} fields, {of['cells']} cells"
        + (f", {of['rejected']} fields rejected" if of["rejected"] else "")
        for of in conditions
    )
    corrected = (
        f"Proportions were corrected for {_corrected_errors(record)} of the network, as "
        "measured on held-out pure cultures (Rogan and Gladen 1978; Hay 1988). "
        if result["corrected"]
        else ""
    )
    tests = sum(pair["p_value"] is not None for pair in result["contrasts"])
    adjusted = " P values were adjusted for multiple tests (Holm 1979)." * (tests > 1)
    lines = [
        f"Cells were outlined{outlined} and classified with cellclass_tf "
        f"{record.versions.get('cellclass_tf', cellclass_tf.__version__)} (Mask R-CNN"
        + (f", {metadata.train_steps} training steps" if metadata else "")
        + (f"; model SHA-256 {record.model_sha256[:16]}" if record.model_sha256 else "")
        + f"). {corrected}The statistical unit was the replicate ({counts}). "
        f"{_tests(result['contrasts'])}Intervals are {100 * result['level']:.0f} % "
        f"confidence intervals.{adjusted}",
        "",
    ]
    checked = result["spot_check"]
    if checked and not checked["reason"]:
        lines += [_spot_check(checked), ""]
    for pair in result["contrasts"]:
        if pair["p_value"] is None:
            lines.append(
                f"{pair['second']} compared with {pair['first']}: not tested, since "
                f"{pair['reason']}."
            )
            continue
        ends = ends_text(pair["difference_low"], pair["difference_high"], points=True)
        lines.append(
            f"The proportion of {pair['type']} differed by {100 * pair['difference']:+.1f} "
            f"percentage points{ends} in {pair['second']} compared with {pair['first']} "
            f"(odds ratio {pair['odds_ratio']:.2f}, {pair['odds_ratio_low']:.2f} to "
            f"{pair['odds_ratio_high']:.2f}; p = {pair['p_value']:.3g}"
            + (f", adjusted {pair['p_adjusted']:.3g}" if tests > 1 else "")
            + ")."
        )
    return "\n".join(lines) + "\n"


def _corrected_errors(record: RunRecord) -> str:
    if held_out_cells.why_only_calls(record):
        return "wrong calls"
    return "wrong calls, missed cells and false positives"


_TESTS = {
    WELCH: "by Welch's t-test (two-sided; Welch 1947) of the logits of the replicates' "
    "proportions",
    PAIRED: "by a paired t-test (two-sided) of the logits of the proportions, within replicates "
    "that were observed in both conditions",
}


def _tests(contrasts: Sequence[Mapping[str, Any]]) -> str:
    """Names the tests, and the conditions of each test if there are two kinds of tests."""
    pairs = {
        test: [
            f"{pair['second']} and {pair['first']}"
            for pair in contrasts
            if pair["test"] == test
        ]
        for test in _TESTS
    }
    made = [test for test in _TESTS if pairs[test]]
    if not made:
        return ""
    if len(made) == 1:
        return f"Conditions were compared {_TESTS[made[0]]}. "
    parts = [f"{', '.join(dict.fromkeys(pairs[test]))} {_TESTS[test]}" for test in made]
    return f"Conditions were compared: {'; '.join(parts)}. "


def _spot_check(checked: Mapping[str, Any]) -> str:
    """Describes the spot check and its estimate."""
    people = len(checked["labellers"])
    shares = ", ".join(
        f"{name} {100 * of['share']:.1f} %{ends_text(of['low'], of['high'])}"
        for name, of in checked["types"].items()
    )
    accuracy = ends_text(checked["accuracy_low"], checked["accuracy_high"])
    kappa = (checked["agreement"] or {}).get("kappa")
    return (
        f"As a check, {'one person' if people == 1 else f'{people} persons'}, blinded to the "
        f"calls of the network, labelled {checked['cells']} cells in {checked['windows']} "
        "windows, a stratified random sample of all fields"
        + ("" if kappa is None else f" (Cohen's kappa {kappa:.2f}; Cohen 1960)")
        + f". Of the cells that were found, {100 * checked['accuracy']:.1f} %{accuracy} were "
        "called as they were labelled. From labels and calls together, the proportions in "
        f"all fields were {shares}, estimated by prediction-powered inference (Angelopoulos "
        "et al. 2023, doi:10.1126/science.adi6000, with the tuning of arXiv:2311.01453; a "
        "difference estimator, Särndal et al. 1992). The comparison of conditions does not use the "
        "labels."
    )


def ends_text(low: float | None, high: float | None, *, points: bool = False) -> str:
    """Returns the ends of an interval of proportions in brackets; '' without an interval.

    Args:
      low: lower end, a fraction.
      high: upper end.
      points: whether they are percentage points, which are written without a unit.
    """
    if low is None or high is None:
        return ""
    unit = "" if points else " %"
    return f" ({100 * low:.1f} to {100 * high:.1f}{unit})"
