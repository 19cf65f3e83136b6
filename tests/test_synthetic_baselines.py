"""The two descriptions without learning: by hand, and how they do on synthetic people."""

import colorsys

import numpy as np
import pytest

from crossreid.evaluation.baselines import raw_pixels, striped_histogram
from crossreid.synthetic import camera, person, render
from crossreid.synthetic.rendering import moment


def test_raw_pixels_are_averages_without_their_mean():
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 32, 3), dtype=np.uint8)
    vectors = raw_pixels(images)
    assert vectors.shape == (3, 32 * 16 * 3)
    slow = images.astype(float).reshape(3, 32, 2, 16, 2, 3).mean(axis=(2, 4)).reshape(3, -1)
    slow -= slow.mean(axis=1, keepdims=True)
    slow /= np.linalg.norm(slow, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, slow, atol=1e-5)
    assert raw_pixels(np.full((2, 70, 33, 3), 9, np.uint8)).tolist() == np.zeros((2, 1536)).tolist()


def test_striped_histogram_against_a_slow_one():
    images = np.random.default_rng(1).integers(0, 256, (2, 12, 20, 3), dtype=np.uint8)
    images[0, :2] = 128  # grey: no hue
    slow = np.zeros((2, 3, 8, 4, 4))
    for n in range(2):
        for y in range(12):
            for x in range(3, 17):
                h, s, v = colorsys.rgb_to_hsv(*(images[n, y, x] / 255))
                slow[n, y * 3 // 12, min(int(h * 8), 7), min(int(s * 4), 3), min(int(v * 4), 3)] += 1
    slow = np.sqrt(slow.reshape(2, -1))
    slow /= np.linalg.norm(slow, axis=1, keepdims=True)
    found = striped_histogram(images, stripes=3)
    # Values on the edge of a bin may fall on either side of it.
    assert found.shape == slow.shape and np.abs(found - slow).sum() < 0.3


def test_a_histogram_sees_colours_where_they_are():
    images = np.zeros((3, 60, 30, 3), np.uint8)
    images[0, :30] = images[2, 30:] = (200, 0, 0)
    images[1, :30] = (198, 0, 0)
    likeness = striped_histogram(images) @ striped_histogram(images).T
    assert likeness[0, 1] == pytest.approx(1, abs=1e-5) and likeness[0, 2] < 0.1


def first_match(vectors, identities, cameras):
    likeness = vectors @ vectors.T
    likeness[(cameras[:, None] == cameras) & (identities[:, None] == identities)] = -np.inf
    return np.mean(identities[likeness.argmax(axis=1)] == identities)


def test_colour_finds_some_people_and_not_most():
    identities = np.repeat(np.arange(24), 4)
    cameras = np.tile(np.arange(1, 5), 24)
    images = np.stack([
        render(person(int(who)), camera(int(number)), moment(int(who), 0))
        for who, number in zip(identities, cameras)
    ])  # fmt: skip
    for describe in (raw_pixels, striped_histogram):
        assert 1 / 96 < first_match(describe(images), identities, cameras) < 0.6
