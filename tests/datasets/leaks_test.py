"""Tests of cellclass_tf.datasets.leaks: planted leaks, each of which must be found."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cellclass_tf.datasets import leaks
from cellclass_tf.errors import InputError

TYPES = ("HEK", "N2a")
SIZE = 64


@dataclasses.dataclass(frozen=True)
class Planted:
    """A record that a test plants; each cell has 4 x 4 px."""

    split: str
    name: str
    group: str
    seed: int
    sources: Sequence[str] = ()
    area_px: int = 16
    extra_cells: int = 0
    box_off: int = 0
    typed: Sequence[int] = (0, 1)
    shift: int = 0


CLEAN = (
    Planted("train", "HEK/a.png", "d1", 1),
    Planted("train", "N2a/b.png", "d2", 2),
    Planted("validation", "HEK/c.png", "d3", 3),
    Planted("validation", "N2a/d.png", "d4", 4),
    Planted("test", "HEK/g.png", "d6", 7),
    Planted("test", "N2a/h.png", "d7", 8),
    Planted("mixed", "mixed/e.png", "d5", 5),
    Planted("composed", "mixed/f.png", "", 6, ("HEK/c.png", "N2a/d.png")),
)


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes planted records in the format of `cell_types`."""

    VERSION = tfds.core.Version("2.0.0")

    def __init__(self, fields, draw, **options):
        self._fields, self._draw = fields, draw
        super().__init__(**options)

    def _info(self):
        features = tfds.features
        cell = {
            "box": features.BBoxFeature(),
            "type": features.ClassLabel(names=TYPES),
            "area_px": features.Scalar(np.int64),
        }
        image = {
            "image": features.Image(shape=(None, None, 3)),
            "labels": features.Image(
                shape=(None, None, 1), dtype=np.uint16, encoding_format="png"
            ),
            "cells": features.Sequence(cell),
            "image_name": features.Text(),
            "culture": features.ClassLabel(names=[*TYPES, "mixed"]),
            "group": features.Text(),
            "pixel_size_um": features.Scalar(np.float32),
        }
        if any(field.sources for field in self._fields):
            image["sources"] = features.Sequence(features.Text())
        self._columns = tuple(image)
        return tfds.core.DatasetInfo(
            builder=self, features=features.FeaturesDict(image)
        )

    def _split_generators(self, dl_manager):
        splits = dict.fromkeys(field.split for field in self._fields)
        return {split: self._generate_examples(split) for split in splits}

    def _generate_examples(self, split):
        for number, field in enumerate(self._fields):
            if field.split == split:
                yield number, self._example(field)

    def _example(self, field):
        culture = field.name.split("/")[0]
        labels = np.zeros((SIZE, SIZE, 1), np.uint16)
        cells = []
        for place, kind in enumerate(TYPES if culture == "mixed" else (culture,)):
            left = 8 + 8 * place
            labels[8:12, left : left + 4] = place + 1
            first, last = (left + field.box_off) / SIZE, (left + 4) / SIZE
            box = tfds.features.BBox(8 / SIZE, first, 12 / SIZE, last)
            kind = kind if place in field.typed else -1
            cells.append({"box": box, "type": kind, "area_px": field.area_px})
        image = np.roll(self._draw(field.seed, SIZE), field.shift, axis=1)
        example = {
            "image": image,
            "labels": labels,
            "cells": cells + cells[:1] * field.extra_cells,
            "image_name": field.name,
            "culture": culture,
            "group": field.group,
            "pixel_size_um": 0.325,
            "sources": list(field.sources),
        }
        return {name: example[name] for name in self._columns}


@pytest.fixture
def prepare(tmp_path, draw_scene):
    def prepared(*fields):
        builder = Builder(fields, draw_scene, data_dir=tmp_path)
        builder.download_and_prepare()
        return pathlib.Path(builder.data_dir)

    return prepared


def changed(of, /, **changes):
    return [
        dataclasses.replace(field, **changes) if field.name == of else field
        for field in CLEAN
    ]


