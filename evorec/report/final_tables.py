"""Tables of the test results, for the terminal and the HTML page."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evorec.report.table import MISSING, Column, Row, Table, counted, show_metric

if TYPE_CHECKING:
    from evorec.report.record import RunRecord

DOMINATED = "†"
SHORT = 8  # digits shown of a key that does not fit; commands accept a shortened key
NAME_WIDTH = 20  # of a pick, so that the figures beside it fit a terminal
_ARROWS = {"max": " ↑", "min": " ↓"}
_OF_TASK = re.compile(r"(auc|concordance)/.+")
_PARTS = (
    ("rows", "known", "rows", "known"),
    ("rows", "new_users", "rows", "new users"),
    ("rows", "new_items", "rows", "new items"),
    ("users", "with_history", "users", "with history"),
    ("users", "without_history", "users", "without history"),
)
"""Path of each part in the report, its unit and its title."""


def final_tables(record: RunRecord) -> tuple[Table, ...]:
    """Test results of the picks; empty before `evorec.deploy.final.finalize`."""
    return tuple(table for table, _ in final_sections(record))


def final_sections(record: RunRecord) -> Iterator[tuple[Table, str]]:
    """The same tables, each with a sentence on how to read it; a report of an older evorec has fewer."""
    final = record.final
    if final is None:
        return
    first = final["picks"][0] if final["picks"] else {}
    among = ""
    if confirmed := final.get("confirmed"):
        seeds = counted(confirmed["seeds"], "fresh seed")
        among = f" among the {confirmed['members']} of {confirmed['of']} members that are confirmed with {seeds}"
    yield (
        _test_table(record, final),
        f"Picks made on validation{among}, trained again on train and validation with fresh seeds; the test was opened "
        "once.",
    )
    if first.get("against"):
        yield (
            _against_table(final),
            "Paired over the users of the test, bootstrap intervals; the model of the first seed is shipped.",
        )
    if "interval" in first:
        about = f"How far the shipped model's figures move when the {_units(record)} of the test are drawn again."
        yield _interval_table(record, final), about
    if "parts" in first:
        yield (
            _parts_table(record, final),
            "Accuracy of the rows whose user and item have a training row, whose user has none, whose item has none; "
            "recall of users with and without a past. A dash is not defined, for want of rows of both classes.",
        )
    proxies = final.get("proxies", {})
    if proxies.get("of"):
        titles = {column.key: column.title for column in record.columns}
        rows = (
            (titles.get(metric, metric), f"{found['spearman']:+.2f}", f"{found['kendall']:+.2f}", proxies["n"])
            for metric, found in proxies["of"].items()
        )
        headings = ("objective", "Spearman", "Kendall", Column("members", numbers="count"))
        yield (
            Table.of("Rank correlation of search and test", headings, rows),
            "Whether the short runs of the search, on its sample of users, put the members in the order of the test: "
            "1 = the same order, 0 = none.",
        )


def final_members(record: RunRecord) -> dict[str, str]:
    """The members of the picks, by the names that the tables give to the picks."""
    return {_name(entry): entry["member"] for entry in (record.final or {}).get("picks", ())}


def final_notes(record: RunRecord) -> str:
    """Results that are missing from the tables, with the reason; a line each."""
    final = record.final or {}
    lines = []
    ended = [why for why in {entry["member"]: entry.get("ended") for entry in final.get("picks", ())}.values() if why]
    if n_longest := ended.count("longest"):
        lines.append(
            f"{n_longest} of {len(ended)} members reached finalize.longest with a metric still in its patience."
        )
    if left_out := final.get("dominance", {}).get("left_out"):
        lines.append(f"Dominance leaves out {', '.join(left_out)}: the test does not measure it.")
    lines += [f"No {name}: {why}." for name, why in final.get("skipped_baselines", {}).items()]
    drawn = {f"{found['rows']:,} of {found['of_rows']:,}" for found in final.get("boosting", {}).values()
             if found["rows"] < found["of_rows"]}  # fmt: skip
    if drawn:
        lines.append(f"gradient_boosting was fitted on {', '.join(sorted(drawn))} training rows.")
    reasons: dict[str, list[str]] = {}
    for metric, why in final.get("proxies", {}).get("left_out", {}).items():
        reasons.setdefault(why, []).append(metric)
    lines += [f"No rank correlation with the search of {', '.join(names)}: {why}." for why, names in reasons.items()]
    return "\n".join(lines)


def _entries(final: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The picks, then the ensembles."""
    return [*final["picks"], *final.get("ensembles", ())]


def _units(record: RunRecord) -> str:
    """Units that the bootstrap draws."""
    return "rows" if getattr(record.config, "of_rows", False) else "users"


def _name(entry: Mapping[str, Any]) -> str:
    """The pick, long text on several lines; a member picked by its key is named by the start of the key."""
    if "ensemble" in entry:
        return str(entry["ensemble"])
    if entry["pick"] == entry["member"]:
        return str(entry["member"][:SHORT])
    return "\n".join(textwrap.wrap(re.sub(r"\s*,\s*", ", ", entry["pick"]), NAME_WIDTH, break_long_words=False))


