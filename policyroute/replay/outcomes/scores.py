"""Published scores of routers, by their formulas."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

from policyroute.replay.outcomes.hull import Point, frontier, mix_at

# RouterArena's constants: dollars per 1,000 queries of its cheapest and dearest model, and the weight of cost.
ARENA_CHEAPEST, ARENA_DEAREST, ARENA_BETA = 0.0044, 200.0, 0.1


def aiq(points: Iterable[Point], low: int, high: int) -> Fraction | None:
    """RouterBench's AIQ: the mean height of the points' non-decreasing convex hull between two costs, in the scores' unit.

    AIQ(R) = 1 / (c_max - c_min) * integral of R(c) dc over c_min..c_max (Hu et al. 2024, "RouterBench", arXiv 2403.12031,
    section 3: hull by interpolation, flat beyond the best point, down to the null router below the cheapest). This is the
    paper's formula; the code published with it divides by c_max instead of the range, which gives smaller figures.
    None where the two costs are the same, or there is no point.
    """
    corners = frontier(points)
    if low >= high or not corners:
        return None
    costs = sorted({low, high, *(corner.cost for corner in corners if low < corner.cost < high)})
    heights = [mix_at(corners, cost).score for cost in costs]
    area = sum(
        ((heights[at] + heights[at + 1]) * (costs[at + 1] - costs[at]) / 2 for at in range(len(costs) - 1)), start=Fraction(0)
    )
    return area / (high - low)


def router_arena(accuracy: float, cost_per_1k: float) -> float | None:
    """RouterArena's score of an accuracy (0 to 1) at a cost in dollars per 1,000 requests; None without a cost.

    S = (1 + b) A C / (b A + C), C = (log2 c_max - log2 c) / (log2 c_max - log2 c_min), b = 0.1, c_min = 0.0044, c_max = 200
    (Lu et al. 2025, "RouterArena", arXiv 2510.00202, and `router_evaluation/compute_scores.py` of its repository; the
    values of its leaderboard are reproduced in the tests). C is not cut at 0 and 1 there, nor here. Figures are only
    comparable with the leaderboard's on its own queries.
    """
    if cost_per_1k <= 0:
        return None
    cheapness = (math.log2(ARENA_DEAREST) - math.log2(cost_per_1k)) / (math.log2(ARENA_DEAREST) - math.log2(ARENA_CHEAPEST))
    below = ARENA_BETA * accuracy + cheapness
    return (1 + ARENA_BETA) * accuracy * cheapness / below if below else None
