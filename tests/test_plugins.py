"""Problems in files, plugins of a configuration, and commands of installed packages."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path

import pytest

from evorec import plugins
from evorec.cli import app, main
from evorec.config import load_config, problem_definition
from evorec.errors import ConfigError
from evorec.registry import Registry

SHOP = '''"""A shop in one file.

What sells at which price?
"""

from evorec.config import RunConfig
from evorec.objectives import Objective
from evorec.problem import Outcome, Problem
from evorec.space.genes import Real
from evorec.space.space import SearchSpace
from pydantic import Field


class ShopConfig(RunConfig):
    """Settings of the shop."""

    discount: float = Field(0.0, ge=0, le=1, description="share of the price")


CONFIG = ShopConfig
DEFAULTS = {"search": {"population": 4, "generations": 2, "surrogate": "none"}}


class Shop(Problem):
    def __init__(self, config):
        self.name, self.data_sha256, self.discount = config.problem_name, "0", config.discount
        self.space = SearchSpace((Real("price", 0.0, 1.0, default=0.5),)).with_overrides(config.space, "space")
        self.objectives = (Objective("sales", "sales", "max", "", ideal=1.0, worst=0.0),
                           Objective("price", "price", "max", "", ideal=1.0, worst=0.0))
        self.constraints = ()

    def shape_key(self, spec):
        return ()

    def evaluate(self, specs, *, seed, rung=None, states=None):
        return [Outcome({"price": spec["price"], "sales": 1 - (1 - self.discount) * spec["price"]}) for spec in specs]

    def baselines(self):
        return {}


def build(config=None):
    return Shop(config or ShopConfig())


def cheap(config=None):
    return build(config.model_copy(update={"discount": 0.5}))
'''
VILLAGE = """from evorec.data import simulator as sim
from problems.feed import FeedConfig, simulate


class VillageConfig(FeedConfig):
    scenario: str = "village"


sim.register(VillageConfig, simulate)
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the problem; the working folder is another one."""
    folder, here = tmp_path / "my shop", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    (folder / "shop.py").write_text(SHOP)
    monkeypatch.chdir(here)
    monkeypatch.setenv("COLUMNS", "200")
    return folder


def config_of(run: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((run / "config.json").read_text())
    return content


def test_a_problem_in_a_file_is_searched_shown_and_resumed_from_another_folder(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(shop / "shop.py")
    assert main(["problems", file]) == 0
    assert "What sells at which price?" in capsys.readouterr().out
    (shop / "my.toml").write_text('problem = "shop.py"\ndiscount = 0.5\n')
    assert (
        main(["search", str(shop / "my.toml"), "-q", "--set", "run.executor=processes", "--set", "run.workers=1"]) == 0
    )
    (run,) = Path("runs").glob("*-*")
    assert run.name.startswith("shop-")
    assert config_of(run)["problem"] == file
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "here" / run
    (run / "summary.json").unlink()
    assert main(["resume", str(run)]) == 0
    assert "going on with" in capsys.readouterr().err
    assert main(["front", str(run), "-q"]) == 0
    assert main(["finalize", str(run)]) == ConfigError.exit_code
    assert "trains no recommender" in capsys.readouterr().err


def test_a_file_may_have_several_problems_and_moves_without_changing_its_runs(shop: Path, tmp_path: Path) -> None:
    config = load_config(problem=f"{shop / 'shop.py'}:cheap")
    assert config.problem_name == "shop-cheap"
    assert problem_definition(config.problem).build(config).discount == 0.5
    plain = load_config(problem=str(shop / "shop.py"))
    assert plain == load_config(problem=f"{shop / 'shop.py'}:build")
    moved = shutil.copytree(shop, tmp_path / "moved")
    assert load_config(problem=str(moved / "shop.py")).fingerprint("data") == plain.fingerprint("data")
    (moved / "shop.py").write_text(SHOP + "# edited\n")
    assert load_config(problem=str(moved / "shop.py")).fingerprint("data") != plain.fingerprint("data")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.py", r"none\.py does not exist"),
        ("shop.py:bild", r"shop\.py has no function bild\(config=None\)"),
        ("broken.py", r"broken\.py cannot be imported: ZeroDivisionError"),
        ("analytics", r"unknown problem 'analytics'; did you mean 'analytic'\? .*pip install -e .*FILE\.py"),
    ],
)
def test_a_problem_that_cannot_be_used_is_refused_with_the_cause(
    shop: Path, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    Path("broken.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=message):
        load_config(problem=name)


def test_plugins_are_imported_before_the_configuration_is_checked(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A simulated world of a plugin is known to validation, to the run directory and to the resumed run."""
    (shop / "village.py").write_text(VILLAGE)
    (shop / "my.toml").write_text(
        'problem = "feed"\nplugins = ["village.py"]\nconstraints = []\n'
        '[data.simulator]\nscenario = "village"\nn_users = 60\nn_items = 50\nn_interactions = 2000\n'
        "[training]\nsteps = 2\nbatch_size = 64\nretrieval_batch = 16\n[search]\npopulation = 4\ngenerations = 1\n"
        'surrogate = "none"\n'
    )
    config = load_config(shop / "my.toml")
    assert config.plugins == (str(shop / "village.py"),)
    without = json.loads((shop / "my.toml").read_text() and config.model_dump_json()) | {"plugins": []}
    assert type(config).model_validate(without).fingerprint("") != config.fingerprint("")
    assert main(["search", str(shop / "my.toml"), "-q"]) == 0
    (run,) = Path("runs").glob("*-*")
    assert config_of(run)["plugins"] == [str(shop / "village.py")]
    (shop / "village.py").write_text(VILLAGE + "# edited\n")
    (run / "summary.json").unlink()
    capsys.readouterr()
    assert main(["resume", str(run)]) == ConfigError.exit_code
    assert "a plugin or the file of the problem has changed since" in capsys.readouterr().err
    (shop / "village.py").unlink()
    assert main(["front", str(run)]) == ConfigError.exit_code
    assert f"file {shop / 'village.py'} does not exist" in capsys.readouterr().err


