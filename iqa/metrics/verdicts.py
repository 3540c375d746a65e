"""The words of verdicts, which tables, claims and the report share."""

BETTER, WORSE = "better", "worse"
HOLDS, FAILS = "holds", "does not hold"
OPEN = "not distinguishable"  # an interval or a test that leaves both sides possible
