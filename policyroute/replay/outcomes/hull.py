"""Cost against quality as geometry: which points no mix of others beats, and what a random mix at a given cost would score.

All points are totals over the same requests, as whole numbers; a mix sends each request by chance to one of two models, so
it lies on the line between them. Nothing here is rounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Point:
    """A total cost in picodollars and a total score in millionths, and whose they are (-1: nobody answers, for nothing)."""

    cost: int
    score: int
    who: int


NOBODY = Point(0, 0, -1)  # RouterBench's null router: costs nothing, answers nothing


@dataclass(frozen=True, slots=True)
class Mix:
    """`share` of the requests to `dear`, the others to `cheap`; both are the same where a single model is meant."""

    cheap: Point
    dear: Point
    share: Fraction

    @property
    def score(self) -> Fraction:
        """The mix's total score, as expected."""
        return self.cheap.score + self.share * (self.dear.score - self.cheap.score)

    @property
    def cost(self) -> Fraction:
        """The mix's total cost, as expected."""
        return self.cheap.cost + self.share * (self.dear.cost - self.cheap.cost)

    @property
    def slope(self) -> Fraction:
        """Score gained per picodollar by moving along the mix; 0 where nothing is mixed."""
        width = self.dear.cost - self.cheap.cost
        return Fraction(self.dear.score - self.cheap.score, width) if width else Fraction(0)


def frontier(points: Iterable[Point]) -> list[Point]:
    """The corners of the non-decreasing upper convex hull, from the cheapest point to the best one, each dearer and better than the last."""
    corners: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.score, point.who)):
        if corners and point.score <= corners[-1].score:
            continue
        while corners and corners[-1].cost == point.cost:
            corners.pop()
        while len(corners) > 1 and _below(corners[-2], corners[-1], point):
            corners.pop()
        corners.append(point)
    return corners


def _below(left: Point, middle: Point, right: Point) -> bool:
    """Whether `middle` lies on or under the line from `left` to `right`."""
    return (middle.score - left.score) * (right.cost - left.cost) <= (right.score - left.score) * (middle.cost - left.cost)


def mix_at(corners: list[Point], cost: int) -> Mix:
    """The best random mix of the corners that costs no more than `cost`: a single model from the dearest corner on.

    Below the cheapest corner some requests would have to go unanswered (`NOBODY`).
    """
    last = corners[-1]
    if cost >= last.cost:
        return Mix(last, last, Fraction(1))
    right = next(place for place, corner in enumerate(corners) if corner.cost > cost)
    cheap, dear = (corners[right - 1] if right else NOBODY), corners[right]
    return Mix(cheap, dear, Fraction(cost - cheap.cost, dear.cost - cheap.cost))
