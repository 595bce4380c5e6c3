"""Measures the fields of one raw file, and later merges their channels."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import channel_strip, channels, contrast, merge, readers
from cellclass_tf.microscopy.files import channel_files
from cellclass_tf.microscopy.files.raw_files import RawFile
from cellclass_tf.microscopy.measurement import FieldMeasurement, FileMeasurement
from cellclass_tf.microscopy.quality import figures, verdicts
from cellclass_tf.splits import near_duplicates
from cellclass_tf.storage import ledger, paths, png


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a conversion that apply to each file; see `conversion.convert`."""

    nuclei: str | int | None
    cytoplasm: str | int | None
    projection: str
    contrast: str
    allow_lossy: bool = False


@dataclasses.dataclass(frozen=True)
class MeasuringTask:
    """The arguments of `measure`: one raw file.

    Attributes:
      study: the study.
      raw: the raw file.
      options: the options.
      histograms: file to write the histograms to.
    """

    study: Study
    raw: RawFile
    options: Options
    histograms: pathlib.Path


@dataclasses.dataclass(frozen=True)
class ConvertingTask:
    """The arguments of `convert`: one raw file, and what the first pass measured.

    Attributes:
      study: the study.
      raw: the raw file.
      options: the options.
      stem: TYPE/NAME of its images, to which each field adds its suffix.
      groups: acquisition groups of its fields.
      contrast_group: group of fields that share contrast limits.
      limits: contrast limits by key; fields without any are stretched on their own.
      fields: measurements of its fields, in the file's order.
      images: SHA-256s of its merged images that the manifest lists.
    """

    study: Study
    raw: RawFile
    options: Options
    stem: str
    groups: tuple[str, ...]
    contrast_group: str
    limits: dict[contrast.Key, contrast.Limits]
    fields: tuple[FieldMeasurement, ...]
    images: frozenset[str] = frozenset()


def measure(task: MeasuringTask) -> dict[str, Any]:
    """Measures a file's fields, and writes their histograms.

    Returns:
      The JSON content of a `FileMeasurement`.
    """
    fields: list[FieldMeasurement] = []
    histograms: list[np.ndarray] = []
    places: dict[contrast.Key, int] = {}
    for micrograph, chosen in _fields(task.study, task.raw, task.options, hashed=False):
        field = FieldMeasurement(
            scene=micrograph.scene,
            time=micrograph.time,
            z=micrograph.z,
            nuclei_channel=_channel_name(micrograph, chosen.nuclei),
            cytoplasm_channel=_channel_name(micrograph, chosen.cytoplasm),
            figures=figures.measure(micrograph, chosen[:2]),
            pixel_size_problem=micrograph.pixel_size_problem,
            well=micrograph.well,
            bits=8 * micrograph.pixels.itemsize,
        )
        if not merge.is_merged(micrograph):
            place = places.setdefault(field.contrast_key(""), len(places))
            counts = merge.histograms(micrograph, chosen)
            if place == len(histograms):
                histograms.append(counts)
            else:
                histograms[place] += counts
            field = dataclasses.replace(field, histogram=place)
        fields.append(field)
    if not fields:
        raise InputError(f"{task.raw.path}: the file holds no image.")
    contrast.write_histograms(task.histograms, histograms)
    left_out = readers.colour_scenes(task.raw.path)
    found = FileMeasurement(task.histograms.name, tuple(fields), left_out)
    return found.as_content()


def _fields(
    study: Study, raw: RawFile, options: Options, *, hashed: bool
) -> Iterator[tuple[Micrograph, channels.Channels]]:
    """Yields the fields, with 8- or 16-bit pixels, and their channels."""

    def choose(micrograph: Micrograph) -> channels.Channels:
        return channels.choose_channels(
            micrograph,
            nuclei=options.nuclei,
            cytoplasm=options.cytoplasm,
            rules=study.channel_rules,
            emission_nm=study.emission_nm,
        )

    def judged(micrograph: Micrograph) -> Sequence[int]:
        try:
            return choose(micrograph)[:2]
        # The error is reported below, unless a file holds only one of the channels.
        except InputError:
            return range(len(micrograph.pixels))

    found = channel_files.read(
        raw.files.paths,
        raw.files.channels,
        projection=options.projection,
        hashed=hashed,
        allow_lossy=options.allow_lossy,
        judged=judged,
    )
    for micrograph in found:
        micrograph = merge.with_whole_numbers(micrograph)
        try:
            chosen = choose(micrograph)
        except channels.ChannelDoubt as doubt:
            picture = _draw_channels(study, micrograph)
            raise InputError(f"{doubt} A picture of them: {picture}") from doubt
        _check_no_channel_is_missing(raw, micrograph, chosen, options)
        yield micrograph, chosen


