from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_nnopt.config import CaseConfig, Settings, load_settings, parse_device, read_pyproject, resolve_case
from pytest_nnopt.errors import ConfigError
from pytest_nnopt.model import CheckName

WHERE = "tests/test_model.py::test_policy"


def resolve(defaults: dict[str, Any] | None = None, /, **markers: list[dict[str, Any]]) -> CaseConfig:
    return resolve_case(Settings(**defaults or {}), markers, WHERE)


class TestParseDevice:
    @pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:12"])
    def test_accepts_known_devices(self, device: str) -> None:
        assert parse_device(device) == device

    @pytest.mark.parametrize("device", ["", "CPU", "cpu:0", "cuda:", "cuda:-1", "gpu", "mps", "cuda:0\n"])
    def test_names_what_it_takes(self, device: str) -> None:
        with pytest.raises(ConfigError, match="is no device; write 'cpu', 'cuda' or 'cuda:N'"):
            parse_device(device)


class TestReadPyproject:
    def read(self, tmp_path: Path, text: str) -> dict[str, Any]:
        path = tmp_path / "pyproject.toml"
        path.write_text(text)
        return read_pyproject(path)

    def test_returns_the_table(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, "[tool.nnopt]\nbudget = '2min'") == {"budget": "2min"}

    @pytest.mark.parametrize("text", ["", "[tool.other]\nx = 1", "[project]\nname = 'x'"])
    def test_is_empty_where_nothing_is_said(self, tmp_path: Path, text: str) -> None:
        assert self.read(tmp_path, text) == {}

    def test_is_empty_where_there_is_no_file(self, tmp_path: Path) -> None:
        assert read_pyproject(tmp_path / "pyproject.toml") == {}

    @pytest.mark.parametrize("text", ["tool = 1", "[tool]\nnnopt = 1", "[[tool.nnopt]]\nx = 1"])
    def test_refuses_what_is_no_table(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ConfigError, match=r"pyproject\.toml: \[tool\.nnopt\] must be a table"):
            self.read(tmp_path, text)

    def test_names_a_broken_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"pyproject\.toml cannot be read: Expected"):
            self.read(tmp_path, "[tool.nnopt")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[" + ".".join(["tool.nnopt", *"x" * 1000]) + "]", "[tool.nnopt]: it is nested more than 32 levels deep"),
            ("[tool.nnopt]\nbudget = 2026-01-01", "[tool.nnopt]: it holds a date, which no setting is"),
            ("[tool.nnopt]\nprocesses = 0x" + "f" * 9999, "[tool.nnopt]: it holds a whole number of more than 64 bits"),
            ("x = " + "[" * 10_000, "cannot be read: "),
            (" " * (4 * 2**20 + 1), "cannot be read: "),
        ],
        ids=lambda text: text[:20],
    )
    def test_names_a_file_beyond_all_bounds(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(ConfigError, match=rf"pyproject\.toml:? {re.escape(message)}"):
            self.read(tmp_path, text)

    @given(st.binary() | st.text("[]{}.=\"'\n 10-:").map(lambda text: f"[tool.nnopt]\n{text}".encode()))
    @example(b"[tool.nnopt]\nbudget = nan")
    @example(b"[tool.nnopt]\nbudget = -inf")
    @example(b"[tool.nnopt]\neffect = 1e308")
    @example(b"[tool.nnopt]\nprofile_file = '/dev/zero'")
    @example(b"[tool.nnopt]\nprofile_file = '\\u0000'".replace(b"'", b'"'))
    @example(b"[tool.nnopt]\nbaseline_dir = '\\u0000'".replace(b"'", b'"'))
    @example(b"[tool.nnopt.limits]\nlatency = '1e999%'")
    def test_any_file_is_settings_or_refused(self, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "pyproject.toml")
            path.write_bytes(content)
            try:
                resolve_case(load_settings(read_pyproject(path), {}), {}, "test_a.py::test_a")
            except ConfigError as error:
                refusal = str(error)
                assert refusal

    def test_names_a_file_that_is_not_text(self, tmp_path: Path) -> None:
        path = tmp_path / "pyproject.toml"
        path.write_bytes(b"\xff")
        with pytest.raises(ConfigError, match=r"pyproject\.toml cannot be read: .*utf-8"):
            read_pyproject(path)


class TestLoadSettings:
    def test_has_defaults(self) -> None:
        settings = load_settings({}, {"budget": None})
        assert settings == Settings()
        assert (settings.missing, settings.budget, settings.false_alarms) == ("fail", 60.0, 0.01)

    def test_the_command_line_wins_over_pyproject_where_it_says_something(self) -> None:
        pyproject = {"budget": "2min", "false_alarms": "2%", "device": "cpu"}
        settings = load_settings(pyproject, {"budget": "10s", "false_alarms": None, "device": None})
        assert (settings.budget, settings.false_alarms, settings.device) == (10.0, 0.02, "cpu")

    def test_reads_what_toml_and_a_command_line_can_say(self) -> None:
        pyproject = {"baseline_dir": "here", "only": ["compile", "numerics"], "processes": 3}
        settings = load_settings(pyproject, {"effect": "5%"})
        assert settings.baseline_dir == Path("here")
        assert settings.only == (CheckName.COMPILE, CheckName.NUMERICS)
        assert (settings.processes, settings.effect) == (3, 0.05)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (
                {"budgets": 1},
                r"\[tool\.nnopt\]: unknown argument 'budgets'; known: baseline_dir, baseline_from, history, ",
            ),
            ({"missing": "pass"}, r"\[tool\.nnopt\]: missing='pass' must be 'fail' or 'record'"),
            ({"only": ["speed"]}, r"only='speed' must be 'numerics', 'speedup', 'latency'"),
            ({"only": []}, r"\[tool\.nnopt\]: only"),
            ({"budget": "soon"}, r"budget: 'soon' is not a duration; write it like '60s'"),
            ({"budget": 10**400}, r"\[tool\.nnopt\]: budget: "),
            ({"effect": 5}, r"effect: 5 is above 1; write a percentage with its sign, like '5%'"),
            ({"effect": [5]}, r"\[tool\.nnopt\]: effect"),
            ({"false_alarms": "50%"}, r"false_alarms='50%' must be less than 0\.5"),
            ({"false_alarms": 0.0}, r"false_alarms=0\.0 must be greater than 0"),
            ({"device": "tpu"}, r"device: 'tpu' is no device"),
            ({"device": 1}, r"\[tool\.nnopt\]: device"),
            ({"processes": 0}, r"processes=0 must be greater than or equal to 1"),
            ({"processes": "3"}, r"processes='3' must be a valid integer"),
            ({"limits": 3}, r"limits=3 must be a valid dictionary"),
            ({"limits": {"latency": "5"}}, r"\[tool\.nnopt\.limits\]: latency: .* like '5%'"),
            ({"compile": {"modus": 1}}, r"\[tool\.nnopt\.compile\]: unknown argument 'modus'; known: mode, backend,"),
            (
                {"compile": {"mode": "default", "options": {}}},
                r"\[tool\.nnopt\.compile\]: mode and options cannot both",
            ),
        ],
    )
    def test_names_what_is_wrong_in_pyproject(self, values: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            load_settings(values, {})

    def test_says_when_the_command_line_is_wrong(self) -> None:
        with pytest.raises(ConfigError, match=r"^command line: only='speed' must be"):
            load_settings({"only": ["compile"]}, {"only": ("speed",)})

    def test_names_every_wrong_argument_once(self) -> None:
        with pytest.raises(ConfigError) as caught:
            load_settings({"missing": "pass", "only": ["a", "b"], "what": 1}, {})
        lines = str(caught.value).splitlines()
        assert [line.split(": ")[1].split("=")[0] for line in lines] == [
            "missing",
            "only",
            "unknown argument 'what'; known",
        ]

    @given(
        st.dictionaries(
            st.sampled_from(sorted(Settings.model_fields)) | st.text(max_size=5),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                max_leaves=4,
            ),
            max_size=4,
        )
    )
    def test_any_table_is_taken_or_refused(self, table: dict[str, Any]) -> None:
        with contextlib.suppress(ConfigError):
            load_settings(table, {})

    def test_all_checks_are_asked_unless_some_are_named(self) -> None:
        assert all(Settings().is_asked(name) for name in CheckName)
        some = load_settings({}, {"only": ("compile",)})
        assert [name for name in CheckName if some.is_asked(name)] == [CheckName.COMPILE]


