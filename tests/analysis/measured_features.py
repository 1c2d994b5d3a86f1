"""Rows of feature and band accuracies, added to a study that is already there."""

from dataclasses import replace

import pandas as pd

from analysis.study import Study

WORDS = ("member_id", "probe", "split", "group", "key", "other_member_id")


def joined(*parts: pd.DataFrame) -> pd.DataFrame:
    """Tables `probes` one below the other, their words being categories as those of a results folder are."""
    plain = [part.astype(dict.fromkeys(WORDS, object)) for part in parts]
    return pd.concat(plain, ignore_index=True).astype(dict.fromkeys(WORDS, "category"))


def measured(study: Study, rows: list[dict[str, object]], **common: object) -> Study:
    """The study with these rows as its only probes."""
    frame = pd.DataFrame(rows).assign(attempt=1, other_member_id=None, **common)
    return replace(study, tables=replace(study.tables, probes=joined(frame)))