def _check_no_channel_is_missing(
    raw: RawFile, micrograph: Micrograph, chosen: channels.Channels, options: Options
) -> None:
    """Refuses a set that lacks a file if this makes it doubtful which channel is meant.

    Raises:
      InputError: if an index is that of another channel in complete sets, or the remaining
        channel was taken.
    """
    files = raw.files
    if not files.missing:
        return
    wanted = zip((options.nuclei, options.cytoplasm), chosen[:2], strict=True)
    moved = any(
        channels.is_index(micrograph, index)
        and files.channels[channel] != files.in_folder[channel]
        for index, channel in wanted
    )
    if moved or channels.REMAINING in chosen.by:
        raise InputError(
            f"{raw.path.parent / files.name}: the file of {' and '.join(files.missing)} is "
            f"missing, which other fields of the folder have (they have "
            f"{', '.join(files.in_folder)}). Copy it again, or name both channels: "
            "--nuclei=NAME --cytoplasm=NAME."
        )


def _draw_channels(study: Study, micrograph: Micrograph) -> pathlib.Path:
    """Draws a field's channels, once for all files of a folder with the same channels."""
    listing = channels.listing(micrograph)
    name = re.sub(r"[^\w+-]+", "_", listing)[:60].strip("_")
    folder = os.path.dirname(micrograph.file)
    digest = hashlib.sha256(f"{folder}\0{listing}".encode()).hexdigest()[:6]
    path = study.root / "channels" / f"{name}-{digest}.png"
    if not path.exists():
        drawn = png.encode_png(channel_strip.draw(micrograph))
        ledger.write_picture(study.root, path, drawn)
    return path


def _channel_name(micrograph: Micrograph, channel: int) -> str:
    return micrograph.channel_names[channel] or str(channel)


def convert(task: ConvertingTask) -> list[dict]:
    """Writes the merged images of a file, and returns their rows of the manifest."""
    rows = []
    found = _fields(task.study, task.raw, task.options, hashed=True)
    fields = zip(task.fields, task.groups, strict=True)
    for (micrograph, chosen), (field, group) in zip(found, fields, strict=True):
        rows.append(_convert_field(task, micrograph, chosen, field, group))
    return [dataclasses.asdict(row) for row in rows]


def _convert_field(
    task: ConvertingTask,
    micrograph: Micrograph,
    chosen: channels.Channels,
    field: FieldMeasurement,
    group: str,
) -> ImageRow:
    limits, contrast_by = _limits_of_field(task, micrograph, chosen, field)
    stage_x_um, stage_y_um = micrograph.stage_um or (None, None)
    merged = merge.merged_image(micrograph, chosen, limits)
    clipped = [
        round(merge.clipped_share(micrograph, channel, limit), 6)
        for channel, limit in zip(chosen[:2], limits, strict=True)
    ]
    row = ImageRow(
        image=f"{task.stem}{field.suffix}.png",
        cell_type=task.raw.cell_type,
        group=group,
        raw_file=task.raw.name,
        raw_sha256=micrograph.sha256,
        raw_reader=micrograph.reader,
        scene=micrograph.scene,
        scene_name=micrograph.scene_name,
        time=micrograph.time,
        z=micrograph.z,
        nuclei_channel=field.nuclei_channel,
        cytoplasm_channel=field.cytoplasm_channel,
        channels_by=chosen.by,
        contrast_group=task.contrast_group,
        contrast=contrast_by,
        nuclei_limits=contrast.limits_text(limits[0]),
        cytoplasm_limits=contrast.limits_text(limits[1]),
        nuclei_clipped=clipped[0],
        cytoplasm_clipped=clipped[1],
        pixel_size_um=micrograph.pixel_size_um,
        stage_x_um=stage_x_um,
        stage_y_um=stage_y_um,
        **dataclasses.asdict(field.figures),
    )
    for text in (row.scene_name, row.nuclei_channel, row.cytoplasm_channel):
        paths.check_name(text)
    path = task.study.image_path(row)
    content = _png_of(merged, path)
    ledger.write_bytes(task.study.root, path, content, own=task.images)
    verdicts.write_thumbnail(task.study, row, merged)
    return dataclasses.replace(
        row,
        image_sha256=hashlib.sha256(content).hexdigest(),
        scene_hash=near_duplicates.scene_hash(merged),
    )


def _png_of(merged: np.ndarray, path: pathlib.Path) -> bytes:
    """Returns the PNG of a merged image: that of an earlier run, if it has the same pixels.

    Another version of the encoder would write other bytes, and everything that was made
    from the image would seem to be out of date.
    """
    # A missing or damaged file is written anew.
    with contextlib.suppress(InputError):
        if np.array_equal(png.read_png(path), merged):
            return path.read_bytes()
    return png.encode_png(merged)


def _limits_of_field(
    task: ConvertingTask,
    micrograph: Micrograph,
    chosen: channels.Channels,
    field: FieldMeasurement,
) -> tuple[contrast.Limits, str]:
    """Returns the contrast limits, and 'group', 'field' or 'kept'."""
    if merge.is_merged(micrograph):
        return contrast.KEPT, "kept"
    key = field.contrast_key(task.contrast_group)
    if key in task.limits:
        return task.limits[key], "group"
    return merge.contrast_limits([merge.histograms(micrograph, chosen)]), "field"
