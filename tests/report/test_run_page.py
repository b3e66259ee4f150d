import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from example_record import FRONT, record, whole_record

from evorec.report.page_data import early_data, progress_data
from evorec.report.run_page import page
from evorec.report.verdict import names_of, sentences

HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Names and attributes of all elements; the text of scripts and styles is none."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_nothing_is_loaded_from_outside() -> None:
    elements = Elements(page(record())).found
    assert not [pair for pair in elements if pair[0] in ("link", "img", "iframe")]
    addresses = [attributes[name] for _, attributes in elements for name in ("src", "href") if name in attributes]
    assert all(str(address).startswith("#to-") for address in addresses)
    policies = [attributes for tag, attributes in elements if tag == "meta" and "http-equiv" in attributes]
    assert str(policies[0]["content"]).startswith("default-src 'none'")


def test_plotly_is_there_once() -> None:
    text = page(record())
    assert text.count("plotly.js v") == 1
    assert len(text.encode()) < 6_000_000  # one copy of plotly.js is 4.8 MB


def test_text_from_a_run_cannot_become_markup() -> None:
    hostile = record(
        {HOSTILE: next(iter(FRONT.values()))},
        failures=(HOSTILE,),
        baselines={HOSTILE: {"recall@20": 0.1, "accuracy": 0.6}},
        settings={"problem": HOSTILE, "data": {"path": HOSTILE}},
        state=HOSTILE,
        environment={HOSTILE: HOSTILE},
    )
    text = page(hostile)
    assert HOSTILE not in text
    assert "img" not in [tag for tag, _ in Elements(text).found]


def test_equal_records_give_equal_pages() -> None:
    assert page(record()) == page(record())


def test_every_part_of_a_finished_run_is_in_the_contents() -> None:
    text = page(whole_record())
    names = [str(attributes["href"]) for tag, attributes in Elements(text).found if tag == "a"]
    assert [name.removeprefix("#to-") for name in names] == [
        "choose", "confirmed", "test", "short-runs", "progress", "genes", "memory", "data", "provenance"
    ]  # fmt: skip
    assert "promised a hypervolume of 0.1000 (0.0800 to 0.1500, 80 %)" in text
    assert "0.1000 came, inside that interval" in text
    assert "loss is nan" in text


def test_a_run_without_members_or_generations_has_a_page() -> None:
    text = page(record({}, failures=("no memory",), hypervolume=()))
    assert "the archive is empty" in text
    assert "explorer-data" not in text.rpartition("<script>")[0]


def test_the_fate_of_every_genome_is_counted() -> None:
    progress = progress_data(record(dropped=(100, 100), failures=("no memory",)))
    assert progress["fates"] == {"trained": [3, 0], "dropped at step 100": [0, 2], "failed": [0, 1]}
    assert "2 dropped at step 100" in page(record(dropped=(100, 100)))


def test_early_and_late_values_belong_to_the_same_genome() -> None:
    groups = {group["title"]: group for group in early_data(whole_record())["groups"]}
    assert list(groups) == ["Step 40 against the end", "Search against fresh seeds", "Search against test"]
    accuracy = groups["Step 40 against the end"]["points"][0]
    assert accuracy["metric"] == "accuracy"
    assert all(early == pytest.approx(late - 0.05) for early, late in zip(accuracy["x"], accuracy["y"], strict=True))
    assert accuracy["correlation"] == pytest.approx(1.0)


def test_the_verdict_is_gain_pick_and_price() -> None:
    """The numbers are those of `whole_record`: the only pick, the knee, and its two cheapest exchanges."""
    found = whole_record()
    gain, pick, price = sentences(found, names_of(found))
    assert gain.endswith("by 0.0900 recall@20 (95 % interval +0.0700 to +0.1100).")
    assert pick.startswith("Recommended is the knee (")
    assert "11 members that hold with 2 fresh seeds" in pick
    assert price.startswith("From there, one more point of")
    assert sentences(record({}), {}) == []


def test_texts_have_the_contrast_that_wcag_asks_for() -> None:
    """At least 4.5 to 1 on every background that the texts have; the formula is that of WCAG 2, in full."""
    css = files("evorec.report").joinpath("page.css").read_text("utf-8")

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    schemes = [
        dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", part))
        for part in re.findall(r" *:root \{(.*?)\}", css, re.DOTALL)[:2]
    ]
    for colours in schemes:
        for text in ("ink", "soft", "accent", "base"):
            for ground in ("page", "card", "tint") + (("base-tint",) if text == "base" else ()):
                low, high = sorted((luminance(colours[text]), luminance(colours[ground])))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_the_budget_names_the_rungs() -> None:
    text = page(record(settings={"training": {"steps": 300, "rungs": [100, 200]}}))
    assert "300 steps of 1024 impressions; compared at step 100, 200, where a share of 0.5 trains on" in text
