"""Tables of the test results, for the terminal and the HTML page."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evorec.report.table import MISSING, SHORT, Column, Row, Table, show_metric

if TYPE_CHECKING:
    from evorec.report.record import RunRecord

DOMINATED = "†"
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


def final_sections(record: RunRecord) -> tuple[tuple[Table, str], ...]:
    """The same tables, each with a sentence on how to read it; a report of an older evorec has fewer."""
    final = record.final
    if final is None:
        return ()
    first = final["picks"][:1]
    sections = [
        (
            _test_table(record, final),
            "Picks made on validation, trained again on train and validation with fresh seeds; the test was opened "
            "once.",
        ),
        (
            _against_table(final),
            "Paired over the users of the test, bootstrap intervals; the model of the first seed is shipped.",
        ),
    ]
    if any("interval" in entry for entry in first):
        about = "How far the shipped model's figures move when the users of the test are drawn again."
        sections.append((_interval_table(record, final), about))
    if any("parts" in entry for entry in first):
        about = (
            "Accuracy of the rows whose user and item have a training row, whose user has none, whose item has none; "
            "recall of users with and without a past. A dash is not defined, for want of rows of both classes."
        )
        sections.append((_parts_table(record, final), about))
    if final.get("proxies", {}).get("of"):
        about = (
            "Whether the short runs of the search, on its sample of users, put the members in the order of the test: "
            "1 = the same order, 0 = none."
        )
        sections.append((_proxy_table(record, final["proxies"]), about))
    return tuple(sections)


def final_notes(record: RunRecord) -> str:
    """Results that are missing from the tables, with the reason; a line each."""
    final = record.final or {}
    lines = []
    by_member = {entry["member"]: entry for entry in final.get("picks", ())}
    ended = [entry["ended"] for entry in by_member.values() if "ended" in entry]
    if n_longest := ended.count("longest"):
        lines.append(
            f"{n_longest} of {len(ended)} members reached finalize.longest with a metric still in its patience."
        )
    if left_out := final.get("dominance", {}).get("left_out"):
        lines.append(f"Dominance leaves out {', '.join(left_out)}: the test does not measure it.")
    for name, why in final.get("skipped_baselines", {}).items():
        lines.append(f"No {name}: {why}.")
    drawn = {f"{found['rows']:,} of {found['of_rows']:,}" for found in final.get("boosting", {}).values()
             if found["rows"] < found["of_rows"]}  # fmt: skip
    if drawn:
        lines.append(f"gradient_boosting was fitted on {', '.join(sorted(drawn))} training rows.")
    reasons: dict[str, list[str]] = {}
    for metric, why in final.get("proxies", {}).get("left_out", {}).items():
        reasons.setdefault(why, []).append(metric)
    lines += [f"No rank correlation with the search of {', '.join(names)}: {why}." for why, names in reasons.items()]
    return "\n".join(lines)


def _name(entry: Mapping[str, Any]) -> str:
    """The pick, long text on several lines; a member picked by its key is named by the start of the key."""
    if entry["pick"] == entry["member"]:
        return str(entry["member"][:SHORT])
    return "\n".join(textwrap.wrap(re.sub(r"\s*,\s*", ", ", entry["pick"]), NAME_WIDTH, break_long_words=False))


def _test_table(record: RunRecord, final: Mapping[str, Any]) -> Table:
    measures, seeds = record.measures, len(final["seeds"])
    has_steps = any("steps" in entry for entry in final["picks"])
    rows = []
    for entry in final["picks"]:
        mark = "" if entry.get("non_dominated", True) else f" {DOMINATED}"
        steps = (entry.get("steps"),) if has_steps else ()
        values = (_spread(entry["test"].get(measure.key), seeds) for measure in measures)
        rows.append(Row(_name(entry), (entry["member"][:SHORT] + mark, *steps, *values), "member"))
    for name, metrics in final["baselines"].items():
        values = (show_metric(metrics.get(measure.key)) for measure in measures)
        rows.append(Row(name, ("", *([""] if has_steps else []), *values), "baseline"))
    title = f"Test, mean of {seeds} {'seeds ± standard deviation' if seeds > 1 else 'seed'}"
    if not all(entry.get("non_dominated", True) for entry in final["picks"]):
        title += f"; {DOMINATED} another pick is no worse in any objective, and better"
    columns = (
        Column("member"),
        *([Column("steps", numbers="count")] if has_steps else []),
        *(Column(m.key, m.unit, title=f"{m.title}{_ARROWS[m.direction]}") for m in measures),
    )
    return Table(title, "pick", columns, tuple(rows))


def _spread(found: Mapping[str, float] | None, n_seeds: int) -> str:
    if found is None:
        return MISSING
    mean = show_metric(found["mean"])
    return f"{mean}\n± {_short(found['sd'])}" if n_seeds > 1 and found["sd"] else mean


def _short(value: float) -> str:
    """A share without the zero before its point, so that six columns fit a terminal."""
    return show_metric(value).removeprefix("0")


def _against_table(final: Mapping[str, Any]) -> Table:
    """Differences to the baselines, with intervals; a difference counts when its interval leaves 0 out."""
    rows = []
    metrics = set()
    for entry in final["picks"]:
        for name, found in entry["against"].items():
            low, high = found["low"], found["high"]
            outcome = "better" if low > 0 else "worse" if high < 0 else "not shown to differ"
            interval = f"{low:+.4f} to {high:+.4f}"
            rows.append(Row(_name(entry), (name, f"{found['mean_difference']:+.4f}", interval, outcome)))
            metrics.add(found["metric"])
    columns = (Column("baseline"), Column("difference"), Column("95 % interval"), Column("so it is"))
    return Table(f"Shipped model against the baselines on {', '.join(sorted(metrics))}", "pick", columns, tuple(rows))


def _interval_table(record: RunRecord, final: Mapping[str, Any]) -> Table:
    """Recall, NDCG and the order of every task; those of numbers have no interval."""
    shipped = final["picks"][0]["shipped"]
    keys = [key for key in (record.resolve("recall@k"), record.resolve("ndcg@k")) if key in shipped]
    keys += [key for key in shipped if _OF_TASK.fullmatch(key)]
    rows = [
        Row(_name(entry), tuple(_with_interval(entry["shipped"][key], entry["interval"].get(key)) for key in keys))
        for entry in final["picks"]
    ]
    for name, metrics in final["baselines"].items():
        rows.append(Row(name, tuple(show_metric(metrics.get(key)) for key in keys), "baseline"))
    columns = tuple(Column(key, title=key.replace("/", "/\n")) for key in keys)
    return Table("Shipped model, 95 % intervals over users", "pick", columns, tuple(rows))


def _with_interval(value: float, found: Mapping[str, float] | None) -> str:
    """The value with its interval on the next line."""
    return show_metric(value) + (f"\n{_short(found['low'])}–{_short(found['high'])}" if found else "")


def _parts_table(record: RunRecord, final: Mapping[str, Any]) -> Table:
    recall, cold = record.resolve("recall@k"), record.resolve("cold_start_recall@k")
    rows = [(_name(entry), entry["parts"], "member") for entry in final["picks"]]
    rows += [
        (name, found | {cold: final["baselines"][name].get(cold)}, "baseline")
        for name, found in final.get("baseline_parts", {}).items()
    ]
    first = final["picks"][0]["parts"]
    columns = [
        Column(f"{metric} {text}", title=f"{metric}\n{text}\n{first[group][part][unit]:,} {unit}", direction="max")
        for group, part, unit, text in _PARTS
        for metric in ["accuracy" if group == "rows" else recall]
    ]
    columns.append(Column(cold, title=cold.replace("_", " ").replace("start ", "start\n"), direction="max"))
    return Table(
        "The test by what was known of users and items",
        "pick",
        tuple(columns),
        tuple(Row(name, (*_part_values(found, recall), found.get(cold)), kind) for name, found, kind in rows),
    )


def _part_values(found: Mapping[str, Any], recall: str) -> Sequence[float | None]:
    return [
        found.get(group, {}).get(part, {}).get("accuracy" if group == "rows" else recall) for group, part, *_ in _PARTS
    ]


def _proxy_table(record: RunRecord, proxies: Mapping[str, Any]) -> Table:
    titles = {measure.key: measure.title for measure in record.measures}
    rows = tuple(
        Row(titles.get(metric, metric), (f"{found['spearman']:+.2f}", f"{found['kendall']:+.2f}", proxies["n"]))
        for metric, found in proxies["of"].items()
    )
    columns = (Column("Spearman"), Column("Kendall"), Column("members", numbers="count"))
    return Table("Rank correlation of search and test", "objective", columns, rows)
