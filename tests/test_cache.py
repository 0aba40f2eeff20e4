"""What is kept between runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.cache import Cache


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "new" / "folder")
    assert cache.read("key") == {}
    cache.write("key", {"a": 0.1})
    cache.write("key", {"a": 0.1, "b": 2})
    assert cache.read("key") == {"a": 0.1, "b": 2}
    assert cache.read("other") == {}


@pytest.mark.parametrize("text", ["", "[1]", "{", '"x"', "[" * 100_000, "\x00"])
def test_what_makes_no_sense_is_not_there(tmp_path: Path, text: str) -> None:
    (tmp_path / "key.json").write_text(text)
    assert Cache(tmp_path).read("key") == {}


def test_what_cannot_be_written_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    cache.write("key", {"a": 1})
    assert cache.read("key") == {}
    assert (tmp_path / "file").read_text() == ""


def test_users_say_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEC_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache.of_user().folder == tmp_path / "edgec"
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "mine"))
    assert Cache.of_user().folder == tmp_path / "mine"
    monkeypatch.setenv("EDGEC_CACHE", "")
    assert Cache.of_user().folder is None
    Cache.of_user().write("key", {"a": 1})
