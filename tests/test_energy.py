"""Energy is read from meters where there are any, shared by who works at the same time, and never part of a result."""

import json
import os
from pathlib import Path

import pytest
from analytic import Analytic

from evorec.cli import main
from evorec.config import SearchConfig
from evorec.energy import EnergyMeter, kwh, sources_text
from evorec.run.directory import RunDirectory
from evorec.search.engine import search
from evorec.search.executors import ThreadExecutor

TICKS = os.sysconf("SC_CLK_TCK")


class Machine:
    """A machine with a processor of 2 packages, whose meters and clocks a test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cpu_s, self.gpu_joules = folder, 0.0, {"GPU-1": 5.0}
        self.busy(0.0)
        for package in (0, 1):
            (folder / f"intel-rapl:{package}").mkdir()
            self.count(package, 900)
        (folder / "intel-rapl:0:0").mkdir()  # the cores of a package, which the package counts too
        (folder / "intel-rapl:0:0" / "energy_uj").write_text("77000000")

    def count(self, package: int, joules: int) -> None:
        (self.folder / f"intel-rapl:{package}" / "energy_uj").write_text(f"{joules * 1_000_000}\n")
        (self.folder / f"intel-rapl:{package}" / "max_energy_range_uj").write_text(f"{1000 * 1_000_000}\n")

    def busy(self, seconds: float) -> None:
        """CPU seconds of the machine, half of them in the system; idle and waiting time does not count."""
        half = round(seconds * TICKS / 2)
        (self.folder / "stat").write_text(f"cpu  {half} 0 {half} 99999 99999 0 0 7 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")

    def meter(self) -> EnergyMeter:
        return EnergyMeter(
            powercap=self.folder, stat=self.folder / "stat", cpu_s=lambda: self.cpu_s,
            gpu_joules=lambda: self.gpu_joules,
        )  # fmt: skip


def test_a_process_gets_its_share_of_the_processor_and_the_gpu_as_a_whole(tmp_path: Path) -> None:
    """The packages use 50 J and, over the end of the counter, 150 J; the process has 3 of 12 CPU seconds."""
    machine = Machine(tmp_path)
    meter = machine.meter()
    with meter.measure() as joules:
        machine.count(0, 950)
        machine.count(1, 50)
        machine.busy(12.0)
        machine.cpu_s, machine.gpu_joules = 3.0, {"GPU-1": 25.0}
    assert joules == {"rapl": pytest.approx((50 + 150) * 3 / 12), "nvml": 20.0}
    assert kwh({"rapl": 1.8e6, "nvml": 1.8e6}) == 1.0
    assert sources_text(joules) == "CPU measured (RAPL); GPU measured (NVML)"


def test_without_a_meter_the_figure_is_an_estimate_that_works_at_the_same_time_share(tmp_path: Path) -> None:
    """10 W: 2 s alone, then 3 s shared by two, then 1 s alone."""
    cpu_s = 0.0
    meter = EnergyMeter(powercap=tmp_path, stat=tmp_path / "none", cpu_s=lambda: cpu_s, gpu_joules=dict)
    with meter.measure() as whole:
        cpu_s = 2.0
        with meter.measure() as inner:
            cpu_s = 5.0
        cpu_s = 6.0
    cpu_s = 100.0
    assert whole == {"estimate": pytest.approx(20 + 15 + 10)}
    assert inner == {"estimate": pytest.approx(15)}


def test_a_meter_that_only_root_may_read_is_none(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for package in (0, 1):
        (tmp_path / f"intel-rapl:{package}" / "energy_uj").unlink()
    with machine.meter().measure() as joules:
        machine.cpu_s = 1.0
    assert joules == {"estimate": 10.0, "nvml": 0.0}


def test_a_run_has_the_energy_of_every_evaluation_beside_its_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["search", "-p", "analytic", "--set", f"run.output={tmp_path}", "--set", "search.generations=2"]
    assert main([*command, "--format", "json"]) == 0
    value = json.loads(capsys.readouterr().out)
    (path,) = tmp_path.glob("analytic-*")
    with RunDirectory.open(path, read_only=True) as run:
        keys, energy = {found.key for found in run.ledger.evaluations()}, run.energy()
    assert energy.keys() == keys
    assert value["energy"]["kwh"] == pytest.approx(sum(map(kwh, energy.values())))
    assert "estimated: CPU time at 10 W per busy core" in value["energy"]["text"] or "RAPL" in value["energy"]["text"]
    members = [row["member"] for row in value["front"] if row["kind"] == "member"]
    assert value["energy"]["members"] == {key: kwh(energy[key]) for key in members}
    assert main(["front", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "energy" in out.splitlines()[1]
    assert "kWh for " in err
    assert main(["report", str(path)]) == 0
    assert "kWh for " in (path / "report.html").read_text()


def test_energy_changes_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SearchConfig(population=8, generations=3)
    plain = search(Analytic(), config)
    meter = EnergyMeter(cpu_s=(float(2**n) for n in range(500)).__next__)
    monkeypatch.setattr("evorec.search.evaluator.process_meter", lambda: meter)
    assert search(Analytic(), config, executor=ThreadExecutor(2)) == plain
