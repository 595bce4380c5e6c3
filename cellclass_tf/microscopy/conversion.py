"""Converts raw microscope files to merged images and rows of the manifest."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cellclass_tf import batch, process_state, versions
from cellclass_tf.core.manifest import LIKENESS, ORIGIN, QUALITY, columns_of
from cellclass_tf.core.study import MIXED, ImageRow, Study
from cellclass_tf.core.study_settings import DEFAULT_CELL_TYPES
from cellclass_tf.errors import InputError
from cellclass_tf.messages import logger
from cellclass_tf.microscopy import (
    channel_checks,
    contrast_checks,
    conversion_settings,
    dishes,
    one_file,
)
from cellclass_tf.microscopy import contrast as contrasts
from cellclass_tf.microscopy.files import earlier_images, image_names, raw_files
from cellclass_tf.microscopy.files.raw_files import RawFile
from cellclass_tf.microscopy.measurement import FieldMeasurement, FileMeasurement
from cellclass_tf.microscopy.quality import verdicts
from cellclass_tf.microscopy.readers import Projection
from cellclass_tf.storage import digests, lock, paths


@process_state.keep()
@lock.writes("study", creates=True)
@batch.takes_engine
def convert(
    input: str | os.PathLike,
    study: str | os.PathLike | Study,
    *,
    cell_type: str | None = None,
    nuclei: str | int | None = None,
    cytoplasm: str | int | None = None,
    projection: Projection | None = None,
    group: str | None = None,
    channel_files: str | None = None,
    contrast: contrasts.Contrast | None = None,
    change_settings: bool = False,
    allow_lossy: bool = False,
    limit_s: float = 120.0,
    engine: batch.Engine,
) -> batch.Outcome:
    """Converts raw files to the study's merged images, and judges their quality.

    Each file is read twice: first to measure contrast and quality, then to merge its
    channels. A field that `criteria.judge` rejects is listed in the manifest with the
    reason, and left out of the dataset; STUDY/quality holds a contact sheet of each
    group. If the channels of a file cannot be identified, the file is skipped, and
    STUDY/channels holds a picture of its channels.

    A study remembers its settings. A setting that is None keeps the value of the last
    conversion (for channels: the last conversion of this input); '' clears it. A type,
    group, pixel size or verdict that a person wrote into the manifest is kept, too.

    Args:
      input: a file, or a folder whose sub-folders are named after cell types (or
        `mixed`), or a folder of one type with `cell_type`.
      study: folder of the study; it is made if it does not exist.
      cell_type: type of all files (or `mixed`), if the sub-folders do not name it.
      nuclei: name or index of the channel with the nuclei; found by its name if not given.
      cytoplasm: name or index of the channel with the cytoplasm; found by its name if not
        given.
      projection: how a Z stack becomes one plane: 'max' takes the brightest value at each
        pixel, 'best' the sharpest plane, 'none' refuses stacks. If not given, as in the
        last conversion, or 'max'.
      group: regular expression that finds the name of the dish or slide in a file's path
        (what its first parentheses match, if it has any). Files of one dish stay in one split
        and share contrast limits. If not given, as in the last conversion; in a new study
        the folder names the dish of files that lie in TYPE/DISH/FILE, and each other file
        is a group of its own (of a plate in OME-Zarr, each well).
      channel_files: for folders with one file per channel: regular expression with a group
        (?P<channel>...), searched in file names. The names that MetaXpress writes are known.
      contrast: which images share contrast limits: 'group' sets the limits of a dish at its
        first conversion and keeps them for files that are added later; 'anew' measures
        them again over the files of this call; 'field' stretches each field on its own,
        so that brightness cannot be compared between fields. If not given, as in the last
        conversion, or 'group'.
      change_settings: convert with settings other than those with which images of the study
        were made. Without it, such a call is refused, and says what would change.
      allow_lossy: also read JPEG and other compression that has changed pixel values.
      limit_s: seconds that one file may take, plus one second for each megabyte. Applies to
        worker processes.
      processes: number of worker processes. With 1, a crash in a reader ends the command.
      engine: what runs the jobs; see docs/scaling.md.
      beam_options: flags for Apache Beam, with commas between them, such as
        '--runner=FlinkRunner,--parallelism=8'.

    Returns:
      The outcome by raw file.

    Raises:
      InputError: if there is nothing to convert, or the cell type of the files is not
        known.
    """
    if contrast and contrast not in contrasts.CHOICES:
        raise InputError(
            f"Unknown contrast {contrast!r}; known are {', '.join(contrasts.CHOICES)}."
        )
    # Files are known by their paths, and two folders can both be called raw.
    source = pathlib.Path(os.path.abspath(input))
    root = study.root if isinstance(study, Study) else pathlib.Path(study)
    given = {
        "nuclei": nuclei,
        "cytoplasm": cytoplasm,
        "projection": projection,
        "group": group,
        "channel_files": channel_files,
        "contrast": contrast,
    }
    asked = conversion_settings.recall(
        root,
        source,
        given,
        images=len(Study.open(root).rows()) if Study.exists(root) else 0,
        change=change_settings,
    )
    raws, failures, notes = raw_files.find(
        source,
        cell_type,
        asked.group,
        asked.channel_files,
        allow_lossy=allow_lossy,
    )
    study = _open_or_create(study, raws)
    raws, unknown = _of_known_types(study, raws)
    _warn_of_groups_of_many_types(raws)
    options = one_file.Options(
        asked.nuclei,
        asked.cytoplasm,
        asked.projection or "max",
        asked.contrast or "group",
        allow_lossy,
    )
    conversion_settings.remember(study.root, source, asked)
    step = _Conversion(study, options, limit_s, engine)
    measured = step.measure(raws)
    found = {
        name: FileMeasurement.parse(result, study.journal("measure"))
        for name, result in measured.results.items()
    }
    _warn_of_pixel_sizes(study, found)
    channel_checks.warn(
        {raw.path: found[raw.name] for raw in raws if raw.name in found},
        {"nuclei": options.nuclei, "cytoplasm": options.cytoplasm},
        study.channel_rules,
    )
    notes += _notes_of_colour_scenes(found)
    notes += earlier_images.notes_of_shared_dishes(study, source, raws)
    stems, unnamed = _stems(study, raws, found)
    of_manifest = dishes.Dishes(
        study,
        source,
        os.fspath(source.resolve()),
        keeps=asked.group is group is None,
    )
    grouped = [
        of_manifest.of(raw, found[raw.name].fields, stems[raw.name])
        for raw in raws
        if raw.name in stems
    ]
    notes += dishes.notes(grouped)
    converted = step.convert(grouped, found)
    made = {
        name: [row["image"] for row in rows] for name, rows in converted.results.items()
    }
    notes += earlier_images.notes_of_deleted_rows(study, made)
    _record(study, converted)
    images = [image for of_file in made.values() for image in of_file]
    verdicts.judge(study, images, step.engine)
    notes += earlier_images.notes_of_vanished(study, source, made)
    failures |= unknown | measured.failures | unnamed | converted.failures
    return batch.Outcome(converted.done, converted.skipped, failures, notes)


def _open_or_create(study: str | os.PathLike | Study, raws: Sequence[RawFile]) -> Study:
    found = sorted({raw.cell_type for raw in raws} - {MIXED})
    if set(found) <= set(DEFAULT_CELL_TYPES):
        found = list(DEFAULT_CELL_TYPES)
    return Study.open_or_create(study, found)


def _of_known_types(
    study: Study, raws: Sequence[RawFile]
) -> tuple[list[RawFile], dict[str, str]]:
    known, failures = [], {}
    for raw in raws:
        try:
            study.check_cell_type(raw.cell_type)
            known.append(raw)
        except InputError as error:
            failures[raw.name] = f"{raw.path}: {error}"
    if not known:
        raise InputError(next(iter(failures.values())))
    return known, failures


def _warn_of_groups_of_many_types(raws: Sequence[RawFile]) -> None:
    types = collections.defaultdict(set)
    for raw in raws:
        types[raw.group].add(raw.cell_type)
    for group, names in sorted(types.items()):
        if len(names) > 1:
            logger.warning(
                "The group %r holds images of %s: they share one contrast and one split. "
                "If these are different dishes, let --group match the type's folder too.",
                group,
                ", ".join(sorted(names)),
            )


def _notes_of_colour_scenes(found: Mapping[str, FileMeasurement]) -> tuple[str, ...]:
    named = {name: file.colour_scenes for name, file in found.items()}
    named = {name: scenes for name, scenes in named.items() if scenes}
    if not named:
        return ()
    first, scenes = next(iter(sorted(named.items())))
    count = sum(map(len, named.values()))
    told = (
        f"left out: {count} colour pictures such as slide overviews, in {len(named)} "
        f"files (scene {scenes[0]} of {first})"
    )
    return (told,)


def _warn_of_pixel_sizes(study: Study, found: Mapping[str, FileMeasurement]) -> None:
    """Warns of pixel sizes that cannot be used, and says which size is used instead."""
    places = collections.defaultdict(list)
    for name, measurement in found.items():
        for field in measurement.fields:
            if field.pixel_size_problem:
                places[field.pixel_size_problem].append(name)
    for problem, names in sorted(places.items()):
        logger.warning(
            "The pixel size of %d fields is not used: %s. The first is %s. %s",
            len(names),
            problem,
            names[0],
            f"The one in {study.settings_path} is used instead."
            if study.pixel_size_um
            else "Write the right one into the column pixel_size_um of "
            f"{study.manifest_path}, or into {study.settings_path.name}.",
        )


@dataclasses.dataclass(frozen=True)
class _Conversion:
    """One call of `convert`: the settings that all of its jobs share.

    Attributes:
      study: the study.
      options: what the user asked for.
      limit_s: seconds that one file may take, plus one second for each megabyte.
      engine: what runs the jobs.
    """

    study: Study
    options: one_file.Options
    limit_s: float
    engine: batch.Engine

    def measure(self, raws: Sequence[RawFile]) -> batch.Outcome:
        """Runs the first pass: identifies channels, counts grey values, measures quality."""
        jobs = []
        for raw in raws:
            # The name of the histograms' file holds the fingerprint, so that a changed
            # raw file gets a new one.
            # What an index means depends on the channels of the other sets.
            others = [raw.files.in_folder] if raw.files.missing else []
            key = digests.fingerprint(
                *raw.files.paths, versions.MEASUREMENT, self._settings, *others
            )
            output = self._histograms / f"{key}.npz"
            argument = one_file.MeasuringTask(self.study, raw, self.options, output)
            jobs.append(self._job(raw, argument, key, [output]))
        return self._run(one_file.measure, jobs, "measure")

    def convert(
        self,
        files: Sequence[dishes.GroupedFile],
        measured: Mapping[str, FileMeasurement],
    ) -> batch.Outcome:
        """Runs the second pass: writes the merged images of the measured files."""
        limits = self._limits(files, measured)
        images = {row.stem: row.image_sha256 for row in self.study.rows()}
        jobs = []
        for file in files:
            raw, stem, groups, contrast = file[:4]
            fields = measured[raw.name].fields
            keys = [field.contrast_key(contrast) for field in fields]
            of_raw = {key: limits[key] for key in keys if key in limits}
            named = [f"{stem}{field.suffix}" for field in fields]
            argument = one_file.ConvertingTask(
                self.study,
                raw,
                self.options,
                stem,
                groups,
                contrast,
                of_raw,
                fields,
                frozenset(images[name] for name in named if name in images),
            )
            used = sorted((key.without_bits, found) for key, found in of_raw.items())
            depends: list[Any] = [self._settings, used, stem]
            depends += [contrast, raw.group, raw.cell_type]
            depends += [[field.as_of_earlier_versions() for field in fields]]
            # Fields of a file without wells have the group of the file, which is included.
            depends += [groups] if set(groups) != {raw.group} else []
            depends += [versions.JOINING] if raw.files.channels else []
            key = digests.fingerprint(versions.MERGING, *raw.files.paths, depends)
            outputs = [self.study.root / "images" / f"{name}.png" for name in named]
            jobs.append(self._job(raw, argument, key, outputs))
        return self._run(one_file.convert, jobs, "convert")

    @property
    def _settings(self) -> list:
        """Returns the settings of study and options that every result depends on."""
        rules = {key: list(rule) for key, rule in self.study.channel_rules.items()}
        ranges = {key: list(nm) for key, nm in self.study.emission_nm.items()}
        options = dataclasses.asdict(self.options)
        # A file that can be read without it gives the same result.
        options.pop("allow_lossy")
        # Whether a group's limits are kept or measured anew is the same setting here.
        options["contrast"] = self.options.contrast == "field"
        return [options, rules, ranges, self.study.pixel_size_um]

    @property
    def _histograms(self) -> pathlib.Path:
        return self.study.root / ".journal" / "histograms"

    def _job(
        self,
        raw: RawFile,
        argument: one_file.MeasuringTask | one_file.ConvertingTask,
        key: str,
        outputs: Sequence[pathlib.Path],
    ) -> batch.Job:
        limit_s = None
        if self.engine.processes > 1:
            size = sum(map(digests.size_of_path, raw.files.paths))
            limit_s = self.limit_s + size / 1e6
        return batch.Job(raw.name, argument, key, tuple(outputs), limit_s)

    def _run(
        self, function: Callable[[Any], Any], jobs: Sequence[batch.Job], name: str
    ) -> batch.Outcome:
        return batch.run(
            function,
            jobs,
            description=name,
            unit="file",
            journal=batch.Journal(self.study.journal(name)),
            engine=self.engine,
        )

    def _limits(
        self,
        files: Sequence[dishes.GroupedFile],
        measured: Mapping[str, FileMeasurement],
    ) -> dict[contrasts.Key, contrasts.Limits]:
        """Returns the contrast limits, by key, and warns of files that do not fit them."""
        if self.options.contrast == "field":
            return {}
        parts = []
        for file in files:
            found = measured[file.raw.name]
            path = self._histograms / paths.inside(found.histograms, file.raw.name)
            places: dict[contrasts.Key, list[FieldMeasurement]] = {}
            for field in found.fields:
                if field.histogram is not None:
                    places.setdefault(field.contrast_key(file.contrast), []).append(
                        field
                    )
            parts += [
                contrast_checks.Part(file.raw.path, key, path, fields)
                for key, fields in places.items()
            ]
        known = {}
        if self.options.contrast == "group":
            known = contrasts.known_limits(self.study.rows())
        missing = [part for part in parts if part.key not in known]
        limits = known | contrasts.measure_limits(
            (part.key, part.histograms, part.number) for part in missing
        )
        contrast_checks.warn(parts, limits)
        return limits


def _stems(
    study: Study, raws: Sequence[RawFile], measured: Mapping[str, FileMeasurement]
) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the stems of the images of each measured file, and the reasons for failures.

    Both are by the name of the raw file, which is in one of them.
    """
    names, stems, failures = image_names.Names(study), {}, {}
    for raw in raws:
        if raw.name not in measured:
            continue
        stem = names.take(raw, [field.suffix for field in measured[raw.name].fields])
        if stem is None:
            failures[raw.name] = (
                f"{raw.path}: the study already has another image of this name. "
                "Rename the file, or its folder."
            )
        else:
            stems[raw.name] = stem
    return stems, failures


def _record(study: Study, outcome: batch.Outcome) -> None:
    """Writes the rows of a run to the manifest, and repairs rows of earlier runs.

    A row of an earlier run is written again if the manifest lacks it or differs from it:
    the run may have been killed before it could write it, or a spreadsheet program may
    have saved an older table.
    """
    own = columns_of(ORIGIN, LIKENESS, QUALITY)
    known, edited = {row.image: row for row in study.rows()}, study.edited_columns()
    fresh = [ImageRow(**r) for rows in outcome.done.values() for r in rows]
    lacking = []
    for row in (ImageRow(**r) for rows in outcome.skipped.values() for r in rows):
        names = [name for name in own if name not in edited.get(row.image, ())]
        there = known.get(row.image)
        if there is None or any(getattr(row, n) != getattr(there, n) for n in names):
            lacking.append(row)
    study.update(fresh + lacking, ORIGIN, LIKENESS, QUALITY)
