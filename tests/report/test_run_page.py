from html.parser import HTMLParser

import pytest
from example_record import FRONT, record

from evorec.report.run_page import page

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
    assert not [attributes for _, attributes in elements if {"src", "href"} & set(attributes)]
    policies = [attributes for tag, attributes in elements if tag == "meta" and "http-equiv" in attributes]
    assert str(policies[0]["content"]).startswith("default-src 'none'")


def test_plotly_is_there_once() -> None:
    text = page(record())
    assert text.count("plotly.js v") == 1
    assert len(text) < 6_000_000  # bytes; one copy of plotly.js is 4.8 MB


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


@pytest.mark.parametrize("title", ["Search", "The front", "Trade-offs", "Hypervolume per generation", "Failures"])
def test_the_sections_are_there(title: str) -> None:
    assert f"<h2>{title}</h2>" in page(record())


def test_a_run_without_members_or_generations_has_a_page() -> None:
    text = page(record({}, failures=("no memory",), hypervolume=()))
    assert "the archive is empty" in text
    assert "<h2>The front</h2>" not in text


def test_dropped_genomes_have_a_section_of_their_own() -> None:
    text = page(record(dropped=(100, 100)))
    assert "<h2>Dropped</h2>" in text
    assert "2 dropped at step 100" in text
    assert "dropped" not in page(record()).split("</script>", 1)[1]


def test_the_budget_names_the_rungs() -> None:
    text = page(record(settings={"training": {"steps": 300, "rungs": [100, 200]}}))
    assert "300 steps of 1024 impressions; compared at step 100, 200, where a share of 0.5 trains on" in text
