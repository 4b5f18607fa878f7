"""Tests that dbt's exposure of the dashboard names the models that the dashboard reads."""

import re

import yaml

from tests.support.catalogue import CATALOGUE
from tests.support.paths import PROJECT


def test_the_dashboards_exposure_names_exactly_the_models_that_it_reads() -> None:
    statements = (PROJECT / "ops/dashboard/data.py").read_text(encoding="utf-8")
    models = {f"ref('{name.lower()}')" for name in re.findall(r"\{gold\}\}?\.([A-Z_]+)", statements)}
    landing = {
        f"source('bronze', '{topic.landing.lower()}')" for topic in CATALOGUE.landed if topic.landing
    }  # the health page reads all
    assert "for table in landing" in statements
    exposures = yaml.safe_load((PROJECT / "dbt/models/exposures.yml").read_text(encoding="utf-8"))["exposures"]
    (dashboard,) = (one for one in exposures if one["name"] == "dashboard")
    assert len(models) > 3
    assert set(dashboard["depends_on"]) == models | landing
