"""Each file is opened once for a question, counted from outside."""

from tests.openings import openings


def test_openings_are_counted_one_by_one(tmp_path):
    (tmp_path / "inner").mkdir()
    for name in ("a", "inner/b"):
        (tmp_path / name).write_text("x")
    with openings(tmp_path) as counted:
        for name in ("a", "inner/b", "a", "a"):
            (tmp_path / name).read_text()
        with (tmp_path / "inner/b").open() as first, (tmp_path / "inner/b").open() as second:
            assert first.read() == second.read()
    assert counted in ({"a": 3, "inner/b": 2}, {"a": 3, "inner/b": 3})
