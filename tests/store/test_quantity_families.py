"""Quantities at values of a parameter."""

from __future__ import annotations

import pytest

from dropdiag.store.schema import Quantity, at, base_and_x, quantity_of


@pytest.mark.parametrize(
    ("base", "x", "name"), [("noisy_loss", 0.1, "noisy_loss@0.1"), ("eigen", 3, "eigen@3"), ("a@b", 1e-7, "a@b@1e-07")]
)
def test_a_name_says_its_family_and_value(base, x, name):
    assert at(base, x) == name
    assert base_and_x(name) == (base, x)


@pytest.mark.parametrize("name", ["loss", "user@example", "@1", "loss@"])
def test_other_names_are_of_no_family(name):
    assert base_and_x(name) == (name, None)
    assert quantity_of(name) is None


def test_unit_and_label_are_those_of_the_family():
    known = {"noisy_loss": Quantity("noisy_loss", "scalar", "loss units", "loss under noise", "log ratio")}
    found = quantity_of("noisy_loss@0.5", known)
    assert found == Quantity("noisy_loss@0.5", "scalar", "loss units", "loss under noise at 0.5", "log ratio")
    assert quantity_of("noisy_loss", known) is known["noisy_loss"]
    assert quantity_of("other@0.5", known) is None
