"""The numbers beside ours: (scenario, figure) → (reference, who measured it, our goal or "")."""

REFERENCE: dict[tuple[str, str], tuple[str, str, str]] = {
    ("gateway", "p99_ms"): ("418", "Arkloop, 8 CPUs", "< 10"),
    ("gateway", "ok"): ("1.0", "Arkloop, 8 CPUs", "≥ 0.999"),
    ("gateway", "rps"): ("923", "Arkloop, 8 CPUs", ""),
    ("api_crud", "p50_ms"): ("1086", "Arkloop, 8 CPUs", ""),
    ("api_crud", "p99_ms"): ("4959", "Arkloop, 8 CPUs", "< 100"),
    ("api_crud", "ok"): ("0.9953", "Arkloop, 8 CPUs", "≥ 0.995"),
    ("api_crud", "cycles_per_s"): ("142", "Arkloop, 8 CPUs", ""),
    ("sse_hold", "held"): ("0.902", "Arkloop, 8 CPUs", "≥ 0.99"),
    ("sse_hold", "kib_per_reader"): ("70", "Aegra", "≤ 50"),
    ("worker_runs", "completed"): ("44", "Arkloop, 8 CPUs", "50"),
    ("worker_runs", "p50_ms"): ("3906", "Arkloop, 8 CPUs", ""),
    ("worker_runs", "p95_ms"): ("4317", "Arkloop, 8 CPUs", ""),
    ("flat_1", "first_p95_ms"): ("96", "Aegra", "≤ 10"),
    ("flat_50", "deltas_per_s"): ("3230", "Aegra", "≥ 25000"),
    ("flat_50", "cpu_us_per_delta"): ("294", "Aegra", ""),
    ("flat_100", "first_p95_ms"): ("5354", "Aegra", "≤ 400"),
    ("paced_100", "total_p95_ms"): ("12151", "Aegra", "≤ 2700"),
    ("paced_100", "cpu_us_per_delta"): ("423", "Aegra", "≤ 80"),
    ("fan_out", "frames_per_s"): ("39000", "raw daphne, unpaced", ""),
    ("reads", "rps"): ("382", "Aegra", "≥ 760"),
    ("lists", "first_p95_ms"): ("26", "Aegra", "≤ 10"),
    ("lists", "deepest_p95_ms"): ("66", "Aegra", "≤ 10"),
    **{
        ("pages", f"{page}_p95_ms"): ("–", "", "≤ 150")
        for page in (
            "home",
            "runs",
            "runs_deep",
            "runs_asked",
            "runs_said",
            "threads",
            "teammates",
            "files",
            "needs_you",
            "usage",
            "audit",
            "search",
            "search_short",
        )
    },
    **{("pages", f"{page}_p95_ms"): ("–", "", "≤ 200") for page in ("run", "thread")},
    **{
        ("pages", f"{part}_part_p95_ms"): ("–", "", "≤ 80")
        for part in (
            "board",
            "peek",
            "news",
            "panel",
        )
    },
    ("start", "seconds"): ("2.2", "Aegra", "≤ 1.5"),
    ("start", "rss_mib"): ("148", "Aegra", "≤ 100"),
}
