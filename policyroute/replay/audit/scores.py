"""Scores of an audit: a filled sheet, and what it shows: correctness per stratum with its interval, and the 95 % alarm.

- Yes or no: the exact interval of Clopper and Pearson (1934, "The use of confidence or fiducial limits illustrated in the case
  of the binomial"), which covers at least 95 % at every sample size.
- Scores in between (0 to 1; 1 to 5 counts as (score - 1) / 4): Wilson's score interval (1927) with the mean in place of the
  share. A score between 0 and 1 varies at most as yes or no with the same mean does, so the interval is not too narrow.
- All strata together: the mean weighted by the strata's sizes (the stratified estimator: Cochran, "Sampling Techniques",
  ch. 5), with the interval of Zou, Huang and Zhang (2009, "A note on confidence interval estimation for a linear function of
  binomial proportions"): unlike the usual variance it does not shrink to nothing where a stratum has no error among few scores.

Intervals speak of all requests like these, not of the drawn ones only: no correction for a finite population is made.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from policyroute.replay.audit.draw import COLUMNS, SCALES, AuditError, Stratum, sample_id, uncell

SCHEMA = "policyroute.audit/1"
CONFIDENCE = 95  # percent
WANTED = 0.95  # correctness below which the alarm is raised
_NORMAL = 1.959963984540054  # the 97.5 % point of the standard normal
_WORDS = {
    **dict.fromkeys(("yes", "y", "true", "right", "correct", "1", "1.0"), 1.0),
    **dict.fromkeys(("no", "n", "false", "wrong", "0", "0.0"), 0.0),
}
_ENOUGH = 1_000_000  # scores up to which it is said how many would be enough

Interval = tuple[float, float]


@dataclass(frozen=True)
class Scores:
    """A filled sheet. `values` are scores from 0 to 1 by stratum, `strata` the strata with their size and lines drawn."""

    per: str
    scale: str
    policy: str
    population: int
    strata: tuple[Stratum, ...]
    values: Mapping[str, tuple[float, ...]]


# -- reading -------------------------------------------------------------------------------------------------------


def read_scores(path: Path) -> Scores:
    """Read a sheet that people filled: the CSV or parquet file that was drawn, also as a spreadsheet saves it anew.

    Lines may have any order, and columns may be added. Raises AuditError: no sheet, a line that is not as it was drawn, a score
    that is none of the scale, or no score at all.
    """
    lines = _lines(path)
    missing = [name for name in (*COLUMNS, "score") if not lines or name not in lines[0]]
    if missing:
        raise AuditError(f"`{path}` is no sheet of scores: it has no column `{missing[0]}`", "`policyroute sample` writes one")
    per, scale, policy, population = (_same(lines, name, path) for name in ("per", "scale", "policy", "population"))
    if scale not in SCALES:
        raise AuditError(f"`{path}` has the scale `{scale}`", f"scales are {', '.join(SCALES)}")
    _as_drawn(lines, path)
    values: dict[str, list[float]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for number, line in enumerate(lines, 2):
        before = sizes.get(line["stratum"], (0, 0))
        sizes[line["stratum"]] = int(line["stratum_rows"]), before[1] + 1
        if line["score"].strip():
            values.setdefault(line["stratum"], []).append(_score(line["score"], scale, path, number))
    if not values:
        raise AuditError(f"no line of `{path}` is scored yet", f"fill its column `score`: {_SCALE_TEXTS[scale]}")
    strata = tuple(Stratum(name, rows, drawn) for name, (rows, drawn) in sorted(sizes.items()))
    return Scores(per, scale, policy, int(population), strata, {name: tuple(scored) for name, scored in values.items()})


_SCALE_TEXTS = {"yes-no": "yes or no", "0-1": "a number from 0 to 1", "1-5": "a number from 1 to 5"}


def _lines(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise AuditError(f"there is no file `{path}`", "`policyroute sample decisions.parquet --per tier 50` writes a sheet")
    if path.suffix == ".parquet":
        try:
            rows = pq.read_table(path).to_pylist()
        except (pa.ArrowInvalid, OSError):
            raise AuditError(f"`{path}` is no parquet file", "name the sheet that was drawn") from None
        return [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise AuditError(f"`{path}` is not UTF-8 text", "save the sheet as `CSV UTF-8`") from None
    head = text.split("\n", 1)[0]
    comma = max(",;\t", key=head.count)  # spreadsheets of some countries write semicolons
    read = csv.DictReader(io.StringIO(text, newline=""), delimiter=comma)
    return [{name: uncell(value) for name, value in row.items() if name and isinstance(value, str)} for row in read]


def _same(lines: Sequence[Mapping[str, str]], name: str, path: Path) -> str:
    found = dict.fromkeys(line.get(name, "") for line in lines)
    if len(found) > 1:
        raise AuditError(f"the lines of `{path}` differ in `{name}`: {', '.join(list(found)[:3])}", "judge one sheet at a time")
    return next(iter(found))


def _as_drawn(lines: Sequence[Mapping[str, str]], path: Path) -> None:
    """Each line's id fits its stratum and sizes, and no line is there twice: weights are made from them."""
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 2):
        if any(name not in line for name in (*COLUMNS, "score")):
            raise AuditError(f"line {number} of `{path}` has too few cells", "the file seems to be cut; restore the line")
        if sample_id(line) != line["sample_id"]:
            raise AuditError(
                f"line {number} of `{path}` is not as it was drawn: there is no `{line['sample_id']}` in a stratum `{line['stratum']}`"
                f" of {line['stratum_rows']} requests", "fill `score` and `note` only; a spreadsheet may have rewritten a cell",
            )  # fmt: skip
        if line["sample_id"] in seen:
            raise AuditError(f"line {number} of `{path}` repeats line {seen[line['sample_id']]}", "keep one of them")
        seen[line["sample_id"]] = number


