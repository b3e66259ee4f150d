"""The last nights stay, and promoted nights, and what a link names; nothing else does."""

import pytest
from serving.test_model_folder import bundle, read_small_bundle
from tiny_nights import DAY, settings

from evorec.config import NightlyConfig
from evorec.nightly.folder import DONE, Key, Night, nights, settings_sha256
from evorec.nightly.retention import prune
from evorec.serving import model_folder
from evorec.serving.model_folder import ModelFolder, sealed_line


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Eight nights; 0, 2 and 4 were promoted, 5 was held, 6 was interrupted."""
    monkeypatch.setattr(model_folder, "read_bundle", read_small_bundle)
    models = ModelFolder(tmp_path / "models")
    for number in range(8):
        own = Key(DAY.date().replace(day=number + 1), "settings", "data")
        night = Night.begin(
            tmp_path / "runs" / own.name,
            {"key": own.name, "number": number + 1, "settings_sha256": "", "data_sha256": "", "start": []},
        )
        if number != 6:
            night.write("summary.json", {"state": DONE})
        verdict = "PROMOTE" if number in (0, 2, 4) else "HOLD" if number == 5 else "REJECT"
        made = bundle(tmp_path / "made" / str(number), f"night {number}")
        name = models.challenge(made)
        if verdict == "PROMOTE":
            models.promote(made)
        else:
            models.refuse(made, {}, keep=verdict == "HOLD")
        champion = models.champion
        night.write_decision(sealed_line({"verdict": verdict, "challenger": name, "champion": champion}))
    return tmp_path, models


def days(root):
    return [int(night.key[8:10]) - 1 for night in nights(root)]


def test_the_last_nights_and_promoted_nights_are_kept(folder):
    root, models = folder
    (root / "runs" / "2026-01-01-0123456789ab").mkdir()  # died while it was removed
    (root / "runs" / "notes").mkdir()
    would = prune(root, models, NightlyConfig(keep=2), dry_run=True)
    assert len(would) == 4
    assert days(root) == [*range(8)]
    assert prune(root, models, NightlyConfig(keep=2)) == would
    assert days(root) == [0, 2, 4, 6, 7]
    assert {path.name[:4] for path in (root / "runs").iterdir()} == {"2026", "note"}
    assert len(list((models.path / "bundles").glob("[!.]*"))) == 3
    assert prune(root, models, NightlyConfig(keep=2)) == []


def test_fewer_champions_are_kept_if_the_settings_say_so(folder):
    root, models = folder
    third = next(night for night in nights(root) if night.number == 4)
    (root / "good").symlink_to(third.path)
    prune(root, models, NightlyConfig(keep=1, keep_promoted=1))  # two, so that a rollback is possible
    assert days(root) == [2, 3, 4, 7]
    assert models.rollback()


def test_a_held_challenger_keeps_its_night(folder):
    root, models = folder
    models.challenge(root / "made" / "5")
    prune(root, models, NightlyConfig(keep=1))
    assert 5 in days(root)


def test_the_key_depends_on_what_decides_the_night():
    own = settings(DAY.date())
    changed = {
        "result": own.model_copy(update={"search": own.search.model_copy(update={"seed": 9})}),
        "longer": own.model_copy(update={"search": own.search.model_copy(update={"generations": 9})}),
        "pick": own.model_copy(update={"nightly": own.nightly.model_copy(update={"pick": "cheapest"})}),
        "final": own.model_copy(update={"finalize": own.finalize.model_copy(update={"seeds": 5})}),
    }
    assert len({settings_sha256(one) for one in (own, *changed.values())}) == 5
    same = [
        own.model_copy(
            update={"nightly": own.nightly.model_copy(update={"keep": 3, "webhook": "OTHER", "minutes": 5.0})}
        ),
        own.model_copy(update={"run": own.run.model_copy(update={"workers": 7})}),
    ]
    assert {settings_sha256(one) for one in same} == {settings_sha256(own)}
