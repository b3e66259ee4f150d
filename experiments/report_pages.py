"""Pictures of the pages of `evorec report` for the guide, and size and opening time of a page of 5,000 evaluations.

    python experiments/report_pages.py RUN RUN ...

The page of the first run, which should be confirmed and finalized, and the page that compares all runs are opened in
Chromium without a window; every view is saved as WebP, for a desktop and a phone, in both schemes. The large run has
the members of the first one's objectives: its evaluations are those of the first run, again and again, with noise of a
twentieth of the range of each objective. Opening time is that of a fresh tab, from the request until the script has run
and everything in the first screen is drawn, and until all views of the whole page are drawn.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from results_file import write_results

from evorec.archive.indicators import normalised
from evorec.archive.pareto import non_dominated
from evorec.report.comparison_page import comparison_page
from evorec.report.record import Member, RunRecord, read_record
from evorec.report.run_page import page
from evorec.run.directory import find_run
from evorec.seeds import generator

if TYPE_CHECKING:
    from selenium import webdriver

RESULT: Final = Path(__file__).parent / "results" / "report_pages.json"
PICTURES: Final = Path(__file__).parents[1] / "docs" / "assets" / "report"
N_EVALUATIONS: Final = 5000
OPENINGS: Final = 5
NOISE: Final = 0.05
SCREENS: Final = {"desktop": (1400, 900), "phone": (390, 844)}
VIEWS: Final = {
    "verdict": "header, .verdict, .tiles",
    "choose": "#chips, #controls, #parallel, #sheet",
    "pairs": "#matrix",
    "space": "#space-axes, #space",
    "members": "#members .scroll",
    "confirmed": "#to-confirmed",
    "short-runs": "#to-short-runs",
    "progress": "#to-progress",
    "genes": "#to-genes .plot",
    "memory": "#to-memory",
}
"""Names of the pictures of a run, and the elements that they show."""
COMPARED: Final = {
    "compare-fronts": "#matrix",
    "compare-hypervolume": "#hypervolume",
    "compare-attainment": "#attainment",
}
QUALITY: Final = 60


def browser() -> webdriver.Chrome:
    """Chromium of the system, with WebGL in software."""
    os.environ["SE_OFFLINE"] = "true"
    from selenium import webdriver  # no dependency of evorec
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    for flag in ("headless=new", "no-sandbox", "enable-unsafe-swiftshader", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def take_pictures(driver: webdriver.Chrome, file: Path, views: dict[str, str]) -> None:
    """Save every view as VIEW-SCREEN-SCHEME.webp."""
    for screen, (width, height) in SCREENS.items():
        for scheme in ("light", "dark"):
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": screen == "phone"}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            driver.get(file.as_uri())
            driver.execute_script("for (const own of views) reveal(own);")
            time.sleep(3)  # WebGL draws after the script
            for name, css in views.items():
                clip = driver.execute_script(
                    """const boxes = [...document.querySelectorAll(arguments[0])].map(e => e.getBoundingClientRect());
                    const left = Math.max(Math.min(...boxes.map(b => b.left)) - 8, 0);
                    const top = Math.min(...boxes.map(b => b.top)) + scrollY - 8;
                    const right = Math.min(Math.max(...boxes.map(b => b.right)) + 8, innerWidth);
                    const height = Math.max(...boxes.map(b => b.bottom)) + scrollY - top + 8;
                    return {x: left, y: top, width: right - left, height: Math.min(height, 1400), scale: 1};""",
                    css,
                )
                settings = {"format": "webp", "quality": QUALITY, "captureBeyondViewport": True, "clip": clip}
                image = driver.execute_cdp_cmd("Page.captureScreenshot", settings)
                (PICTURES / f"{name}-{screen}-{scheme}.webp").write_bytes(base64.b64decode(image["data"]))


def large(record: RunRecord, n: int) -> RunRecord:
    """A record with n evaluations, and their front."""
    rng = generator(0, "a large run")
    known = [row for row in record.evaluations if row.metrics is not None and not row.dropped]
    spans = {o.metric: np.ptp(o.normalised([row.metrics[o.metric] for row in known])) for o in record.objectives}
    rows = []
    for seq in range(n):
        row = known[seq % len(known)]
        values = dict(row.metrics)
        for axis in record.objectives:
            at = axis.normalised([values[axis.metric]]) + NOISE * spans[axis.metric] * rng.standard_normal(1)
            values[axis.metric] = float(axis.natural(at)[0])
        generation = 1 + seq * 100 // n
        rows.append(replace(row, seq=seq, key=f"{seq * 7919 + 16**15:016x}", generation=generation, metrics=values))
    front = non_dominated(normalised([row.metrics for row in rows], record.objectives))
    members = tuple(Member.of(row) for row, is_best in zip(rows, front, strict=True) if is_best)
    return replace(
        record, evaluations=tuple(rows), members=members, confirmed=None, final=None, rungs={}, surrogate={},
        inherited={}, energy={}, hypervolume=tuple(np.linspace(0.1, 0.2, 100).tolist()), seconds=(),
    )  # fmt: skip


def opening_s(driver: webdriver.Chrome, file: Path) -> dict[str, float]:
    """Seconds until the first screen is drawn, and until the whole page is."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    driver.get("about:blank")
    driver.get(file.as_uri())
    first = driver.execute_async_script(
        """const done = arguments[0], isOpen = () => views.some(own => own.visible) &&
            views.every(own => own.drawn || !own.visible);
        const wait = () => isOpen() ? done(performance.now()) : setTimeout(wait, 10);
        wait();"""
    )
    whole = driver.execute_script(
        "const start = performance.now(); for (const own of views) reveal(own); return performance.now() - start;"
    )
    return {"first_screen": first / 1000, "whole_page": (first + whole) / 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--only", choices=("pictures", "opening"), help="leave the other part out")
    arguments = parser.parse_args()
    records = [read_record(find_run(path)) for path in arguments.runs]
    driver = browser()
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "report.html"
            if arguments.only != "opening":
                PICTURES.mkdir(parents=True, exist_ok=True)
                file.write_text(page(records[0]), encoding="utf-8")
                take_pictures(driver, file, VIEWS)
                if len(records) > 1:
                    file.write_text(comparison_page(records), encoding="utf-8")
                    take_pictures(driver, file, COMPARED)
            if arguments.only != "pictures":
                record = large(records[0], N_EVALUATIONS)
                started = time.perf_counter()
                text = page(record)
                written_s = time.perf_counter() - started
                file.write_text(text, encoding="utf-8")
                times = [opening_s(driver, file) for _ in range(OPENINGS)]
                found: dict[str, Any] = {
                    "evaluations": N_EVALUATIONS,
                    "members": len(record.members),
                    "megabytes": len(text.encode()) / 1e6,
                    "written_s": written_s,
                    **{
                        name: {"median_s": float(np.median(own)), "least_s": min(own), "most_s": max(own)}
                        for name in times[0]
                        for own in [[one[name] for one in times]]
                    },
                    "load": os.getloadavg()[0],
                    "browser": driver.capabilities["browserVersion"],
                }
                write_results(RESULT, found)
                print(RESULT.read_text(encoding="utf-8"))
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