def only_leak(report):
    assert not report.passed
    assert not report.damage
    (leak,) = report.leaks
    assert str(report).splitlines()[-2] == f"Leak: {leak}"
    return leak


def test_a_clean_dataset_passes_and_is_counted(prepare):
    report = leaks.check_dataset(prepare(*CLEAN))
    assert report.passed
    assert not report.remarks
    assert report.fields == 8
    assert leaks.Count("train", "HEK", 1, 1, 1) in report.table
    assert leaks.Count("mixed", "N2a", 1, 1, 1) in report.table
    assert leaks.Count("composed", "HEK", 1, 0, 1) in report.table
    assert str(report).splitlines()[0].split() == [
        "split",
        "type",
        "fields",
        "groups",
        "cells",
    ]
    assert (
        str(report)
        .splitlines()[-1]
        .startswith("Leaks: 0, damaged records: 0, in 8 fields")
    )


def test_a_dataset_without_sources_and_composed_fields_is_checked_too(prepare):
    assert leaks.check_dataset(prepare(*CLEAN[:-1])).passed


@pytest.mark.parametrize(
    ("typed", "counts"),
    [((), [("unknown", 1, 2)]), ((1,), [("N2a", 1, 1), ("unknown", 1, 1)])],
)
def test_fields_without_types_are_trained_on(prepare, typed, counts):
    untyped = Planted("untyped", "mixed/u.png", "d1", 9, typed=typed)
    report = leaks.check_dataset(prepare(*CLEAN, untyped))
    assert report.passed
    rows = [row for row in report.table if row.split == "untyped"]
    assert [(row.cell_type, row.fields, row.cells) for row in rows] == counts
    assert not any("untyped" in remark for remark in report.remarks)


@pytest.mark.parametrize(
    ("group", "seed", "said"), [("d3", 9, "Group 'd3'"), ("d9", 5, "the same pixels")]
)
def test_an_untyped_field_that_shows_a_test_scene_is_found(prepare, group, seed, said):
    untyped = Planted("untyped", "mixed/u.png", group, seed, typed=())
    assert said in only_leak(leaks.check_dataset(prepare(*CLEAN, untyped)))


def test_unknown_types_elsewhere_are_damage(prepare):
    report = leaks.check_dataset(prepare(*changed("mixed/e.png", typed=())))
    assert "types [-1]" in report.damage[0]


def test_a_group_in_two_splits_is_found(prepare):
    leak = only_leak(leaks.check_dataset(prepare(*changed("HEK/c.png", group="d1"))))
    assert "'d1' is in the splits train (HEK/a.png) and validation (HEK/c.png)" in leak


def test_an_image_name_in_two_splits_is_found(prepare):
    leak = only_leak(
        leaks.check_dataset(prepare(*changed("HEK/g.png", name="HEK/a.png")))
    )
    assert leak.startswith("HEK/a.png is in the dataset 2 times, in test and train.")


def test_the_same_pixels_in_two_splits_are_found(prepare):
    leak = only_leak(leaks.check_dataset(prepare(*changed("N2a/d.png", seed=2))))
    assert "N2a/b.png (split train, group 'd2')" in leak
    assert "N2a/d.png (split validation, group 'd4') have the same pixels" in leak


def test_a_near_duplicate_of_a_scene_is_found(prepare):
    fields = changed("N2a/d.png", seed=2, shift=1)
    leak = only_leak(leaks.check_dataset(prepare(*fields)))
    assert "N2a/b.png" in leak
    assert "N2a/d.png" in leak
    assert "of 256 bits: they show one scene" in leak


def test_a_composed_field_may_resemble_its_sources_but_not_training_fields(prepare):
    assert leaks.check_dataset(prepare(*changed("mixed/f.png", seed=3))).passed


def test_a_composed_field_that_resembles_a_training_field_is_found(prepare):
    fields = changed("mixed/f.png", seed=1)
    assert "HEK/a.png (split train" in only_leak(leaks.check_dataset(prepare(*fields)))


