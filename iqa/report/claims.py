"""What the source documents claim and what becomes of it: `report/claims.csv`, `report/published.csv`, their checks.

How a verdict comes about:

- What follows from the model, the code or arithmetic is computed when `settle` runs: `holds`, `does not hold` or
  `arithmetic error` (a figure that its own document's numbers do not give).
- A difference between two published single runs is `not distinguishable` if it lies inside what the choice of the test
  images alone may do (`facts.bound`); outside it the sign decides. Outside is not proof: seeds add to the noise.
- Where the study at hand has compared the experiments on KonIQ-10k, its ablation table decides instead.
- What it saw on another database is named beside, and never settles a claim about KonIQ-10k.
- What needs data, trainings or hardware that are not here is `not testable here`; `basis` says what would settle it.
"""

import pandas as pd

from iqa.claims import facts
from iqa.claims.checks import CHECKS, complete
from iqa.claims.measured import Measured

__all__ = ["BASES", "CHECKS", "VERDICTS", "comparison", "facts", "of_models", "of_results", "of_statements", "settle"]


def settle(study: str) -> pd.DataFrame:
    """Every claim with what was found about it, in the order of `report/claims.csv`.

    Args:
        study: whose results are looked at; those that are missing are no error.

    Returns:
        columns id, source, claim, stated, found, basis, verdict (one of `VERDICTS`).

    Raises:
        ClaimError: a claim without a check, a check without a claim, or a published row or parameter file that a check
            needs and that is not there.
    """
    claims, known = facts.claims(), Measured(study)
    complete(claims)
    rows = []
    for claim in claims:
        finding = CHECKS[claim.id](claim, known)
        about = {"id": claim.id, "source": claim.source, "claim": claim.claim, "stated": claim.stated}
        rows.append(about | vars(finding))
    return pd.DataFrame(rows)