def _score(text: str, scale: str, path: Path, number: int) -> float:
    written = text.strip().lower()
    if scale == "yes-no":
        value = _WORDS.get(written)
    else:
        low, high = (0.0, 1.0) if scale == "0-1" else (1.0, 5.0)
        found = _number(written.replace(",", "."))
        value = (found - low) / (high - low) if found is not None and low <= found <= high else None
    if value is None:
        raise AuditError(
            f"line {number} of `{path}`: `{text.strip()}` is no score", f"write {_SCALE_TEXTS[scale]}, or leave it empty"
        )
    return value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# -- judging -------------------------------------------------------------------------------------------------------


def judged(scores: Scores, *, digest: str | None = None, watched: Iterable[str] = (), any_policy: bool = False) -> dict[str, Any]:
    """What the scores show, JSON-ready; shares in percent.

    `digest` is the policy that is being judged: scores of another one are refused unless `any_policy`. `watched` are the
    strata for which the alarm is meant (the cheap tier); all of them where none is named. A stratum's `verdict` is

    - `shown`: the whole interval lies at or above 95 %;
    - `alarm`: its lower bound lies below: not shown to be 95 % correct;
    - `failed`: its upper bound lies below: shown not to be;
    - `not scored`.
    """
    if digest is not None and scores.policy != digest and not any_policy:
        whose = f"policy {scores.policy[:12]}" if scores.policy else "no known policy"
        raise AuditError(
            f"the scores are those of {whose}, not of {digest[:12]}",
            "a changed policy sends other requests to a tier: draw and score a new sheet, or say `--scores-of-any-policy`",
        )
    interval = clopper_pearson if scores.scale == "yes-no" else wilson
    strata = [_stratum(scores, each, interval) for each in scores.strata]
    names = tuple(watched) or tuple(each.name for each in scores.strata)
    return {
        "schema": SCHEMA, "per": scores.per, "scale": scores.scale, "policy": scores.policy, "confidence_percent": CONFIDENCE,
        "wanted_percent": _percent(WANTED), "population": scores.population, "drawn": sum(each.drawn for each in scores.strata),
        "scored": sum(map(len, scores.values.values())), "strata": strata, "overall": _overall(scores, interval),
        "watched": list(names), "alarms": [line for name in names if (line := _alarm(scores, strata, name))],
        "warnings": _warnings(scores),
    }  # fmt: skip


def _stratum(scores: Scores, stratum: Stratum, interval: Callable[[float, int], Interval]) -> dict[str, Any]:
    values = scores.values.get(stratum.name, ())
    line = {
        "stratum": stratum.name, "rows": stratum.rows, "row_percent": _percent(stratum.rows / scores.population), "drawn": stratum.drawn,
        "scored": len(values),
    }  # fmt: skip
    if not values:
        return line | {"mean_percent": None, "low_percent": None, "high_percent": None, "verdict": "not scored", "enough": None}
    mean = math.fsum(values) / len(values)
    low, high = interval(mean, len(values))
    verdict = "failed" if high < WANTED else "alarm" if low < WANTED else "shown"
    enough = _enough(mean, interval) if verdict == "alarm" else None
    return line | {
        "mean_percent": _percent(mean), "low_percent": _percent(low), "high_percent": _percent(high), "verdict": verdict, "enough": enough,
    }  # fmt: skip


def _enough(mean: float, interval: Callable[[float, int], Interval]) -> int | None:
    """How many scores with the same mean would show 95 %; None where the mean isn't above it, or too many were needed."""
    if mean <= WANTED:
        return None
    low, high = 1, 2
    while interval(mean, high)[0] < WANTED:
        low, high = high, high * 2
        if high > _ENOUGH:
            return None
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if interval(mean, middle)[0] < WANTED else (low, middle)
    return high