def test_a_mixed_field_that_is_trained_on_is_found(prepare):
    fields = changed("mixed/e.png", split="train")
    leak = only_leak(leaks.check_dataset(prepare(*fields)))
    assert leak.startswith(
        "mixed/e.png of group 'd5' is a mixed field in the split train"
    )


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (("HEK/a.png",), "was made from HEK/a.png, which is in train and not in valid"),
        (("HEK/x.png",), "was made from HEK/x.png, which is in no split"),
    ],
)
def test_a_composed_field_of_sources_not_held_out_is_found(prepare, sources, expected):
    fields = changed("mixed/f.png", sources=sources)
    assert expected in only_leak(leaks.check_dataset(prepare(*fields)))


def test_a_composed_field_without_sources_is_found(prepare):
    fields = changed("mixed/f.png", sources=())
    assert "names no sources" in only_leak(leaks.check_dataset(prepare(*fields)))


def test_sources_of_training_fields_are_in_training(prepare):
    fields = changed("N2a/b.png", sources=("HEK/c.png",))
    leak = only_leak(leaks.check_dataset(prepare(*fields)))
    assert (
        "N2a/b.png of the split train was made from HEK/c.png, which is in val" in leak
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"area_px": 15}, "cell 1 has 15 px, but 16 in the label image"),
        ({"box_off": 1}, "cell 1 has another box than in the label image"),
        ({"extra_cells": 1}, "2 cells, but 1 in the label image"),
    ],
)
def test_cells_that_contradict_their_label_image_are_found(prepare, change, expected):
    report = leaks.check_dataset(prepare(*changed("HEK/a.png", **change)))
    (fault,) = report.damage
    assert not report.passed
    assert not report.leaks
    assert fault.startswith(f"Split train, HEK/a.png: {expected}")


def test_a_type_outside_the_names_is_found(prepare):
    folder = prepare(*CLEAN)
    (labels,) = folder.glob("cells-type.labels.txt")
    labels.write_text("HEK\n")
    description = (folder / "features.json").read_text()
    (folder / "features.json").write_text(
        description.replace('"numClasses": "2"', '"numClasses": "1"')
    )
    report = leaks.check_dataset(folder)
    # N2a of train, validation and test, the mixed field and the composed one.
    assert len(report.damage) == 5
    assert "cells have the types [1], but there are only 0 to 0" in report.damage[0]


def test_a_split_without_a_type_is_a_remark(prepare):
    report = leaks.check_dataset(prepare(*(f for f in CLEAN if f.name != "N2a/h.png")))
    assert report.passed
    (remark,) = report.remarks
    assert remark.startswith("The split test has no cells of N2a, which composed and")


def test_the_error_names_a_broken_record(prepare):
    folder = prepare(*CLEAN)
    (shard,) = folder.glob("*-validation.tfrecord*")
    content = bytearray(shard.read_bytes())
    content[-40] ^= 255
    shard.write_bytes(content)
    with pytest.raises(InputError, match="record 2 of 2 of the split validation") as e:
        leaks.check_dataset(folder)
    assert shard.name in str(e.value)
    assert "cellclass dataset" in str(e.value)


def test_the_error_names_a_truncated_or_missing_file(prepare):
    folder = prepare(*CLEAN)
    (shard,) = folder.glob("*-test.tfrecord*")
    shard.write_bytes(b"")
    with pytest.raises(InputError, match="record 1 of 2 of the split test"):
        leaks.check_dataset(folder)
    shard.unlink()
    with pytest.raises(InputError, match="record 1 of 2 of the split test"):
        leaks.check_dataset(folder)


def test_a_folder_without_a_prepared_dataset_is_refused(tmp_path, prepare):
    with pytest.raises(InputError, match=r"dataset_info\.json"):
        leaks.check_dataset(tmp_path)
    folder = prepare(*CLEAN)
    (folder / "features.json").write_text("{")
    with pytest.raises(InputError, match="description cannot be read"):
        leaks.check_dataset(folder)
