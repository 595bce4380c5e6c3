"""Targets of the region proposals: Model Garden's, faster and with a seed."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from cellclass_tf.maskrcnn.model_garden import anchor, box_list


class SeededAnchorLabeler(anchor.RpnAnchorLabeler):
    """Labels anchors as Model Garden does, and draws the sampled ones by a seed.

    Anchors stand on grids, so that how far one overlaps a box in height depends on its
    row alone, and in width on its column: the overlap of all pairs is one product, in
    place of a dozen operations on every pair. The result is the same to the last bit.
    """

    def label_anchors(
        self,
        anchor_boxes: Mapping[str, tf.Tensor],
        gt_boxes: tf.Tensor,
        gt_labels: tf.Tensor,
        *,
        seed: tf.Tensor,
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Labels anchors.

        Args:
          anchor_boxes: by level, (h, w, 4 * a) float32 [top, left, bottom, right].
          gt_boxes: (N, 4) float32.
          gt_labels: not used; every cell is foreground.
          seed: (2,) int64 for stateless random numbers.

        Returns:
          By level, scores (h, w, a) int32, of which 1 is a sampled positive, 0 a sampled
          negative, and -1 is left out; and offsets of boxes (h, w, 4 * a) float32, 0
          where no cell is matched.
        """
        del gt_labels
        anchors = tf.concat(
            [tf.reshape(boxes, [-1, 4]) for boxes in anchor_boxes.values()], axis=0
        )
        columns, indicators = tf.cond(
            tf.shape(gt_boxes)[0] > 0,
            lambda: self._matches(anchor_boxes, gt_boxes),
            lambda: _no_matches(anchors),
        )
        padded = tf.concat([gt_boxes, tf.zeros([1, 4])], axis=0)
        matched = tf.where(
            indicators[:, tf.newaxis] > 0, tf.gather(padded, columns), 0.0
        )
        offsets = self.box_coder.encode(
            box_list.BoxList(matched), box_list.BoxList(anchors)
        )
        offsets = tf.where(indicators[:, tf.newaxis] >= 0, offsets, 0.0)
        scores = self._sampled(indicators, seed)
        return (
            anchor.unpack_targets(scores, anchor_boxes),
            anchor.unpack_targets(offsets, anchor_boxes),
        )

    def _matches(
        self, anchor_boxes: Mapping[str, tf.Tensor], gt_boxes: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The cell of each anchor, and 1 if it is matched, -1 if not, -2 in between."""
        overlaps = tf.concat(
            [grid_overlaps(boxes, gt_boxes) for boxes in anchor_boxes.values()], axis=1
        )
        columns = tf.argmax(overlaps, axis=0, output_type=tf.int32)
        best = tf.reduce_max(overlaps, axis=0)
        low, high = self.matcher.thresholds[1], self.matcher.thresholds[-2]
        indicators = tf.where(best >= high, 1, tf.where(best < low, -1, -2))
        # Every cell keeps the anchor that fits it best, however badly.
        rows = tf.argmax(overlaps, axis=1, output_type=tf.int32)
        count, total = tf.shape(overlaps)[0], tf.shape(overlaps)[1]
        forced = tf.tensor_scatter_nd_min(
            tf.fill([total], count), rows[:, tf.newaxis], tf.range(count)
        )
        is_forced = forced < count
        return (
            tf.where(is_forced, forced, columns),
            tf.where(is_forced, 1, indicators),
        )

    def _sampled(self, indicators: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Draws at most so many positives, and fills up with negatives."""
        room = self._rpn_batch_size_per_im
        positives = _drawn(indicators > -1, int(self._rpn_fg_fraction * room), seed + 6)
        free = room - tf.reduce_sum(tf.cast(positives, tf.int32))
        negatives = _drawn(tf.equal(indicators, -1), free, seed + 7)
        return tf.where(positives, 1, tf.where(negatives, 0, -1))


def grid_overlaps(anchors: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Intersection over union of boxes with anchors that stand on a grid.

    Args:
      anchors: (h, w, 4 * a) float32; tops and bottoms are those of their row, lefts and
        rights those of their column.
      boxes: (N, 4) float32 [top, left, bottom, right].

    Returns:
      (N, h * w * a) float32.
    """
    height, width = anchors.shape[:2]
    anchors = tf.reshape(anchors, [height, width, -1, 4])
    high = _spans(anchors[:, 0, :, 0::2], boxes[:, 0::2])
    wide = _spans(anchors[0, :, :, 1::2], boxes[:, 1::2])
    common = high[:, :, tf.newaxis] * wide[:, tf.newaxis]
    areas = tf.reduce_prod(anchors[..., 2:] - anchors[..., :2], axis=-1)
    own = tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    union = (own[:, tf.newaxis, tf.newaxis, tf.newaxis] + areas) - common
    return tf.reshape(
        common / union, [tf.shape(boxes)[0], height * width * areas.shape[2]]
    )


def _spans(anchors: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Common length of (n, a, 2) and (N, 2) intervals, (N, n, a)."""
    first, last = (
        boxes[:, 0, tf.newaxis, tf.newaxis],
        boxes[:, 1, tf.newaxis, tf.newaxis],
    )
    common = tf.minimum(anchors[..., 1], last) - tf.maximum(anchors[..., 0], first)
    return tf.maximum(common, 0.0)


def _no_matches(anchors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    count = tf.shape(anchors)[0]
    return tf.zeros([count], tf.int32), tf.fill([count], -1)


def _drawn(candidates: tf.Tensor, most: int | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Keeps at most `most` of the candidates, by chance: (M,) bool of (M,) bool."""
    where = tf.where(candidates)[:, 0]
    order = tf.argsort(tf.random.stateless_uniform(tf.shape(where), seed))
    kept = tf.gather(where, order[: tf.cast(most, tf.int32)])
    return tf.scatter_nd(
        kept[:, tf.newaxis], tf.ones_like(kept, tf.bool), tf.shape(candidates, tf.int64)
    )