def enough_when_all_right(scale: str) -> int:
    """How many scores of a stratum, all of them right, show 95 %: what a sheet needs at least."""
    found = _enough(1.0, clopper_pearson if scale == "yes-no" else wilson)
    assert found is not None
    return found


def _overall(scores: Scores, interval: Callable[[float, int], Interval]) -> dict[str, Any]:
    """The mean over the strata that were scored, by their sizes."""
    scored = [(each, scores.values[each.name]) for each in scores.strata if each.name in scores.values]
    covered = sum(each.rows for each, _ in scored)
    mean = below = above = 0.0
    for each, values in scored:
        weight, own = each.rows / covered, math.fsum(values) / len(values)
        low, high = interval(own, len(values))
        mean, below, above = mean + weight * own, below + (weight * (own - low)) ** 2, above + (weight * (high - own)) ** 2
    return {
        "covered_percent": _percent(covered / scores.population), "mean_percent": _percent(mean),
        "low_percent": _percent(max(mean - math.sqrt(below), 0.0)), "high_percent": _percent(min(mean + math.sqrt(above), 1.0)),
    }  # fmt: skip


def _alarm(scores: Scores, strata: Sequence[Mapping[str, Any]], name: str) -> dict[str, str] | None:
    """What is to be said of a watched stratum: None where its correctness is shown."""
    line = next((line for line in strata if line["stratum"] == name), None)
    what = f"{scores.per} `{name}`"
    if line is None or line["verdict"] == "not scored":
        why = "has no scored line" if line else "is not in the sheet"
        return {"stratum": name, "verdict": "not scored", "text": f"{what} {why}: its correctness is unknown"}
    wanted, found = f"{_percent(WANTED).removesuffix('.00')} % correct", f"{line['low_percent']} to {line['high_percent']} %"
    if line["verdict"] == "failed":
        return {"stratum": name, "verdict": "failed", "text": f"{what} is shown not to be {wanted}: {found}"}
    if line["verdict"] == "alarm":
        more = f"; about {line['enough']:,} scores with this mean would be enough" if line["enough"] else ""
        return {"stratum": name, "verdict": "alarm", "text": f"{what} is not shown to be {wanted}: {found}{more}"}
    return None


def _warnings(scores: Scores) -> list[str]:
    told = []
    unscored = [each.name for each in scores.strata if each.name not in scores.values]
    if unscored:
        told.append(f"nothing is scored in {', '.join(f'`{name}`' for name in unscored)}: the overall mean leaves them out")
    missing = scores.population - sum(each.rows for each in scores.strata)
    if missing > 0:
        told.append(f"strata with {missing:,} requests are gone from the sheet: the overall mean leaves them out")
    left = sum(each.drawn for each in scores.strata) - sum(map(len, scores.values.values()))
    if left:
        told.append(
            f"{left:,} drawn lines are not scored: the intervals hold only if those were left by chance, as from the top down"
        )
    if not scores.policy:
        told.append("the sheet names no policy: nothing shows that these scores belong to it")
    return told


def _percent(part: float) -> str:
    return f"{part * 100:.2f}"


# -- intervals -----------------------------------------------------------------------------------------------------


def wilson(mean: float, number: int) -> Interval:
    """Wilson's 95 % score interval of a mean of `number` values between 0 and 1."""
    square = _NORMAL**2
    middle = mean + square / (2 * number)
    reach = _NORMAL * math.sqrt(max(mean * (1 - mean), 0.0) / number + square / (4 * number**2))
    scale = 1 + square / number
    return max((middle - reach) / scale, 0.0), min((middle + reach) / scale, 1.0)


def clopper_pearson(mean: float, number: int) -> Interval:
    """The exact 95 % interval of a share: `mean` times `number` right answers of `number`."""
    right = round(mean * number)
    tail = (1 - CONFIDENCE / 100) / 2
    low = 0.0 if right == 0 else _solved(lambda p: beta_share(p, right, number - right + 1), tail)
    high = 1.0 if right == number else _solved(lambda p: beta_share(p, right + 1, number - right), 1 - tail)
    return low, high


def _solved(rising: Callable[[float], float], wanted: float) -> float:
    """Where a rising function of a share takes a value, by bisection to the last digit of a double."""
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return middle


def beta_share(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by the continued fraction of DLMF 8.17.22 (Lentz's method).

    I_p(k, n - k + 1) is the chance of k or more of n where each has the chance p.
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1 - beta_share(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    tiny, value, c, d = 1e-300, 1.0, 1.0, 0.0
    for step in range(10_000):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / ((1 + term * d) or tiny)
        c = (1 + term / c) or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * (value - 1)
