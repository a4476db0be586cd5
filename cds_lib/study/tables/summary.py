"""The summary: which published differences does this study confirm, which not, and which are unknown?"""

from cds_lib.study import tables
from cds_lib.study.plan import claims
from cds_lib.study.plan.claims import Claim
from cds_lib.study.plan.protocols import Seeds
from cds_lib.study.plan.table import Table


def published_claims(profile: str, seeds: Seeds) -> list[Claim]:
    """Return every published claim that the tables test, in the order of the tables."""
    return claims.collect([table for table in tables.official() if table.name != tables.SUMMARY], profile, seeds)


TABLE = Table(
    title="Summary",
    topic="every published claim and its verdict",
    question="Which of the published differences does this study confirm, which not, and which are unknown?",
    note="named with each claim",
    build=lambda profile: claims.compared_cells(published_claims(profile, None)),
)