def _test_table(record: RunRecord, final: Mapping[str, Any]) -> Table:
    n_seeds, picks = len(final["seeds"]), _entries(final)
    has_steps = any("steps" in entry for entry in picks)

    def mean(found: Mapping[str, float] | None) -> str:
        if found is None:
            return MISSING
        spread = f"\n± {_short(found['sd'])}" if n_seeds > 1 and found["sd"] else ""
        return show_metric(found["mean"]) + spread

    rows = []
    for entry in picks:
        mark = "" if entry.get("non_dominated", True) else f" {DOMINATED}"
        member = f"{len(entry['members'])} members" if "ensemble" in entry else entry["member"][:SHORT]
        facts = (member + mark, *([entry.get("steps")] if has_steps else []))
        values = (mean(entry["test"].get(column.key)) for column in record.columns)
        rows.append(Row(_name(entry), (*facts, *values), "ensemble" if "ensemble" in entry else "member"))
    for name, metrics in final["baselines"].items():
        values = (show_metric(metrics.get(column.key)) for column in record.columns)
        rows.append(Row(name, (*([""] * (1 + has_steps)), *values), "baseline"))
    title = f"Test, mean of {n_seeds} {'seeds ± standard deviation' if n_seeds > 1 else 'seed'}"
    if not all(entry.get("non_dominated", True) for entry in picks):
        other = "pick or ensemble" if final.get("ensembles") else "pick"
        title += f"; {DOMINATED} another {other} is no worse in any objective, and better"
    columns = [Column("member")]
    columns += [Column("steps", numbers="count")] if has_steps else []
    columns += [Column(c.key, c.unit, title=f"{c.title}{_ARROWS[c.direction or 'max']}") for c in record.columns]
    return Table(title, "pick", tuple(columns), tuple(rows), has_lines=True)


def _short(value: float) -> str:
    """A share without the zero before its point, so that six columns fit a terminal."""
    return show_metric(value).removeprefix("0")


def _against_table(final: Mapping[str, Any]) -> Table:
    """Differences to the baselines, with intervals; a difference counts when its interval leaves 0 out."""
    rows = []
    metrics = set()
    for entry in _entries(final):
        for name, found in entry["against"].items():
            low, high = found["low"], found["high"]
            outcome = "better" if low > 0 else "worse" if high < 0 else "not shown to differ"
            rows.append((_name(entry), name, f"{found['mean_difference']:+.4f}", f"{low:+.4f} to {high:+.4f}", outcome))
            metrics.add(found["metric"])
    title = f"Shipped model against the baselines on {', '.join(sorted(metrics))}"
    table = Table.of(title, ("pick", "baseline", "difference", "95 % interval", "so it is"), rows)
    return replace(table, has_lines=True)


def _interval_table(record: RunRecord, final: Mapping[str, Any]) -> Table:
    """Recall, NDCG and the order of every task; those of numbers have no interval."""
    shipped = final["picks"][0]["shipped"]
    keys = [key for key in (record.resolve("recall@k"), record.resolve("ndcg@k")) if key in shipped]
    keys += [key for key in shipped if _OF_TASK.fullmatch(key)]

    def with_interval(entry: Mapping[str, Any], key: str) -> str:
        found, value = entry["interval"].get(key), show_metric(entry["shipped"][key])
        return value + (f"\n{_short(found['low'])}–{_short(found['high'])}" if found else "")

    rows = [Row(_name(entry), tuple(with_interval(entry, key) for key in keys)) for entry in _entries(final)]
    for name, metrics in final["baselines"].items():
        rows.append(Row(name, tuple(show_metric(metrics.get(key)) for key in keys), "baseline"))
    columns = tuple(Column(key, title=key.replace("/", "/\n")) for key in keys)
    return Table(f"Shipped model, 95 % intervals over {_units(record)}", "pick", columns, tuple(rows), has_lines=True)


def _parts_table(record: RunRecord, final: Mapping[str, Any]) -> Table:
    recall, cold = record.resolve("recall@k"), record.resolve("cold_start_recall@k")
    metric = {"rows": "accuracy", "users": recall}
    first = final["picks"][0]["parts"]
    columns = [
        Column(
            f"{metric[group]} {text}",
            title=f"{metric[group]}\n{text}\n{first[group][part][unit]:,} {unit}",
            direction="max",
        )
        for group, part, unit, text in _PARTS
    ]
    columns.append(Column(cold, title=cold.replace("_", " ").replace("start ", "start\n"), direction="max"))
    found = [(_name(entry), entry["parts"], entry["parts"].get(cold), "member") for entry in _entries(final)]
    for name, parts in final.get("baseline_parts", {}).items():
        found.append((name, parts, final["baselines"][name].get(cold), "baseline"))
    rows = [
        Row(name, (*(parts.get(g, {}).get(part, {}).get(metric[g]) for g, part, *_ in _PARTS), of_cold), kind)
        for name, parts, of_cold, kind in found
    ]
    return Table("The test by what was known of users and items", "pick", tuple(columns), tuple(rows), has_lines=True)
