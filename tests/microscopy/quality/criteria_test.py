"""Tests of cellclass_tf.microscopy.quality.criteria."""

import dataclasses
import warnings

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.datasets.culture import field, looks
from cellclass_tf.microscopy.quality import criteria, figures
from cellclass_tf.microscopy.quality.figures import Figures
from cellclass_tf.storage import png

GOOD = Figures(
    focus_slope=-3.5,
    focus_laplacian=-2.0,
    saturated_share=0.0,
    nuclei_estimate=50,
    nucleus_px=30.0,
    specks_per_nucleus=0.1,
    debris_share=0.0,
    glow_share=0.1,
    unevenness=0.3,
)


def measure(pixels):
    return figures.measure(Micrograph(pixels, ("nuclei", "cytoplasm")), (0, 1))


def changed(**values):
    return dataclasses.replace(GOOD, **values)


def simulated(cells=None, **dish_values):
    rng = np.random.default_rng(0)
    dish = dataclasses.replace(looks.Dish.random(rng), **dish_values)
    drawn = field.simulate_field(
        {"HEK": 1}, size_px=400, rng=rng, dish=dish, cells=cells
    )
    return drawn.pixels


def reasons(pixels):
    return [
        part.split(":")[0] for part in criteria.judge([measure(pixels)])[0].split("; ")
    ]


def test_a_good_field_is_accepted_and_a_blurred_one_is_not():
    assert reasons(simulated()) == [""]
    assert reasons(simulated(blur_um=4 * 0.325)) == ["out of focus"]


def test_focus_does_not_depend_on_brightness():
    pixels = simulated()
    dim = measure((pixels // 3).astype(np.uint16))
    assert dim.focus_laplacian == pytest.approx(
        measure(pixels).focus_laplacian, abs=0.1
    )


def test_noise_is_not_taken_for_sharpness():
    blurred = ndimage.gaussian_filter(simulated().astype(float), (0, 4, 4))
    noise = np.random.default_rng(1).normal(0, 20, blurred.shape)
    noisy = np.clip(blurred + noise, 0, 65535).astype(np.uint16)
    assert criteria.focus_score(measure(noisy)) < 0


def test_a_stronger_objective_does_not_make_a_field_blurred():
    pixels = simulated()
    enlarged = ndimage.zoom(pixels.astype(float), (1, 2.5, 2.5), order=1)
    measured = measure(np.clip(enlarged, 0, 65535).astype(np.uint16))
    assert criteria.focus_score(measured) > 0


def test_a_few_specks_without_cytoplasm_are_not_nuclei():
    assert measure(simulated(cells=0, debris_per_mm2=300.0)).nuclei_estimate == 0
    assert measure(simulated(cells=3, debris_per_mm2=0.0)).nuclei_estimate > 0


@pytest.mark.parametrize("shape", [(2, 16, 16), (2, 64, 64), (2, 30, 2000)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_fields_without_anything_are_empty_and_raise_no_warning(shape, dtype):
    noise = np.random.default_rng(0).integers(90, 110, shape).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pixels in (noise, np.full(shape, 7, dtype), np.zeros(shape, dtype)):
            measured = measure(pixels)
            assert all(np.isfinite(v) for v in dataclasses.astuple(measured))
            assert criteria.judge([measured]) == ["empty: no nucleus was found"]


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (changed(focus_laplacian=-3.4), "out of focus: sharpness -0.65 (limit 0.00)"),
        (changed(saturated_share=0.02), "saturated: share of pixels 2.0% (limit 1.0%)"),
        (changed(specks_per_nucleus=3.0), "debris: specks for each nucleus 3.0 (limit"),
        (changed(debris_share=0.1), "debris: bright share of pixels 10.0% (limit"),
        (changed(glow_share=0.7), "glow: "),
        (changed(unevenness=0.9), "uneven light: "),
        (changed(nuclei_estimate=0, nucleus_px=0.0), "empty: "),
        (changed(bare_share=0.9), "no cytoplasm: share of nuclei without 90.0% (limit"),
        (
            changed(channel_likeness=0.99),
            "one channel twice: likeness of the channels 0.990",
        ),
        (changed(cut_off_share=0.5), "cut off: part without one channel 50.0% (limit"),
        (changed(scale_bar_px=60), "scale bar: length in px 60 (limit 0)"),
    ],
)
def test_every_reason_is_given_with_value_and_limit(measured, reason):
    (found,) = criteria.judge([measured])
    assert found.startswith(reason)
    assert found.split(":")[0] in criteria.REASONS


def test_several_reasons_are_joined():
    (found,) = criteria.judge([changed(saturated_share=0.02, glow_share=0.7)])
    assert [part.split(":")[0] for part in found.split("; ")] == ["saturated", "glow"]


def test_unusual_fields_of_a_group_are_rejected_below_the_fixed_limit():
    # Sharpness 0.2 is above the limit of 0, but far from the others' 0.7 or so.
    doubtful = changed(focus_laplacian=-2.55, nucleus_px=20.0)
    others = [changed(focus_laplacian=-2.05 + 0.01 * i) for i in range(12)]
    assert criteria.judge([doubtful]) == [""]
    (found, *rest) = criteria.judge([doubtful, *others])
    assert found.startswith("out of focus")
    assert "its group's bound" in found
    assert rest == [""] * 12


def test_a_few_spots_much_smaller_than_the_groups_nuclei_are_not_cells():
    debris = changed(nuclei_estimate=2, nucleus_px=8.0)
    assert criteria.judge([debris]) == [""]
    assert criteria.judge([debris, *[GOOD] * 12])[0].startswith("empty")


def test_the_worst_fields_come_first():
    order = [changed(saturated_share=s) for s in (0.5, 0.02, 0.0)]
    found = [criteria.severity(f, criteria.judge([f])[0]) for f in order]
    assert found == sorted(found, reverse=True)


def test_real_fields_are_accepted(assets):
    hek = np.moveaxis(png.read_png(assets / "images" / "hek" / "hek_0004.png"), -1, 0)
    u2os = tifffile.imread(assets / "images" / "bbbc022" / "IXMtest_A02_s9.tif")
    embryo = tifffile.imread(
        assets / "microscope_files" / "tif" / "sample_EmbryoTorax_multichannel.tif"
    )
    for pixels in (hek[[2, 1]], u2os[:2], embryo):
        assert reasons(pixels) == [""]
        blurred = ndimage.gaussian_filter(pixels, (0, 6, 6))
        assert reasons(blurred) == ["out of focus"]


def test_a_field_full_of_cells_is_not_empty():
    assert reasons(simulated(cells_per_mm2=3500.0)) == [""]


def test_a_dark_channel_does_not_count_in_the_sharpness():
    pixels = simulated(blur_um=6 * 0.325)
    pixels[1] = 100
    assert criteria.focus_score(measure(pixels)) < 0


def test_accepted_fields_are_sorted_by_the_criterion_nearest_to_its_limit():
    hazier = criteria.severity(changed(glow_share=0.39), "")
    assert hazier > criteria.severity(changed(saturated_share=0.004), "")
    assert hazier < criteria.severity(GOOD, "saturated: 2%")
