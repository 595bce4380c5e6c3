"""Tests of cellclass_tf.maskrcnn.cellpose_features.classifier."""

import numpy as np
import pytest
from scipy import special

from cellclass_tf.maskrcnn.cellpose_features import classifier


def cells(counts, seed=0):
    """Features on very different scales, of which two tell the types apart."""
    rng = np.random.default_rng(seed)
    types = np.repeat(np.arange(len(counts)), counts)
    features = rng.normal(0, 1, (len(types), 6))
    features[:, 0] += 2 * (types == 1)
    features[:, 3] += 2 * (types == 2)
    return features * [1, 10, 100, 1e3, 1e-3, 1] + [0, 5, -7, 1e4, 0, 3], types


def probabilities(fitted, features):
    return special.softmax(features @ fitted.weights + fitted.bias, axis=1)


def test_it_equals_that_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, types = cells((40, 90, 25))
    fitted = classifier.fit(features, types, 3)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    model = linear_model.LogisticRegression(
        C=0.1, class_weight="balanced", max_iter=5000, tol=1e-8
    )
    expected = model.fit(scaled, types).predict_proba(scaled)
    np.testing.assert_allclose(probabilities(fitted, features), expected, atol=2e-3)


def test_a_rare_type_is_called_as_often_as_it_occurs():
    features, types = cells((300, 30, 30))
    called = probabilities(classifier.fit(features, types, 3), features).argmax(axis=1)
    for number in range(3):
        assert (called[types == number] == number).mean() > 0.7


def test_a_feature_that_never_changes_has_no_influence():
    features, types = cells((40, 40, 40))
    features[:, 1] = 4.0
    fitted = classifier.fit(features, types, 3)
    assert np.isfinite(fitted.weights).all()
    assert np.abs(fitted.weights[1]).max() < 1e-6