class TestResolveCase:
    def test_defaults_ask_for_nothing_special(self) -> None:
        assert resolve() == CaseConfig()

    def test_a_marker_wins_over_pyproject_per_argument(self) -> None:
        config = resolve({"tolerance": {"rtol": 1e-3, "atol": 1e-6}}, tolerance=[{"rtol": 1e-2}])
        assert (config.tolerance.rtol, config.tolerance.atol) == (1e-2, 1e-6)

    def test_the_closest_marker_wins_per_argument(self) -> None:
        config = resolve(limits=[{"latency": "3%"}, {"latency": "9%", "memory": "4%"}])
        assert (config.limits.latency, config.limits.memory) == (0.03, 0.04)

    def test_an_effect_is_the_latency_limit_of_tests_that_declare_none(self) -> None:
        settings = {"effect": 0.07, "limits": {"latency": "20%"}}
        assert resolve(settings).limits.latency == 0.07
        assert resolve(settings, limits=[{"latency": "3%"}]).limits.latency == 0.03

    @pytest.mark.parametrize(
        ("far", "close", "mode", "options"),
        [
            ({"options": {"max_autotune": True}}, {"mode": "default"}, "default", None),
            ({"mode": "default"}, {"options": {"max_autotune": True}}, None, {"max_autotune": True}),
            ({"mode": "default"}, {"fullgraph": True}, "default", None),
        ],
    )
    def test_a_closer_mode_replaces_farther_options_and_the_reverse(
        self, far: dict[str, Any], close: dict[str, Any], mode: str | None, options: dict[str, Any] | None
    ) -> None:
        for config in (resolve({"compile": far}, compile=[close]), resolve(compile=[close, far])):
            assert (config.compile.mode, config.compile.options) == (mode, options)

    def test_mode_and_options_in_one_marker_are_impossible(self) -> None:
        both = {"mode": "default", "options": {"max_autotune": True}}
        with pytest.raises(ConfigError, match=f"^{WHERE}: nnopt_compile: mode and options cannot both be given"):
            resolve(compile=[both, {"mode": "default"}])

    def test_only_a_marker_allows_a_fallback(self) -> None:
        assert resolve({"compile": {"fallback": ["eager"]}}).is_fallback_allowed is False
        config = resolve(compile=[{"fallback": ["default", "eager"]}])
        assert config.is_fallback_allowed
        assert config.compile.fallback == ("default", "eager")

    def test_a_backend_may_be_a_callable(self) -> None:
        assert resolve(compile=[{"backend": print}]).compile.backend is print

    @pytest.mark.parametrize(
        ("section", "arguments", "message"),
        [
            ("compile", {"mode": "fast"}, "mode='fast' must be 'default', 'reduce-overhead'"),
            ("compile", {"fullgraph": "yes"}, "fullgraph='yes' must be a valid boolean"),
            ("compile", {"backend": 3}, "backend"),
            ("compile", {"fallback": ["nothing"]}, "fallback='nothing' must be"),
            ("tolerance", {"rtol": "1e-3"}, "rtol='1e-3' must be a valid number"),
            ("tolerance", {"rtol": -1e-3}, r"rtol=-0\.001 must be greater than or equal to 0"),
            ("tolerance", {"atol": float("inf")}, "atol=inf must be a finite number"),
            ("tolerance", {"eps": 2}, "unknown argument 'eps'; known: rtol, atol, factor, equal_nan, strides, samples"),
            ("tolerance", {"factor": 0.5}, r"factor=0\.5 must be greater than or equal to 1"),
            ("tolerance", {"samples": ["ones"]}, "samples"),
            ("limits", {"error_growth": 0.5}, r"error_growth=0\.5 must be greater than or equal to 1"),
            ("speedup", {"min": 0}, "min=0 must be greater than 0"),
            ("speedup", {"min": float("nan")}, "min=nan"),
            ("speedup", {"max": 2}, "unknown argument 'max'; known: min"),
            ("limits", {"graph_breaks": -1}, "graph_breaks=-1 must be greater than or equal to 0"),
            ("limits", {"recompiles": True}, "recompiles=True must be a valid integer"),
            ("limits", {"memory": "lots"}, "memory: 'lots' is not a percentage"),
        ],
    )
    def test_a_wrong_argument_is_named_with_its_test_and_marker(
        self, section: str, arguments: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=f"^{WHERE}: nnopt_{section}: {message}"):
            resolve(**{section: [arguments]})
