from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_nnopt.config import CompileConfig, Settings, load_settings, read_pyproject, resolve_case
from pytest_nnopt.errors import ConfigError
from pytest_nnopt.profiles import read_profiles

WHERE = "test_a.py::test_a"
PROFILES: dict[str, dict[str, Any]] = {
    "serving": {"mode": "max-autotune", "fullgraph": True, "fallback": ["default"]},
    "tuned": {"options": {"max_autotune": True}},
}


def resolve(*markers: dict[str, Any], **defaults: Any) -> CompileConfig:
    settings = Settings(profiles=PROFILES, compile=defaults)
    return resolve_case(settings, {"compile": markers}, WHERE).compile


class TestProfilesOfATest:
    def test_a_profile_stands_for_its_options(self) -> None:
        assert resolve({"profile": "serving"}) == CompileConfig(
            mode="max-autotune", fullgraph=True, fallback=("default",)
        )

    def test_what_stands_beside_it_wins(self) -> None:
        config = resolve({"profile": "serving", "fullgraph": False, "mode": "default"})
        assert (config.fullgraph, config.mode, config.fallback) == (False, "default", ("default",))

    def test_options_beside_it_replace_its_mode_and_the_reverse(self) -> None:
        assert resolve({"profile": "serving", "options": {"trace": True}}).mode is None
        assert resolve({"profile": "tuned", "mode": "default"}).options is None

    def test_a_closer_profile_wins_over_a_farther_marker(self) -> None:
        config = resolve({"profile": "tuned"}, {"mode": "default", "dynamic": True})
        assert (config.mode, config.options, config.dynamic) == (None, {"max_autotune": True}, True)

    def test_a_closer_marker_can_do_without_one(self) -> None:
        assert resolve({"profile": None}) == CompileConfig()

    def test_a_project_can_have_a_usual_one(self) -> None:
        assert resolve(profile="serving").mode == "max-autotune"
        assert resolve({"mode": "default"}, profile="serving").fullgraph is True

    def test_its_fallback_is_allowed_where_the_tests_own_marker_asks_for_it(self) -> None:
        settings = Settings(profiles=PROFILES)
        assert resolve_case(settings, {"compile": [{"profile": "serving"}]}, WHERE).is_fallback_allowed
        usual = Settings(profiles=PROFILES, compile={"profile": "serving"})
        assert not resolve_case(usual, {}, WHERE).is_fallback_allowed

    def test_an_unknown_one_names_those_there_are(self) -> None:
        message = r"test_a\.py::test_a: nnopt_compile: unknown profile 'severing'; known: serving, tuned"
        with pytest.raises(ConfigError, match=message):
            resolve({"profile": "severing"})
        with pytest.raises(ConfigError, match=r"\[tool\.nnopt\.compile\]: unknown profile 'x'; known: serving, tuned"):
            resolve(profile="x")

    def test_where_there_are_none_it_says_where_to_declare_them(self) -> None:
        with pytest.raises(ConfigError, match=r"known: none; declare it in \[tool\.nnopt\.profiles\]"):
            resolve_case(Settings(), {"compile": [{"profile": "x"}]}, WHERE)

    def test_a_wrong_option_in_a_profile_is_named_with_it(self) -> None:
        with pytest.raises(ConfigError, match="profile 'x': unknown argument 'moed'; known: mode, "):
            Settings(profiles={"x": {"moed": "default"}})


class TestProfileFile:
    def load(self, tmp_path: Path, name: str, text: str, pyproject: str = "") -> Settings:
        (tmp_path / name).write_text(text)
        path = tmp_path / "pyproject.toml"
        path.write_text(f"[tool.nnopt]\nprofile_file = '{name}'\n{pyproject}")
        return load_settings(read_pyproject(path), {})

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("p.toml", "[serving]\nmode = 'max-autotune'\n"),
            ("p.yaml", "serving:\n  mode: max-autotune\n"),
            ("p.yml", "serving: {mode: max-autotune}\n"),
        ],
    )
    def test_it_adds_to_those_of_the_project(self, tmp_path: Path, name: str, text: str) -> None:
        settings = self.load(tmp_path, name, text, "[tool.nnopt.profiles.own]\nfullgraph = true\n")
        assert settings.profiles == {"own": {"fullgraph": True}, "serving": {"mode": "max-autotune"}}

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("p.toml", "[serving", r"p\.toml is not TOML: "),
            ("p.yaml", "a: [", r"p\.yaml is not YAML: "),
            (
                "p.yaml",
                "a: !!python/object/apply:os.system ['true']",
                r"p\.yaml is not YAML: could not determine a con",
            ),
            ("p.yaml", "- serving", r"p\.yaml must hold a table of compile options for each profile's name"),
            ("p.yaml", "1: {}", r"p\.yaml must hold a table of compile options for each profile's name"),
            ("p.yaml", "serving: max-autotune", "must be a valid dictionary"),
            ("p.yaml", "x: &x [*x]", r"p\.yaml is not YAML: an alias in it stands for a value that holds the alias"),
            ("p.yaml", "x: {options: 2026-01-01}", r"p\.yaml is not YAML: it holds a date, which no setting is"),
            ("p.toml", " " * 2**18 + " ", r"p\.toml cannot be read: it is larger than 262144 bytes"),
            ("p.json", "{}", r"p\.json must end in \.toml, \.yaml or \.yml"),
            ("p.toml", "[own]\nmode = 'default'", r"profile 'own' is in p\.toml and in \[tool\.nnopt\.profiles\]"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, tmp_path: Path, name: str, text: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            self.load(tmp_path, name, text, "[tool.nnopt.profiles.own]\nfullgraph = true\n")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"profile_file: .*none\.toml cannot be read"):
            read_profiles(tmp_path / "none.toml")

    def test_yaml_needs_its_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "yaml", None)
        with pytest.raises(ConfigError, match=r"needs PyYAML; install it with pip install 'pytest-nnopt\[yaml\]'"):
            self.load(tmp_path, "p.yaml", "{}")

    @pytest.mark.parametrize("wrong", ["profile_file = 3", "profile_file = 'p.toml'\nprofiles = 3"])
    def test_a_wrong_entry_is_left_to_the_schema(self, tmp_path: Path, wrong: str) -> None:
        path = tmp_path / "pyproject.toml"
        path.write_text(f"[tool.nnopt]\n{wrong}\n")
        with pytest.raises(ConfigError, match="profile"):
            load_settings(read_pyproject(path), {})
