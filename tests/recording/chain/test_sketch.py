"""The sketch of the chain: means by kind, and parts that count only where every pass told them."""

import numpy as np
import pytest
import torch

from dropdiag.probes.flow_decomposition import FlowDecomposition
from dropdiag.recording.chain.joints import mean_of
from dropdiag.sketches.chain import Branch, ChainGradient, ChainMeans, Unknown

A, B = np.array([[1.0, -3.0], [0.5, 0.0]]), np.array([-2.0, 4.0, 6.0])


def told(sketch, *what):
    for one in what:
        sketch.update(one)
    return sketch


def gradient(values, kind="node"):
    return ChainGradient(kind, mean_of(torch.from_numpy(values)))


def branch(part, whole, place=0):
    return Branch("node", place, mean_of(torch.from_numpy(part)), mean_of(torch.from_numpy(whole)))


@pytest.mark.parametrize("merged", [False, True])
def test_means_and_parts_are_pooled_over_passes(merged):
    passes = [
        (gradient(A), branch(A / 2, A), branch(A, 4 * A, place=1)),
        (gradient(B), branch(B / 8, B), branch(B, B, place=1)),
    ]
    if merged:
        sketch = ChainMeans("node")
        for one in passes:
            sketch.merge(told(ChainMeans("node"), *one))
    else:
        sketch = told(ChainMeans("node"), *passes[0], *passes[1])
    both = np.abs(np.concatenate([A.ravel(), B]))
    here = np.abs(np.concatenate([A.ravel() / 2, B / 8])).mean()
    ratio = both.mean() / np.abs(np.concatenate([4 * A.ravel(), B])).mean()
    assert dict(FlowDecomposition().values(sketch)) == {
        "node_grad_abs_mean": (pytest.approx(both.mean(), rel=1e-15), 7),
        "path_grad_abs_mean": (pytest.approx(here * ratio, rel=1e-15), 7),
    }


@pytest.mark.parametrize(
    "second",
    [(gradient(B),), (gradient(B), branch(B, B)), (gradient(B), branch(B, B), branch(B, B, 1), Unknown("node"))],
    ids=["a pass that told of no branch", "of one alone", "of which nobody can tell"],
)
def test_a_part_that_is_not_known_of_every_pass_is_missing(second):
    sketch = told(ChainMeans("node"), gradient(A), branch(A / 2, A), branch(A, A, 1), *second)
    assert dict(FlowDecomposition().values(sketch))["path_grad_abs_mean"] == (None, 0)


def test_where_no_gradient_came_a_mean_is_missing_and_no_part_is_told():
    assert dict(FlowDecomposition().values(ChainMeans("mask_output", "mask_input"))) == {
        "mask_output_grad_abs_mean": (None, 0),
        "mask_input_grad_abs_mean": (None, 0),
    }


def test_what_is_zero_has_a_part_of_zero():
    zero = np.zeros(3)
    sketch = told(ChainMeans("node"), gradient(zero), branch(zero, zero), branch(zero, zero, 1))
    assert sketch.part("node") == (0.0, 3)
