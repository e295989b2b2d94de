"""The cases of docs/cases: the data that lie beside them, and that each `train` records what a sweep is judged by."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import dropdiag as dd
from dropdiag.experiments.data.load import load_images
from dropdiag.experiments.data.make_sample import main, make_sample
from tests.experiments.conftest import digits, write_mnist

CASES = Path(__file__).parents[1] / "docs" / "cases"
SAMPLE = CASES / "fashion_mnist_sample"
PUBLISHED = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it


def load(name):
    spec = importlib.util.spec_from_file_location(f"case_{name}", CASES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["cnn", "text"])
def case(request, monkeypatch):
    """A case with less data, whose loader notes a digest of every batch."""
    module = load(request.param)
    small = {"cnn": ("TRAINING", 400), "text": ("WINDOWS", {"train-eval": 64, "validation": 16, "test": 16})}
    monkeypatch.setattr(module, *small[request.param])

    class Noting(module.DataLoader):
        seen: list[str] = []  # noqa: RUF012 - of this class alone, which is made anew for each test

        def __iter__(self):
            for batch in super().__iter__():
                self.seen.append(hashlib.sha256(batch[0].numpy().tobytes()).hexdigest())
                yield batch

    monkeypatch.setattr(module, "DataLoader", Noting)
    return module


def trained(case, path, rate, seed=0, epochs=1):
    case.DataLoader.seen.clear()
    case.train({"rate": rate, "seed": seed, "epochs": epochs}, path)
    return dd.load(path), list(case.DataLoader.seen)


def weights(run, layer):
    return run.histogram("weight", layer, step=0).counts


def test_a_run_holds_what_a_rate_is_chosen_by_and_reported_on(case, tmp_path):
    run, _ = trained(case, tmp_path / "run", 0.5, epochs=5)
    network = run.scalars[run.scalars["layer"].isna()]
    given = network[network["quantity"].isin(["accuracy", "loss"]) & (network["phase"] != "train")]
    assert set(given["phase"]) == {"train-eval", "validation", "test"}
    assert given.groupby(["phase", "quantity"], observed=True).size().eq(1).all()
    sites = {site["layer"] for site in run.meta["layers"] if site["kind"] == "dropout"}
    regulariser = run.scalars[run.scalars["quantity"] == "regulariser"]
    assert set(regulariser["layer"].dropna()) == sites
    assert len(sites) >= 2
    assert np.isfinite(regulariser["value"]).all()


def test_rates_share_weights_and_batches_of_a_seed_and_seeds_do_not(case, tmp_path):
    (none, of_none), (half, of_half) = (trained(case, tmp_path / f"{rate}", rate) for rate in (0.0, 0.5))
    other, of_other = trained(case, tmp_path / "other", 0.5, seed=1)
    layer = next(site["layer"] for site in none.meta["layers"] if site["kind"] == "weight")
    assert of_none == of_half != of_other
    assert len(of_none) == none.meta["steps"] > 3
    assert np.array_equal(weights(none, layer), weights(half, layer))
    assert not np.array_equal(weights(none, layer), weights(other, layer))


def test_no_picture_is_in_two_splits():
    sets = [{x.numpy().tobytes() for x in images} for images, _ in load("cnn").data().values()]
    assert [len(one) for one in sets] == [1000, 2000, 2000]
    assert not sets[0] & sets[1] | sets[0] & sets[2] | sets[1] & sets[2]


def test_the_sample_is_small_and_its_licence_lies_with_it():
    data = load_images("fashion-mnist", SAMPLE)
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 2_500_000
    assert data.train_labels.bincount().tolist() == [300] * 10
    assert data.test_labels.bincount().tolist() == [200] * 10
    assert data.digest == "0dc06609d3d9599c6660117d7824c2748770455d77cc1344c8172784baac7d22"
    notice = " ".join((SAMPLE / "NOTICE.md").read_text(encoding="utf-8").split())
    for words in (
        "2017 Zalando SE",
        "The above copyright notice and this permission notice shall be included",
        "subset",
    ):
        assert words in notice


def test_the_sample_is_what_the_script_makes(tmp_path):
    if not any(PUBLISHED.glob("train-images*")):
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    main([str(PUBLISHED), str(tmp_path), "fashion-mnist", "3000", "2000"])
    assert load_images("fashion-mnist", tmp_path).digest == load_images("fashion-mnist", SAMPLE).digest


def test_a_sample_of_another_data_set_and_size(tmp_path):
    write_mnist(tmp_path / "all", 60, 20)
    main([str(tmp_path / "all"), str(tmp_path / "some"), "fashion-mnist", "30", "10"])
    data = load_images("fashion-mnist", tmp_path / "some")
    assert (len(data.train_labels), len(data.test_labels)) == (30, 10)
    images, labels = digits(60, 0)
    whole = {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
    assert all(
        (x.numpy().tobytes(), int(y)) in whole for x, y in zip(data.train_images, data.train_labels, strict=True)
    )
    make_sample(tmp_path / "all", tmp_path / "same", "fashion-mnist", {"train": 30, "test": 10})
    assert load_images("fashion-mnist", tmp_path / "same").digest == data.digest
    with pytest.raises(SystemExit, match=r"usage: .*SOURCE TARGET \[DATASET TRAIN TEST\]"):
        main([str(tmp_path)])


class Parser:
    """What can be left of the words of a sentence behind a phrase or a predicate that agrees."""

    def __init__(self, language):
        self.nouns, self.verbs, self.adjectives = map(set, (language.nouns, language.verbs, language.adjectives))

    def phrase(self, words, number=None):
        if not words or words[0] not in ("the", "some"):
            return
        plural, at = words[0] == "some", 1
        while number in (None, plural) and at < len(words):
            word = words[at]
            if (word.removesuffix("s") if plural else word) in self.nouns and word.endswith("s") == plural:
                yield plural, words[at + 1 :]
                if words[at + 1 : at + 2] == ["that"]:
                    yield from ((plural, rest) for rest in self.predicate(words[at + 2 :], plural))
            if word not in self.adjectives:
                return
            at += 1

    def predicate(self, words, plural):
        if words and words[0] in (self.verbs if plural else {f"{verb}t" for verb in self.verbs}):
            yield words[1:]
            yield from (rest for _, rest in self.phrase(words[1:]))

    def agrees(self, sentence):
        subjects = self.phrase(sentence.split())
        return any(rest == [] for plural, left in subjects for rest in self.predicate(left, plural))


def test_the_text_is_the_same_everywhere_and_its_verbs_agree():
    case = load("text")
    language = case.Language()
    parser, sentences = Parser(language), [language.sentence().removesuffix(". ") for _ in range(300)]
    assert hashlib.sha256(". ".join(sentences).encode()).hexdigest()[:16] == "a4165d25c718fee8"
    assert all(map(parser.agrees, sentences))
    singular = [one for one in sentences if one.startswith("the ") and "that" not in one and one.endswith("t")]
    assert len(singular) > 20
    assert not any(parser.agrees(one.removesuffix("t")) for one in singular)


def test_windows_run_on_and_splits_differ():
    case = load("text")
    splits = case.data()
    for x, y in splits.values():
        assert torch.equal(x.flatten()[1:], y.flatten()[:-1])
    windows = [{x.numpy().tobytes() for x in inputs} for inputs, _ in splits.values()]
    assert [len(one) for one in windows] == list(case.WINDOWS.values())
    assert not windows[0] & windows[1] | windows[0] & windows[2] | windows[1] & windows[2]


def recorded(folder, scores):
    """Record runs of a sweep: validation and test accuracy by rate, a value a seed."""
    for rate, values in scores.items():
        for seed, value in values.items():
            config = {"condition": f"rate={rate}", "rate": rate, "seed": seed}
            with dd.Recorder(torch.nn.Linear(2, 2), folder / "runs" / f"rate-{rate}-s{seed}", config=config) as rec:
                rec.step(loss=0.5)
                rec.log(accuracy=value, phase="validation")
                rec.log(accuracy=value - 0.1, phase="test")


def test_the_check_sets_the_best_of_the_first_sweep_beside_the_others_on_fresh_seeds(tmp_path, capsys):
    recorded(tmp_path / "first", {0: {0: 0.70, 1: 0.71, 2: 0.69}, 0.5: {0: 0.80, 1: 0.82, 2: 0.80}})
    fresh = {0: {7: 0.71, 8: 0.72, 9: 0.70, 10: 0.70}, 0.5: {7: 0.81, 8: 0.80, 9: 0.82, 10: 0.79}}
    recorded(tmp_path / "fresh", fresh)
    load("check").main(str(tmp_path / "first"), str(tmp_path / "fresh"))
    printed = capsys.readouterr().out
    assert "test/accuracy of 4 fresh seeds" in printed
    ahead = np.array([fresh[0.5][seed] - fresh[0][seed] for seed in fresh[0]])
    low, high = stats.t.interval(0.95, 3, ahead.mean(), stats.sem(ahead))
    numbers = [f"{value:.4f}" for value in (ahead.mean(), low, high)]
    assert ["rate=0.5", "rate=0", *numbers, "worse", "worse"] in [line.split() for line in printed.splitlines()]
    assert printed.endswith(
        "Of 1 differences that the advice called, 1 are there on fresh seeds, 0 are the other way round.\n"
    )


def test_the_check_covers_all_that_it_compares_together():
    values = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.5, 2.5, 2.0], "c": [3.0, 3.5, 5.0]})
    found = load("check").held(values, ["a", "b"], less=True)
    assert found[["taken", "beside"]].to_numpy().tolist() == [["a", "c"], ["b", "c"], ["a", "b"]]
    for row in found.itertuples(index=False):
        ahead = values[row.beside] - values[row.taken]
        expected = ahead.mean(), *stats.t.interval(1 - 0.05 / 3, 2, ahead.mean(), stats.sem(ahead))
        assert row[2:5] == pytest.approx(expected)
    assert found["the advice said"].tolist() == ["worse", "worse", "not told apart"]


def test_every_link_and_picture_of_the_page_is_there():
    links = re.findall(r"\]\(([^)]+)\)", (CASES / "README.md").read_text(encoding="utf-8"))
    assert len(links) >= 6
    assert [link for link in links if "://" not in link and not (CASES / link).exists()] == []
