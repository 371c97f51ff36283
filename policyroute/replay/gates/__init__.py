"""Gates judged over a replay: the sums, the intervals, the judgement."""
