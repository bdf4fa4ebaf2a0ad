"""`manage.py bench`: measure a server of its own; print a table and write JSON."""

import asyncio
import json
import os
import platform
import shutil
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config import servers
from runs.bench.beside import BESIDE, LOAD_NAMES, compare
from runs.bench.reference import REFERENCE
from runs.bench.scenarios import SCENARIOS
from runs.bench.site import Site, serve


class Command(BaseCommand):
    help = "Measure a server that it starts itself; the load comes from this process."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("only", nargs="*", help="scenarios to run; all if none is named")
        parser.add_argument("--scale", type=float, default=1.0, help="length of each scenario")
        parser.add_argument("--server", choices=servers.NAMES, default=servers.DAPHNE)
        parser.add_argument("--beside", choices=BESIDE, help="drive a peer alternately, too")
        parser.add_argument(
            "--peers", type=Path, help="folder with an environment for each peer, named like it"
        )
        parser.add_argument("--json", type=Path, default=Path(".data/bench.json"))

    def handle(self, *args: Any, **options: Any) -> None:
        beside, only = options["beside"], options["only"]
        names = LOAD_NAMES if beside else [scenario.name for scenario in SCENARIOS]
        if unknown := set(only) - set(names):
            raise CommandError(f"Unknown: {', '.join(unknown)}. There are {', '.join(names)}.")
        if beside:
            folder = options["peers"] or Path("peers")
            with serve(options["server"]) as site, BESIDE[beside](folder) as peer:
                self.stdout.write(f"  {'':28} {'Muster':>12} {peer.name:>12} {'ratio':>8}")
                compare(site, peer, self._say, only=only or names)
            shutil.rmtree(site.folder.parent, ignore_errors=True)
            return
        with serve(options["server"]) as site:
            rss = site.resident_kib() / 1024
            results = {"start": {"seconds": site.start_seconds, "rss_mib": rss}}
            self._print("start", results["start"])
            for scenario in SCENARIOS:
                if only and scenario.name not in only:
                    continue
                self.stdout.write(f"\n{scenario.name}: {scenario.what}")
                figures = asyncio.run(scenario.run(site, options["scale"]))
                results[scenario.name] = figures
                self._print(scenario.name, figures)
            self._write(options["json"], results, site, options["scale"])
        shutil.rmtree(site.folder.parent, ignore_errors=True)

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def _print(self, name: str, figures: dict[str, float]) -> None:
        for figure, value in figures.items():
            reference, who, goal = REFERENCE.get((name, figure), ("", "", ""))
            beside = f"{reference} ({who})" if who else ""
            self.stdout.write(
                f"  {figure:20} {value:12,.2f}  {beside:28} {f'goal {goal}' if goal else ''}"
            )
        self.stdout.flush()

    def _write(
        self, path: Path, results: dict[str, dict[str, float]], site: Site, scale: float
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        meta = {
            "generated_at": datetime.now(UTC).isoformat(),
            "python": platform.python_version(),
            "system": platform.platform(),
            "num_cpu": os.cpu_count(),
            "scale": scale,
            "rss_mib_at_end": site.resident_kib() / 1024,
        }
        path.write_text(json.dumps({"meta": meta, "results": results}, indent=2) + "\n")
        self.stdout.write(f"\nWritten to {path}")
