"""A result with every part that a report can show, made up: names that look like markup, losers, a missed gate, odd values."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
SCRIPT = "<script>alert(1)</script>"
PIPE = "a|b `c` [d](e) *f*"


def money(rows: int, changed: int, before: str, after: str, saving: str, percent: str | None) -> Json:
    return {
        "rows": rows, "changed": changed, "baseline_usd": before, "routed_usd": after, "saving_usd": saving, "saving_percent": percent,
    }  # fmt: skip


def rule(
    name: str, target: str, takes: int, percent: str, alone: int, priced: Json | None, without: str | None, kind: str = "route"
) -> Json:
    line: Json = {"rule": name, "kind": kind, "target": target, "takes": takes, "takes_percent": percent, "alone": alone}
    line |= {"priced": priced} if priced else {}
    return line | ({"without": {"routed_usd": "0.00", "difference_usd": without}} if without is not None else {})


def full() -> Json:
    """The result of a replay of 10,000 requests, with all keys."""
    return {
        "schema": "policyroute.simulation/1", "engine": "policyroute 0.0.0, extractor 1", "prices": "made up",
        "digests": {"policy": "a1" * 32, "trace": "b2" * 32, "prices": "c3" * 32, "engine": "d4" * 32},
        "policy": "desk", "baseline": "recorded",
        "trace": {
            "format": "canonical", "files": ["a.parquet", "b.parquet", "c.parquet", SCRIPT], "rows": 10_000,
            "window": ["2026-03-01T00:00:00Z", "2026-03-08T23:59:59Z"], "seconds": 691199,
        },
        "headline": money(9_700, 6_100, "1240.500000000000", "803.250000000000", "437.250000000000", "35.25")
        | {"rows_in_trace": 10_000, "changed_percent": "62.89"},
        "interval": {
            "confidence_percent": 95, "method": "made up", "cluster": "user_id", "clusters": 412, "largest_cluster_percent": "4.10",
            "saving_usd": ["391.00", "483.50"], "saving_percent": ["32.10", "38.40"], "delta_saving_usd": ["392.00", "482.00"],
            "delta_saving_percent": ["32.20", "38.30"], "warnings": ["two days hold half of the spend"],
        },
        "break_even": {
            "output_ratio": "3.41", "input_ratio": "5.02",
            "sentence": "the saving vanishes only if the new models write 3.41 times as many output tokens on the changed requests",
        },
        "waterfall": [
            {"label": "baseline", "usd": "1240.500000000000", "kind": "total"},
            {"label": "incident", "usd": "61.200000000000", "kind": "change"},
            {"label": "short_questions", "usd": "-402.300000000000", "kind": "change"},
            {"label": SCRIPT, "usd": "-148.150000000000", "kind": "change"},
            {"label": "other models' answer lengths", "usd": "31.000000000000", "kind": "change"},
            {"label": "prompt cache of other models", "usd": "18.800000000000", "kind": "change"},
            {"label": "fallbacks in recorded outages", "usd": "2.200000000000", "kind": "change"},
            {"label": "under the policy", "usd": "803.250000000000", "kind": "total"},
        ],
        "lengths": {"mode": "modelled", "sentence": "answers' lengths are modelled from traffic that both models served"},
        "cache": {
            "mode": "model", "sentence": "a conversation that moves to another model loses its cached prefix", "lines": ["12 % of the input was cached"],
            "check": {
                "rows": 1, "recorded_tokens": 14_464, "modelled_tokens": 13_153, "error_percent": "-9.06", "row_error_percent": "19.25",
                "recorded_usd": "0.040492150000", "modelled_usd": "0.041287250000", "error_usd": "0.000795100000", "cost_error_percent": "1.96",
            },
        },
        "costs": [
            {"what": "prompt cache of other models", "rows": 6_100, "usd": "18.800000000000"},
            {"what": "fallbacks in recorded outages", "rows": 1, "usd": "2.200000000000"},
        ],
        "accounting": _accounting(),
        "rules": _rules(),
        "flows": _flows(),
        "segments": _segments(),
        "days": [
            {"day": f"2026-03-0{day}"} | money(1_200 + 10 * day, 760, f"{before}.000000000000", f"{after}.000000000000", f"{before - after}.000000000000", "35.00")
            for day, before, after in ((1, 90, 70), (2, 170, 110), (3, 181, 115), (5, 160, 120), (6, 201, 90), (7, 212, 130), (8, 80, 95))
        ],
        "risk": {
            "unroutable_rows": 0, "refused_rows": 120, "overflow_rows": 1, "upgraded_rows": 310, "upgraded_usd": "61.200000000000", "conversations": 2_400,
            "conversations_switching": 204, "users": 412, "users_switching": 39, "some_new_figure": None,
        },
        "examples": _examples(),
        "gates": _gates(),
        "quality": _quality(),
        "scores": _scores(),
        "comparison": [
            {"policy": "desk", "saving_usd": "437.250000000000", "saving_percent": "35.25", "interval": ["32.10", "38.40"], "changed_percent": "62.89", "routed_usd": "803.250000000000"},
            {"policy": SCRIPT, "saving_usd": "-12.000000000000", "saving_percent": "-0.97", "interval": ["-3.10", "1.20"], "changed_percent": "9.00", "routed_usd": "1252.500000000000"},
            {"policy": "desk_with_a_name_that_is_too_long_for_a_phone", "saving_usd": "500.000000000000", "saving_percent": "40.31", "interval": None, "changed_percent": "80.00", "routed_usd": "740.500000000000"},
        ],
        "self_test": {
            "model": "all", "rows": 9_800, "recorded_usd": "1238.000000000000", "recomputed_usd": "1240.500000000000", "error_usd": "2.500000000000",
            "error_percent": "0.20", "row_error_percent": "0.31", "rows_within_half_percent": 1,
            "models": [
                {"model": SCRIPT, "rows": 9_800, "recorded_usd": "1238.000000000000", "recomputed_usd": "1240.500000000000", "error_usd": "2.500000000000",
                 "error_percent": "0.20", "row_error_percent": "0.31", "rows_within_half_percent": 1},
            ],
        },
        "signals": [
            {"signal": "tokens", "source": "extracted from `messages`", "unknown_rows": 0, "unknown_percent": "0.00", "outside_type_rows": 0},
            {"signal": "plan", "source": f"column `{SCRIPT}`", "unknown_rows": 1, "unknown_percent": "0.01", "outside_type_rows": 3},
        ],
        "assumptions": ["answers keep their length: the routed model is taken to write as many tokens", f"where the caller doesn't say, `plan` is {SCRIPT}"],
        "notes": [{"code": "zero-output", "message": f"29 calls of {SCRIPT} have 0 output tokens", "rows": 29}],
    }  # fmt: skip


def _accounting() -> list[Json]:
    def line(class_: str, rows: int, percent: str, usd: str, of: str, unknown: int, why: list[str]) -> Json:
        return {
            "class": class_, "rows": rows, "row_percent": percent, "baseline_usd": usd, "baseline_percent": of, "baseline_unknown_rows": unknown, "why": why,
        }  # fmt: skip

    return [
        line("exact", 9_600, "96.00", "1200.500000000000", "96.10", 0, []),
        line("fallback", 100, "1.00", "40.000000000000", "3.20", 0, ["cache writes priced as input (40 rows)"]),
        line("unpriceable", 180, "1.80", "0.000000000000", "0.00", 1, [f"no price for what the policy calls: {SCRIPT}"]),
        line("unroutable", 0, "0.00", "0.000000000000", "0.00", 0, []),
        line("refused", 120, "1.20", "8.700000000000", "0.70", 0, ["rule `too_long` refuses"]),
        line("not replayable", 0, "0.00", "0.000000000000", "0.00", 0, []),
    ]


def _rules() -> list[Json]:
    return [
        rule("too_long", "refuse", 120, "1.20", 120, money(0, 0, "0.00", "0.00", "0.00", None), "0.00", "refuse"),
        rule(
            "incident", "opus fallback sonnet", 310, "3.10", 330, money(310, 310, "120.00", "181.20", "-61.20", "-51.00"), "-61.20"
        ),
        rule(
            "short_questions", "cheap", 5_200, "52.00", 5_400, money(5_100, 5_100, "520.00", "117.70", "402.30", "77.37"), "290.10"
        ),
        rule(
            SCRIPT,
            f"split by user: 50.00% {SCRIPT}, 50.00% cheap",
            690,
            "6.90",
            1_400,
            money(690, 690, "200.50", "52.35", "148.15", "73.89"),
            "44.00",
        ),
        rule("maybe", "cheap", 1, "0.01", 1, None, None, "shadow"),
        rule("otherwise", "standard", 3_680, "36.80", 10_000, money(3_600, 0, "400.00", "400.00", "0.00", "0.00"), None),
    ]


def _flows() -> list[Json]:
    return [
        {"from": "sonnet", "to": "mini"} | money(5_100, 5_100, "520.00", "117.70", "402.30", "77.37"),
        {"from": "sonnet", "to": "sonnet"} | money(3_600, 0, "400.00", "400.00", "0.00", "0.00"),
        {"from": SCRIPT, "to": "mini"} | money(690, 690, "200.50", "52.35", "148.15", "73.89"),
        {"from": "sonnet", "to": PIPE} | money(310, 310, "120.00", "181.20", "-61.20", "-51.00"),
    ]


def _segments() -> Json:
    def member(name: str, rows: int, before: str, after: str, saving: str, percent: str) -> Json:
        return {"member": name} | money(rows, rows // 2, before, after, saving, percent)

    top = [member(f"user-{n:03}", 300 - n, "40.00", f"{10 + n}.00", f"{30 - n}.00", f"{75 - 2 * n}.00") for n in range(10)]
    losers = [
        member(SCRIPT, 1, "0.000080600000", "0.000584000000", "-0.000503400000", "-624.57"),
        member(PIPE, 9, "1.00", "3.50", "-2.50", "-250.00"),
    ]
    return {
        "plan": {
            "members": 3,
            "top": [
                member("free", 7_000, "800.00", "300.00", "500.00", "62.50"), member("(none)", 10, "1.00", "1.00", "0.00", "0.00"),
                member("enterprise", 900, "300.00", "361.20", "-61.20", "-20.40"),
            ],
            "losers": [],
        },
        "region": {"members": 2, "top": [member("us", 6_000, "700.00", "400.00", "300.00", "42.86"), member("eu", 3_700, "540.50", "403.25", "137.25", "25.39")], "losers": []},
        "user_id": {"members": 412, "top": top, "losers": [losers[1], losers[0]]},
        "team": {"members": 0, "top": [], "losers": []},
    }  # fmt: skip


def _examples() -> list[Json]:
    def example(rule_: str, new: str, row: int, request: str | None, before: str, after: str, why: str, **more: str) -> Json:
        return {
            "rule": rule_, "from": "sonnet", "to": new, "row": row, "request_id": request, "ts": "2026-03-02T10:00:00Z", "input_tokens": 812,
            "output_tokens": None, "baseline_usd": before, "routed_usd": after, "why": why, **more,
        }  # fmt: skip

    return [
        example(
            "short_questions",
            "mini",
            12,
            "req-12",
            "0.420000000000",
            "0.031000000000",
            "largest difference",
            text=f"user: {SCRIPT}\nplease\x00 & thank you",
        ),
        example("short_questions", "mini", 40, None, "0.020000000000", "0.001000000000", "drawn"),
        example(SCRIPT, PIPE, 7, SCRIPT, "0.020000000000", "0.081000000000", "largest difference"),
    ]


def _gates() -> list[Json]:
    def requirement(text: str, value: str | None, low: str | None, high: str | None, unit: str, outcome: str, detail: str) -> Json:
        return {"text": text, "value": value, "low": low, "high": high, "unit": unit, "outcome": outcome, "detail": detail}

    return [
        {
            "gate": "release", "outcome": "fail", "traces": "traces/*.parquet", "against": "requested", "detail": "",
            "requirements": [
                requirement("savings >= 20% at 95%", "35.25", "32.10", "38.40", "%", "pass", "the lower bound is above 20 %"),
                requirement("share(premium) <= 2%", "3.10", None, None, "%", "fail", "1.10 points over"),
                requirement("cost(p95) <= $0.01 | x", None, None, None, "$", "not enough data", "about 400 more requests are needed"),
            ],
        },
        {
            "gate": SCRIPT, "outcome": "not enough data", "traces": SCRIPT, "against": "recorded", "detail": "the gate requires nothing", "requirements": [],
        },
    ]  # fmt: skip


def _quality() -> Json:
    def point(name: str, kind: str, cost: str, score: str, low: str | None, high: str | None) -> Json:
        return {"name": name, "kind": kind, "cost_usd": cost, "score": score, "score_low": low, "score_high": high}

    return {
        "identifiable": True, "sentence": "the policy scores as well as the best single model at equal cost", "remedy": "",
        "points": [
            point("desk", "policy", "803.25", "0.842000", "0.821000", "0.863000"), point("mini", "single", "120.00", "0.702000", "0.680000", "0.724000"),
            point("sonnet", "single", "1240.50", "0.861000", "0.840000", "0.882000"), point(SCRIPT, "single", "900.00", "0.815000", "0.790000", "0.840000"),
            point("haiku", "single", "410.00", "0.770000", "0.749000", "0.791000"), point("oracle", "oracle", "620.00", "0.921000", None, None),
            point("random mix", "random", "803.25", "0.798000", None, None),
        ],
        "warnings": ["only 40 % of the requests are compared"], "assumptions": ["nothing is cached"], "logged": [logged()],
    }  # fmt: skip


def logged() -> Json:
    """What propensities say of an outcome."""
    return {
        "outcome": "thumbs", "rows": 10_000, "used_rows": 9_000, "left_out": [{"why": "no propensity", "rows": 1_000}], "identifiable": True, "refusals": [],
        "overlap": {
            "unsupported_percent": "0.40", "effective_sample": "1204.0", "largest_weight": "41.00", "top_1_percent_hold_percent": "12.00", "mean_weight": "0.990",
            "mean_weight_error": "0.020", "moved_rows": 0, "moved_percent": "0.00", "moved_effective_sample": "0.0",
        },
        "clip": None, "sentence": "mean `thumbs` would go from 0.42 to 0.41", "remedy": "", "confidence_percent": 95, "clusters": 412, "method": "delta method",
        "estimates": {
            "logged": {"value": "0.4200", "interval": ["0.4100", "0.4300"]},
            "dr": {"value": "0.4100", "interval": ["0.3900", "0.4300"], "difference": "-0.0100", "difference_error": "0.0100", "difference_interval": ["-0.0300", "0.0100"]},
        },
        "warnings": ["clipping at 100 cuts 6 % of the weight"], "assumptions": ["a request's outcome depends on its own model only"],
    }  # fmt: skip


def _scores() -> Json:
    def line(stratum: str, scored: int, mean: str | None, low: str, high: str, verdict: str) -> Json:
        return {
            "stratum": stratum, "row_percent": "50.00", "scored": scored, "mean_percent": mean, "low_percent": low, "high_percent": high, "verdict": verdict,
        }  # fmt: skip

    return {
        "scored": 50, "drawn": 100, "scale": "0 or 1", "wanted_percent": "95.00", "per": "tier", "confidence_percent": 95,
        "strata": [line("cheap", 50, "90.00", "78.60", "95.70", "alarm"), line(SCRIPT, 0, None, "0.00", "100.00", "not scored")],
        "overall": {"mean_percent": "90.00", "covered_percent": "50.00", "low_percent": "78.60", "high_percent": "95.70"},
        "alarms": [{"verdict": "alarm", "text": "cheap: 95 % is not shown"}], "warnings": ["50 drawn requests are not scored"],
    }  # fmt: skip


def paired_quality() -> Json:
    """The panel of an outcomes table, in its own shape."""

    def line(name: str, cost: str, score: str) -> Json:
        return {"name": name, "cost_usd": cost, "score": score, "score_interval": ["0.10", "0.20"]}

    return {
        "verdict": {"word": "do not route", "sentence": "do not route: `mini` for all is as good and cheaper", "requests_needed": None},
        "policy": line("desk", "2.00", "0.15"), "singles": [line("mini", "1.00", "0.15"), line("sonnet", "3.00", "0.16")],
        "oracle": line("oracle", "1.50", "0.19"), "random_mix": {"cost_usd": "2.00", "score": "0.155"}, "warnings": [], "assumptions": [],
    }  # fmt: skip


def silent_quality() -> Json:
    """The panel of traces that can't tell."""
    return {
        "identifiable": False, "sentence": "quality is not identifiable from these traces", "remedy": "add `explore 1% by user` to the policy", "estimates": None,
        "warnings": [], "assumptions": [],
    }  # fmt: skip


OPTIONAL = (
    "interval", "break_even", "waterfall", "lengths", "cache", "costs", "days", "risk", "examples", "gates", "quality", "scores", "comparison", "self_test",
)  # fmt: skip


def bare() -> Json:
    """The result without anything that may be absent."""
    return {key: value for key, value in full().items() if key not in OPTIONAL}