def test_an_installed_plugin_adds_a_command_and_a_broken_one_is_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    info = tmp_path / "extra-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[evorec.plugins]\nextra = extra_command\nbad = extra_broken\n")
    (tmp_path / "extra_command.py").write_text(
        "from evorec.cli.app import SEARCH, command\n"
        '@command(panel=SEARCH, order=15, name="greet")\n'
        "def greet(output, name: str = 'you') -> None:\n"
        "    'Greet a person.'\n"
        "    output.result({'hello': name}, text=f'hello {name}')\n"
    )
    (tmp_path / "extra_broken.py").write_text("import no_such_module_here\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_loaded_groups", set())
    commands = dict(app.COMMANDS)
    fresh: Registry[app.Command] = Registry("command", group="evorec.plugins")
    for name, entry in commands.items():
        fresh.register(name, entry)
    monkeypatch.setattr(app, "COMMANDS", fresh)
    with caplog.at_level(logging.WARNING):
        assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.index(" search ") < out.index(" greet ") < out.index(" resume ")
    assert [record.getMessage() for record in caplog.records] == [
        "plugin 'bad' (extra_broken) of extra cannot be imported: No module named 'no_such_module_here'; update or "
        "uninstall extra"
    ]
    assert main(["greet", "--name", "Ada", "-q"]) == 0
    assert capsys.readouterr().out == "hello Ada\n"
    sys.modules.pop("extra_command")


def test_the_working_directory_is_the_folder_of_a_plugin_on_the_command_line(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop / "mark.py").write_text("MARK = 1\n")
    monkeypatch.chdir(shop)
    config = load_config(problem="analytic", overrides=['plugins=["mark.py", "json"]'])
    assert config.plugins == (str(shop / "mark.py"), "json")
    assert {str(shop / "mark.py"), "json"} <= set(plugins.loaded_modules())
    with pytest.raises(ConfigError, match=r"plugins \(command line\) must be a list of texts, got 'mark\.py'"):
        load_config(problem="analytic", overrides=["plugins=mark.py"])
