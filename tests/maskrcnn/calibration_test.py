"""Tests of cellclass_tf.maskrcnn.calibration, with made-up networks of known properties."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.maskrcnn import calibration, postprocessing

TYPES = ("HEK", "N2a")


def sure_calls(rng, count, temperature):
    """Makes predictions with known true probabilities, sharpened by a temperature below 1."""
    honest = rng.uniform(0.02, 0.98, count)
    probabilities = np.stack([honest, 1 - honest], axis=1)
    true_ids = np.where(rng.random(count) < honest, 1, 2)
    return postprocessing.at_temperature(probabilities, temperature), true_ids


@pytest.mark.parametrize("made", [0.4, 1.0, 2.5])
def test_a_temperature_that_was_applied_is_recovered(made):
    probabilities, true_ids = sure_calls(np.random.default_rng(0), 20_000, made)
    assert calibration.fit_temperature(probabilities, true_ids) == pytest.approx(
        1 / made, rel=0.05
    )


def test_a_network_without_errors_gets_a_finite_temperature():
    probabilities = np.tile([[0.8, 0.2]], (50, 1))
    temperature = calibration.fit_temperature(probabilities, np.ones(50, int))
    (sure, _) = postprocessing.at_temperature(probabilities[:1], temperature)[0]
    # 50 of 50 says no more than this.
    assert sure == pytest.approx(51 / 52, abs=0.005)


def test_detector_or_namer_is_chosen_by_the_likelihood_of_the_true_types():
    rng = np.random.default_rng(0)
    good, true_ids = sure_calls(rng, 2000, 1.0)
    poor = np.full_like(good, 0.5)
    wrong = good[:, ::-1]

    def chosen(*each):
        names = ("detector", "namer", "cellpose_features")
        return calibration.choose_naming(dict(zip(names, each, strict=False)), true_ids)

    assert chosen(good, wrong)[0] == ("detector",)
    assert chosen(wrong, good)[0] == ("namer",)
    # Two that are right do not outweigh one that is wrong and three times as sure.
    sure = wrong**3 / (wrong**3).sum(axis=1, keepdims=True)
    assert chosen(good, sure, good)[0] == ("detector", "cellpose_features")
    # Each has information that the other lacks.
    first, second = (
        np.stack([odds, 1 - odds], axis=1)
        for odds in np.clip(
            0.5 + 0.3 * (true_ids == 1) + rng.normal(0, 0.2, (2, 2000)) - 0.15,
            0.02,
            0.98,
        )
    )
    named_by, found = chosen(first, second)
    assert named_by == ("detector", "namer")
    assert found["detector+namer"] > max(found["namer"], found["detector"])
    assert len(found) == 3
    # A difference within one standard error does not leave out a classifier.
    noisy = rng.dirichlet((1, 1), 2000) * 0.2 + 0.8 * good
    likelihoods = chosen(good, noisy)[1]
    assert likelihoods["detector"] > likelihoods["detector+namer"]
    assert chosen(good, noisy)[0] == ("detector",)
    few = {"detector": good[200:300], "namer": noisy[200:300]}
    named_by, found = calibration.choose_naming(few, true_ids[200:300])
    assert found["detector"] > found["detector+namer"] + 0.002
    assert named_by == ("detector", "namer")
    # Cells that were seen several times say no more than once.
    again = {name: np.tile(values, (50, 1)) for name, values in few.items()}
    ids = np.tile(true_ids[200:300], 50)
    assert calibration.choose_naming(again, ids)[0] == ("detector",)
    assert calibration.choose_naming(again, ids, repeats=50)[0] == named_by
    # All of them, if they are equal.
    assert chosen(poor, poor)[0] == ("detector", "namer")
    assert len(chosen(poor, poor, poor)[0]) == 3
    assert len(chosen(poor, poor, poor)[1]) == 7


@pytest.mark.parametrize("common", [1, 10])
def test_a_classifier_that_favours_the_common_type_is_not_chosen(common):
    rng = np.random.default_rng(0)
    good, true_ids = sure_calls(rng, 4000, 1.0)
    # The other classifier calls nearly every cell by the first type.
    biased = np.stack([good[:, 0] ** 0.2, 1 - good[:, 0] ** 0.2], axis=1)
    first, second = (np.flatnonzero(true_ids == n)[:1000] for n in (1, 2))
    kept = np.concatenate([first, second[: 1000 // common]])
    found = {"detector": good[kept], "namer": biased[kept]}
    assert calibration.choose_naming(found, true_ids[kept])[0] == ("detector",)


def test_the_probability_of_a_single_type_needs_no_temperature(caplog):
    assert calibration.fit_temperature(np.ones((9, 1)), np.ones(9, int)) == 1
    assert not caplog.records


def test_the_namers_probabilities_are_calibrated_if_it_classifies():
    detections, true = discs(1.0)
    calibrator = calibration.Calibrator(TYPES)
    calibrator.add(detections, true)
    plain = calibrator.fit()

    def rename(cells):
        swapped = cells.probabilities[:, ::-1]
        return dataclasses.replace(
            cells, probabilities=swapped, type_ids=3 - cells.type_ids
        )

    renamed = calibrator.fit(rename)
    assert renamed.mask_threshold == plain.mask_threshold
    (one,), (other,) = renamed.held_out, plain.held_out
    assert one.confusion == tuple(row[::-1] for row in other.confusion)


def test_a_temperature_keeps_the_most_probable_type_and_the_sum():
    probabilities = np.random.default_rng(1).dirichlet(np.ones(4), 30)
    for temperature in (0.3, 3.0):
        scaled = postprocessing.at_temperature(probabilities, temperature)
        assert (scaled.argmax(axis=1) == probabilities.argmax(axis=1)).all()
        np.testing.assert_allclose(scaled.sum(axis=1), 1, rtol=1e-6)
    assert postprocessing.at_temperature(np.zeros((0, 3)), 2.0).shape == (0, 3)


def discs(sharpness):
    """Makes a field of nine discs, and detections whose masks fade across the outline."""
    y, x = np.mgrid[:120, :120]
    labels, boxes, masks = np.zeros((120, 120), np.int32), [], []
    for number in range(9):
        top, left = 40 * (number // 3), 40 * (number % 3)
        far = np.hypot(y - top - 19.5, x - left - 19.5)
        labels[far < 15] = number + 1
        # The value 0.5 is at 13 px: with that threshold, cells would be too small.
        place = (np.arange(28) + 0.5) / 28 * 40 - 20
        from_middle = np.hypot(place[:, None], place[None])
        masks.append(1 / (1 + np.exp((from_middle - 13) * sharpness)))
        boxes.append((top, left, top + 40, left + 40))
    detections = postprocessing.Detections(
        np.array(boxes, np.float32),
        np.full(9, 0.9, np.float32),
        np.tile(np.array([[0.7, 0.3]], np.float32), (9, 1)),
        np.array(masks, np.float16),
        np.zeros((9, 0), np.float32),
    )
    return detections, Cells.from_labels(labels, TYPES, "HEK")


def test_with_the_fitted_mask_threshold_cells_have_their_true_size():
    detections, true = discs(sharpness=0.35)
    calibrator = calibration.Calibrator(TYPES)
    calibrator.add(detections, true)
    found = calibrator.fit()
    # 2 px beyond the place where the masks are 0.5.
    assert found.mask_threshold == pytest.approx(1 / (1 + np.exp(0.7)), abs=0.03)
    cells = postprocessing.cells_from_detections(
        detections, (120, 120), TYPES, mask_threshold=found.mask_threshold
    )
    np.testing.assert_allclose(cells.areas_px, true.areas_px, rtol=0.05)
    assert found.accuracy == 1
    assert found.cells == 9
    assert found.after.expected_error < found.before.expected_error


def test_without_matched_cells_there_is_no_calibration():
    assert calibration.Calibrator(TYPES).fit() is None
    detections, _ = discs(sharpness=1.0)
    calibrator = calibration.Calibrator(TYPES)
    calibrator.add(detections, Cells.from_labels(np.zeros((120, 120), int), TYPES))
    assert calibrator.fit() is None


def test_the_score_threshold_is_between_false_positives_and_cells():
    _, true = discs(sharpness=0.35)
    scores = np.concatenate([np.full(9, 0.9), np.full(4, 0.4)]).astype(np.float32)
    pairs = np.stack([np.arange(9), np.arange(9)], axis=1) + 1
    # Nine cells are found, and four false positives have a low score.
    labels = np.pad(true.labels, [(0, 20), (0, 0)])
    for number in range(4):
        labels[125:135, 5 + 20 * number : 15 + 20 * number] = 10 + number
    found = Cells(
        labels, TYPES, np.ones(13, np.int32), scores, np.tile([1.0, 0], (13, 1))
    )
    field = calibration.Matched.of(true, found, pairs)
    least = calibration.best_score_threshold([field])
    assert least == pytest.approx((0.4 + 0.9) / 2, abs=0.02)
    # As few of the given outlines as possible are left out.
    named = calibration.best_score_threshold([field], of_network=False)
    assert named == pytest.approx(0.4, abs=0.02)
    assert named > 0.4
    none = calibration.Matched.of(true, found, np.zeros((0, 2), int))
    assert calibration.best_score_threshold([none]) == 0.3
    assert calibration.best_score_threshold([none], of_network=False) == 0


def test_cells_in_the_annotated_outlines_are_all_kept():
    _, true = discs(sharpness=0.35)
    calls = np.tile([[0.9, 0.1]], (9, 1)).astype(np.float32)
    calls[0] = (0.2, 0.8)
    scores = np.linspace(0.05, 0.9, 9, dtype=np.float32)
    found = Cells(true.labels, TYPES, np.ones(9, np.int32), scores, calls)
    measured = calibration.calibrate_named([calibration.Matched.of(true, found)])
    assert measured.score_threshold == 0
    assert measured.mask_threshold is None
    (outcome,) = measured.held_out
    assert outcome.confusion == ((8, 1), (0, 0))
    assert outcome.missed == outcome.invented == (0, 0)
    assert calibration.calibrate_named([]) is None


def test_each_cell_is_counted_once_as_found_missed_or_false_positive():
    """Of eight HEK and one unknown cell, the last two are missed; one is a false positive."""
    _, true = discs(sharpness=0.35)
    types = np.array([1] * 8 + [0], np.int32)
    true = dataclasses.replace(true, type_ids=types)
    labels = np.where(true.labels < 8, true.labels, 0)
    labels[:, :2] = 0
    labels[0, 40:42] = 8
    calls = np.tile(np.array([[0.9, 0.1]], np.float32), (8, 1))
    calls[0], calls[7] = (0.2, 0.8), (0.3, 0.7)
    scores = np.full(8, 0.9, np.float32)
    # The score is below the threshold.
    scores[1] = 0.2
    found = Cells(labels, TYPES, np.ones(8, np.int32), scores, calls)
    origin = calibration.Origin("dish", 12.34567)
    outcome = calibration.Matched.of(true, found, origin=origin).outcome(0.5)
    assert outcome.confusion == ((5, 1), (0, 0))
    assert outcome.missed == (2, 0)
    assert outcome.invented == (0, 1)
    assert (outcome.group, outcome.area) == ("dish", 12.346)


def test_cells_of_composed_fields_are_not_counted_again():
    _, true = discs(sharpness=0.35)
    found = Cells(
        true.labels,
        TYPES,
        np.ones(9, np.int32),
        np.full(9, 0.9, np.float32),
        np.tile(np.array([[0.9, 0.1]], np.float32), (9, 1)),
    )
    fields = [
        calibration.Matched.of(true, found, origin=calibration.Origin(is_composed=both))
        for both in (False, True)
    ]
    measured = calibration.calibrate_named(fields)
    assert measured.cells == 18
    assert measured.fields == 2
    assert [field.confusion for field in measured.held_out] == [((9, 0), (0, 0))]
