"""A name that no run knows is an error with what was meant; one that has no rows is an honest empty answer."""

import pytest

from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.asked import close, instead
from dropdiag.store.reader import load
from tests.store.test_run_folder import write as write_other
from tests.synthetic import content, write


@pytest.fixture
def runs(tmp_path):
    """Two runs: the second one has gradients of a layer "b" alone, and neither loss nor accuracy."""
    write(tmp_path / "full", content("Dropout", 0, steps=5, size=20), "Dropout", 0)
    write_other(tmp_path / "other", condition="Other", seed=1)
    return load([tmp_path / "full", tmp_path / "other"])


def asks(one):
    """Every way to ask for scalars."""
    found = [one.select]
    if hasattr(one, "batches"):
        found.append(lambda **names: list(one.batches(**names)))
    return found


@pytest.mark.parametrize(("names", "message"), [
    ({"quantity": "acc"}, "'acc'; did you mean 'accuracy'"),
    ({"quantity": "acuracy"}, "'acuracy'; did you mean 'accuracy'"),
    ({"quantity": ["loss", "Accuracy"]}, "'Accuracy'; did you mean 'accuracy'"),
    ({"quantity": "zzz"}, "'zzz'; there are"),
    ({"quantity": "weight"}, "'weight'; it is recorded as histograms; "),
    ({"quantity": "accuracy", "phase": "evl"}, "phase 'evl'; did you mean 'eval'"),
    ({"phase": ["eval", "test"]}, "phase 'test'"),
    ({"layer": "layer1"}, "layer 'layer1'; did you mean 'layer1"),
    ({"layer": ["layer1.activation", None, "layer2.actvation"]}, "layer 'layer2.actvation'; did you mean 'layer2.activation'"),
])  # fmt: skip
def test_a_name_that_is_none_is_an_error_with_what_was_meant(runs, names, message):
    for one in (runs, runs[0]):
        for ask in asks(one):
            with pytest.raises(NotRecordedError, match=message):
                ask(**names)
        assert one.select(**names, missing_ok=True).empty == ("loss" not in str(names) and "None" not in str(names)
                                                              and names.get("phase") != ["eval", "test"])  # fmt: skip


@pytest.mark.parametrize("names", [
    {"quantity": "accuracy", "phase": "train"}, {"layer": "layer1.linear"}, {"quantity": "loss", "steps": (900, None)},
    {"quantity": "loss", "layer": "layer1.activation"},
])  # fmt: skip
def test_names_that_are_known_and_have_no_rows_together_are_no_error(runs, names):
    for one in (runs, runs[0]):
        for ask in asks(one):
            assert not len(ask(**names))


def test_what_one_run_knows_is_a_name_for_all(runs):
    assert runs.select("accuracy", condition="Other").empty
    assert set(runs.select("accuracy")["condition"]) == {"Dropout"}
    with pytest.raises(NotRecordedError, match="Other.* has no scalar 'accuracy'; there are 'net_grad_abs_mean'"):
        runs[1].select("accuracy")
    assert runs[1].select(layer=[None]).empty, "the network as a whole is no name"


@pytest.mark.parametrize("names", [{"quantity": []}, {"phase": ()}, {"layer": []}, {"condition": []}])
def test_an_empty_list_of_names_is_no_selection(runs, names):
    for ask in asks(runs):
        with pytest.raises(ArgumentError, match="= is empty; leave it out for all"):
            ask(**names)


def test_a_condition_that_there_is_not(runs):
    for ask in asks(runs):
        with pytest.raises(
            ArgumentError, match="no condition 'Droput'; did you mean 'Dropout'. there are 'Dropout', 'Other'"
        ):
            ask(condition="Droput")


def test_histograms_say_what_was_meant(runs):
    one = runs[0]
    for ask in (one.histograms, runs.histograms):
        with pytest.raises(NotRecordedError, match="has no 'wieght' .*did you mean 'weight'. it has"):
            ask("wieght")
        with pytest.raises(NotRecordedError, match="has no 'wieght' .*did you mean 'weight'. it has"):
            ask(["net_value", "wieght"])
        with pytest.raises(NotRecordedError, match="in phase 'evl'; did you mean 'eval'"):
            ask("net_value", phase="evl")
    assert set(one.histograms(["net_value", "node_value"])["quantity"]) == {"net_value"}, "a name that is known"
    with pytest.raises(NotRecordedError, match="of layer 'layer1', call 0; did you mean 'layer1.activation'"):
        one.histogram("net_value", "layer1")


def test_names_that_are_near():
    assert close("acc", ["loss", "accuracy", "val_accuracy"]) == ["accuracy", "val_accuracy"]
    assert close("LOSS", ["loss"]) == ["loss"]
    assert close("", ["loss"]) == []
    assert instead("x", []) == "; nothing is recorded"
    assert instead("x", [str(i) for i in range(10, 30)]).endswith("'17' and 12 more")
