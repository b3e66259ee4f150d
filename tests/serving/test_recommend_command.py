"""`evorec recommend`: everything that a bundle can be asked, from the command line."""

import json
from pathlib import Path
from typing import Any

import exported
import polars as pl
import pytest
from exported import Made, same

from evorec.cli import main
from evorec.errors import ConfigError, DataError
from evorec.serving.queries import User

USAGE, DATA = ConfigError.exit_code, DataError.exit_code


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return exported.plain(tmp_path_factory.getbasetemp())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main(["recommend", *arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def pairs(value: Any) -> list[tuple[Any, float]]:
    return [(one["item"], one["score"]) for one in value]


def test_known_and_unknown_users(plain: Made, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, str(plain.bundle), "--user", "3", "--user", "nobody", "-k", "4", "--seen")
    expected = plain.recommender.recommend([3, "nobody"], k=4, seen=True)
    for name, own in zip(("3", "nobody"), expected, strict=True):
        same(pairs(found[name]), own)
    assert main(["recommend", str(plain.bundle), "--user", "nobody"]) == 0
    captured = capsys.readouterr()
    assert "user nobody is not in the training data; only the given description is used" in captured.err
    assert "User nobody" in captured.out


def test_a_new_user_is_described_by_liked_items_and_features(plain: Made, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(
        capsys, str(plain.bundle), "--liked", "3", "--liked", "9", "--feature", "segment=2", "--feature", "hour=5",
        "--feature", "tenure_days=300.5",
    )  # fmt: skip
    user = User(None, [3, 9], {"segment": 2, "tenure_days": 300.5}, {"hour": 5})
    assert pairs(found["new"]) == plain.recommender.recommend([user])[0]


def test_filters_and_diversity(plain: Made, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(
        capsys, str(plain.bundle), "--user", "3", "--where", "category=1", "--where", "category=4", "--mmr", "0.5",
        "-k", "50",
    )  # fmt: skip
    expected = plain.recommender.recommend([3], where={"category": [1, 4]}, mmr=0.5, k=50)[0]
    assert expected
    assert pairs(found["3"]) == expected


def test_a_table_of_users(plain: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame({"user": [3, 4]}).write_parquet("users.parquet")
    found = said(capsys, str(plain.bundle), "--users", "users.parquet", "--out", "lists.parquet", "-k", "3")
    nothing = dict.fromkeys(("unknown_users", "users_without_id", "unknown_liked", "empty_lists"), 0)
    assert found == {"lists": 2, **nothing, "out": "lists.parquet"}
    frame = pl.read_parquet("lists.parquet")
    expected = plain.recommender.recommend([3, 4], k=3)
    for user, own in zip((3, 4), expected, strict=True):
        same(list(frame.filter(pl.col("user") == user).select("item", "score").iter_rows()), own)
    again = ["recommend", str(plain.bundle), "--users", "users.parquet", "--out", "lists.parquet"]
    assert main(again) == USAGE
    assert "exists already and is not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], USAGE, "recommend needs --user ID, --liked ITEM or --feature NAME=VALUE, or --users FILE --out FILE."),
        (["--users", "a"], USAGE, "--users and --out go together."),
        (["--user", "1", "--out", "a"], USAGE, "--users and --out go together."),
        (["--users", "a", "--out", "b", "--user", "1"], USAGE, "--users reads its table only"),
        (["--users", "nowhere.parquet", "--out", "b.csv"], DATA, "nowhere.parquet is not a file"),
        (["--feature", "colour=red"], USAGE, "--feature colour: the model has no such feature of users or context"),
        (["--feature", "segment"], USAGE, "expected NAME=VALUE, got 'segment'."),
        (["--user", "1", "--where", "colour=1"], DATA, "the model has no item feature 'colour'"),
        (["--user", "1", "--where", "price=1"], DATA, "where.price: a bundle keeps numbers only in bins"),
        (["--feature", "tenure_days=long"], DATA, "feature tenure_days must be a number, got 'long'."),
        (["--feature", "segment=1", "--feature", "segment=2"], DATA, "feature segment takes a single value, got 2"),
        (["--user", "1", "--mmr", "2"], USAGE, "Input should be less than or equal to 1"),
        (["--user", "1", "-k", "0"], USAGE, "Input should be greater than or equal to 1"),
    ],
)
def test_invalid_options_give_a_single_message(
    plain: Made, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert main(["recommend", str(plain.bundle), *arguments]) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert words in " ".join(err.replace("│", " ").split())
    assert list(Path().iterdir()) == []


def notes(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["recommend", *arguments]) == 0
    return capsys.readouterr().err


def test_users_and_items_that_training_never_saw_are_counted_and_named(
    plain: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(plain.bundle)
    for users, liked, words in (
        (["u1", "u\x1b"], [[1], [2]], ["warning: none of the 2 users is in the training data (the first are 'u1', 'u"]),
        ([1, 10**9], [[1], ["x"]], ["1 of 2 users are not in the training data (the first are 1000000000)",
                                    "1 of 2 liked items are not in the catalogue (the first are 'x')"]),
        ([1, None], [["x"], ["y"]], ["warning: none of the 2 liked items is in the catalogue (the first are 'x', 'y')",
                                     "1 of 2 users have no id; they are new users"]),
    ):  # fmt: skip
        Path("lists.csv").unlink(missing_ok=True)
        pl.DataFrame({"user": users, "liked": pl.Series(liked, strict=False)}).write_parquet("users.parquet")
        said = notes(capsys, bundle, "--users", "users.parquet", "--out", "lists.csv", "-k", "2")
        assert [text for text in words if text not in said] == []
        assert "\x1b" not in said
    given = ("--user", "1", "--liked", "007", "--liked", "7", "--where", "category=07", "--items", "8", "--items", "+8")
    said = notes(capsys, bundle, *given)
    for text in ("--liked: the catalogue has no item '007'", "--where category: no item has the value '07'",
                 "--items: the catalogue has no item '+8'"):  # fmt: skip
        assert text in said
    assert "user 007 is not in the training data" in notes(capsys, bundle, "--user", "007")


def test_a_user_who_has_met_everything_gets_a_note_instead_of_a_table(
    plain: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = [str(item) for item in plain.dataset.item_ids.tolist()]
    liked = [argument for item in everything for argument in ("--liked", item)]
    capsys.readouterr()
    assert main(["recommend", str(plain.bundle), "--user", "1", *liked]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"user 1 has met all {len(everything)} items; --seen lists them" in captured.err
    said = notes(capsys, str(plain.bundle), "--user", "1", "--where", "category=999")
    assert "user 1: no item that --where and --items allow is left" in said
    pl.DataFrame({"user": [1], "exclude": [everything]}).write_parquet("users.parquet")
    said = notes(capsys, str(plain.bundle), "--users", "users.parquet", "--out", "lists.csv")
    assert "1 of 1 users have no item left to list; --seen lists items that they met" in said


def test_an_impossible_filter_gives_an_empty_table(plain: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, str(plain.bundle), "--user", "1", "--where", "category=999") == {"1": []}
    assert main(["recommend", str(plain.bundle), "--user", "1", "--where", "category=999"]) == 0


def test_export_prints_the_folder_and_accepts_a_formula(
    plain: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is handed to `export_bundle`; the work itself is tested beside it."""
    asked: dict[str, Any] = {}

    def exported_bundle(run: Any, problem: Any, member: str, out: Path, *, options: Any, progress: Any) -> Path:
        asked.update(member=member, out=out, options=options)
        return out

    monkeypatch.setattr("evorec.deploy.bundle.export.export_bundle", exported_bundle)
    monkeypatch.setattr(
        "evorec.deploy.bundle.triton.write_triton", lambda bundle, out: asked.update(triton=(bundle, out))
    )
    run = str(plain.run)
    assert main(
        ["export", run, plain.key[:6], "--formula", "retrieval + p_click", "--mmr", "0.25", "--variant", "int8",
         "--max-loss", "0.1", "--show", "title", "--triton", "models", "--format", "json"]
    ) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out) == {"member": plain.key, "bundle": f"bundles/{plain.key}"}
    options = asked["options"]
    assert (asked["member"], asked["out"]) == (plain.key, Path("bundles") / plain.key)
    assert asked["triton"] == (asked["out"], Path("models"))
    assert (options.formula.text, options.mmr, options.formula_source) == ("retrieval + p_click", 0.25, "given by hand")
    assert (options.variants, options.largest_loss, options.show) == (("int8",), 0.1, ("title",))
    for wrong in (["--variant", "int4"], ["--formula", "p_click +"], ["--formula", "p_click + p_nap"]):
        assert main(["export", run, plain.key, *wrong]) == USAGE
        assert "Traceback" not in capsys.readouterr().err
