"""Tests the Power BI project: tables, columns and types equal those of dbt's gold contracts, and all fields in visuals exist."""

import itertools
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
import pytest
import yaml

from tests.support.machine.tmdl import Node, TmdlError, parse
from tests.support.paths import PROJECT

POWERBI: Final = PROJECT / "ops" / "powerbi"
MODEL: Final = POWERBI / "bankstream.SemanticModel"
REPORT: Final = POWERBI / "bankstream.Report"
SCHEMAS: Final = "https://developer.microsoft.com/json-schemas/fabric/"
PRIVATE: Final = frozenset(
    {"email", "phone", "date_of_birth", "address_line", "attributes", "device_id", "counterparty_account"}
)


def power_bi_type(data_type: str) -> str:
    """The Power BI type of a warehouse column. NUMBERs with a scale stay decimal: money is never a float."""
    if numeric := re.fullmatch(r"number\((\d+),(\d+)\)", data_type):
        return "int64" if numeric[2] == "0" else "decimal"
    return {"varchar": "string", "timestamp_ntz": "dateTime", "date": "dateTime", "boolean": "boolean"}[data_type]


@cache
def contracts() -> dict[str, dict[str, str]]:
    """The columns of each gold model with their types."""
    found = {}
    for file in (PROJECT / "dbt" / "models" / "gold").glob("*.yml"):
        for model in yaml.safe_load(file.read_text()).get("models", ()):
            found[model["name"]] = {column["name"]: column["data_type"] for column in model["columns"]}
    return found


@cache
def tables() -> dict[str, Node]:
    """The model's tables."""
    files = (MODEL / "definition" / "tables").glob("*.tmdl")
    return {node.name: node for file in files for node in parse(file.read_text()).nodes}


def gold_model(table: Node) -> str:
    """The gold model that a table's partition reads."""
    found = re.search(r'Gold\{\[Name = "(\w+)", Kind = "Table"\]\}', table.only("partition").properties["source"])
    assert found, table.name
    return found[1].lower()


def differences(table: Node, columns: dict[str, str]) -> list[str]:
    """The differences between a table's columns and a contract."""
    found = []
    for column in table.of("column"):
        source = column.properties["sourceColumn"]
        if source != column.name.upper() or column.name not in columns:
            found.append(f"{column.name} is no column")
        elif column.properties["dataType"] != power_bi_type(columns[column.name]):
            found.append(f"{column.name} is {columns[column.name]}")
    return found


@pytest.mark.parametrize("name", sorted(tables()))
def test_every_column_is_in_golds_contract(name: str) -> None:
    assert differences(tables()[name], contracts()[gold_model(tables()[name])]) == []


def test_a_column_that_is_renamed_or_has_another_type_in_gold_is_noticed() -> None:
    table = tables()["Volume"]
    columns = dict(contracts()["volume_per_minute"])
    columns["money_in"] = columns.pop("credit_amount")
    columns["debit_amount"] = "varchar"
    assert differences(table, columns) == ["credit_amount is no column", "debit_amount is varchar"]


@pytest.mark.parametrize("name", sorted(tables()))
def test_a_table_asks_the_warehouse_for_its_own_columns_and_no_others(name: str) -> None:
    table = tables()[name]
    partition = table.only("partition")
    assert (partition.value, partition.properties["mode"]) == ("m", "directQuery")
    source = partition.properties["source"]
    assert "Snowflake.Databases(Account, Warehouse)" in source
    assert "Source{[Name = Database, " in source
    listed = re.search(r"Table\.SelectColumns\(Rows, \{(.*)\}\)", source)
    assert listed
    asked = re.findall(r'"(\w+)"', listed[1])
    assert asked == [column.properties["sourceColumn"] for column in table.of("column")]
    assert not PRIVATE & {column.name for column in table.of("column")}


def test_parameters_name_the_account_warehouse_and_database_and_nothing_is_secret() -> None:
    parameters = parse((MODEL / "definition" / "expressions.tmdl").read_text()).of("expression")
    assert [parameter.name for parameter in parameters] == ["Account", "Warehouse", "Database"]
    assert all("IsParameterQuery=true" in parameter.value for parameter in parameters)
    everything = "".join(file.read_text() for file in POWERBI.rglob("*") if file.is_file())
    assert not re.search(r"(?i)password|token|private.?key|passphrase", everything)


def test_the_model_names_its_tables() -> None:
    model = parse((MODEL / "definition" / "model.tmdl").read_text())
    assert {node.name for node in model.of("ref table")} == set(tables())


def references(expression: str) -> set[tuple[str, str]]:
    """The columns that a DAX expression reads."""
    return {(table, column) for table, column in re.findall(r"'([^']+)'\[(\w+)\]", expression)}


def test_every_measure_reads_columns_that_exist_and_has_a_format_and_a_description() -> None:
    columns = {(table.name, column.name) for table in tables().values() for column in table.of("column")}
    measures = [measure for table in tables().values() for measure in table.of("measure")]
    assert len(measures) == len({measure.name for measure in measures}) > 10
    for measure in measures:
        assert references(measure.value) <= columns, measure.name
        assert measure.value.count("(") == measure.value.count(")"), measure.name
        assert measure.properties["formatString"]
        assert measure.description


def test_amounts_of_different_currencies_are_never_added() -> None:
    checked = 0
    for table in tables().values():
        money = {column.name for column in table.of("column") if "amount" in column.name}
        assert {column.properties["summarizeBy"] for column in table.of("column")} == {"none"}
        for measure in table.of("measure"):
            if {column for _, column in references(measure.value)} & money:
                assert measure.value.startswith(f"IF(HASONEVALUE('{table.name}'[currency]), "), measure.name
                checked += 1
    assert checked > 3


def test_relations_lead_from_many_to_a_key() -> None:
    relationships = parse((MODEL / "definition" / "relationships.tmdl").read_text()).of("relationship")
    assert len(relationships) == 3
    for relationship in relationships:
        (of, source), (to, target) = (
            relationship.properties[end].replace("'", "").split(".") for end in ("fromColumn", "toColumn")
        )
        ends = {
            column.name: column
            for table, name in ((of, source), (to, target))
            for column in tables()[table].of("column")
            if column.name == name
        }
        assert ends[source].properties["dataType"] == ends[target].properties["dataType"]
        assert "isKey" in next(c for c in tables()[to].of("column") if c.name == target).properties


def test_every_lineage_tag_is_a_uuid_of_its_own() -> None:
    tags = re.findall(r"lineageTag: (.*)", "\n".join(file.read_text() for file in MODEL.rglob("*.tmdl")))
    assert len({UUID(tag) for tag in tags}) == len(tags) > 50


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("table T\n    column a", "tabs alone"),
        ("table T\n\t\tcolumn a", "belongs to no object"),
        ("table T\n\tcolum a", "neither an object nor a property"),
        ("table T\n\tlineageTag: a\n\tlineageTag: b", "twice"),
        ("table T\n\tpartition T = m\n\t\tsource =\n\t\tlet", "two more tabs"),
        ("/// about\n\ntable T", "above no object"),
    ],
)
def test_tmdl_that_power_bi_would_refuse_is_refused(text: str, problem: str) -> None:
    with pytest.raises(TmdlError, match=problem):
        parse(text)


# From Microsoft's published JSON schemas for the files of this project: the required properties, and the allowed ones.
class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"schema": "$schema"}):
    schema: str


class ReportPath(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str


class Artifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    report: ReportPath


class Project(Document, frozen=True, forbid_unknown_fields=True):
    version: str
    artifacts: list[Artifact]
    settings: dict[Literal["enableAutoRecovery"], bool]


class ModelProperties(Document, frozen=True, forbid_unknown_fields=True):
    version: str
    settings: dict[Literal["qnaEnabled", "qnaLsdlSharingPermissions"], bool]


class ReportProperties(Document, frozen=True, forbid_unknown_fields=True):
    version: str
    datasetReference: dict[Literal["byPath"], ReportPath]  # noqa: N815 - the schema's name


class Theme(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    reportVersionAtImport: str  # noqa: N815
    type: Literal["SharedResources", "RegisteredResources"]


class ReportSettings(Document, frozen=True, forbid_unknown_fields=True):
    themeCollection: dict[Literal["baseTheme", "customTheme"], Theme]  # noqa: N815
    layoutOptimization: Literal["None", "PhonePortrait"]  # noqa: N815


class Version(Document, frozen=True, forbid_unknown_fields=True):
    version: str


class Pages(Document, frozen=True, forbid_unknown_fields=True):
    pageOrder: list[str]  # noqa: N815
    activePageName: str  # noqa: N815


class Page(Document, frozen=True, forbid_unknown_fields=True):
    name: str
    displayName: str  # noqa: N815
    displayOption: Literal["FitToPage", "FitToWidth", "ActualSize"]  # noqa: N815
    height: int
    width: int


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    x: int
    y: int
    z: int
    width: int
    height: int
    tabOrder: int  # noqa: N815


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    Entity: str


class Expression(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    SourceRef: Source


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    Expression: Expression
    Property: str


class Projection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    field: dict[Literal["Column", "Measure"], Field]
    queryRef: str  # noqa: N815
    nativeQueryRef: str  # noqa: N815


class Role(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    projections: list[Projection]


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    queryState: dict[str, Role]  # noqa: N815


class Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    visualType: str  # noqa: N815
    query: Query
    visualContainerObjects: dict[Literal["title"], Any]  # noqa: N815


class Visual(Document, frozen=True, forbid_unknown_fields=True):
    name: str
    position: Position
    visual: Shown


ROLES: Final = {
    "card": ({"Values"}, set()),
    "slicer": ({"Values"}, set()),
    "tableEx": ({"Values"}, set()),
    "lineChart": ({"Category", "Y"}, {"Series"}),
    "columnChart": ({"Category", "Y"}, {"Series"}),
    "clusteredBarChart": ({"Category", "Y"}, {"Series"}),
}
"""The required and the optional field wells of each kind of visual."""

DOCUMENTS: Final = (
    (POWERBI, "bankstream.pbip", Project, "pbip/pbipProperties/1.0.0"),
    (MODEL, "definition.pbism", ModelProperties, "item/semanticModel/definitionProperties/1.0.0"),
    (REPORT, "definition.pbir", ReportProperties, "item/report/definitionProperties/2.0.0"),
    (REPORT, "definition/report.json", ReportSettings, "item/report/definition/report/1.0.0"),
    (REPORT, "definition/version.json", Version, "item/report/definition/versionMetadata/1.0.0"),
    (REPORT, "definition/pages/pages.json", Pages, "item/report/definition/pagesMetadata/1.0.0"),
    (REPORT, "definition/pages/*/page.json", Page, "item/report/definition/page/1.0.0"),
    (REPORT, "definition/pages/*/visuals/*/visual.json", Visual, "item/report/definition/visualContainer/1.0.0"),
)


@pytest.mark.parametrize(("folder", "pattern", "kind", "schema"), DOCUMENTS, ids=[row[1] for row in DOCUMENTS])
def test_every_file_is_valid_against_its_schema(folder: Path, pattern: str, kind: type[Document], schema: str) -> None:
    files = sorted(folder.glob(pattern))
    assert files
    for file in files:
        assert msgspec.json.decode(file.read_bytes(), type=kind).schema == f"{SCHEMAS}{schema}/schema.json", file


def test_no_file_is_without_a_check() -> None:
    known = {file for folder, pattern, _, _ in DOCUMENTS for file in folder.glob(pattern)}
    known |= set(MODEL.rglob("*.tmdl")) | set(POWERBI.glob("*/.platform"))
    assert {file for file in POWERBI.rglob("*") if file.is_file()} == known


def test_the_files_of_the_project_refer_to_each_other() -> None:
    project = json.loads((POWERBI / "bankstream.pbip").read_text())
    assert (POWERBI / project["artifacts"][0]["report"]["path"] / "definition.pbir").is_file()
    report = json.loads((REPORT / "definition.pbir").read_text())
    assert (REPORT / report["datasetReference"]["byPath"]["path"]).resolve() == MODEL
    for folder, kind in ((MODEL, "SemanticModel"), (REPORT, "Report")):
        platform = json.loads((folder / ".platform").read_text())
        assert platform["metadata"] == {"type": kind, "displayName": "bankstream"}
        assert UUID(platform["config"]["logicalId"])


def pages() -> Iterator[tuple[Page, list[Visual]]]:
    for file in sorted((REPORT / "definition" / "pages").glob("*/page.json")):
        page = msgspec.json.decode(file.read_bytes(), type=Page)
        assert page.name == file.parent.name
        folders = sorted((file.parent / "visuals").iterdir())
        found = [msgspec.json.decode((folder / "visual.json").read_bytes(), type=Visual) for folder in folders]
        assert [visual.name for visual in found] == [folder.name for folder in folders]
        yield page, found


def test_every_page_is_in_the_order_and_opens() -> None:
    order = msgspec.json.decode((REPORT / "definition/pages/pages.json").read_bytes(), type=Pages)
    assert sorted(order.pageOrder) == sorted(page.name for page, _ in pages())
    assert order.activePageName in order.pageOrder


def test_every_visual_shows_fields_that_exist_in_wells_that_its_kind_has() -> None:
    fields = {
        (kind.capitalize(), table.name, node.name)
        for table in tables().values()
        for kind in ("column", "measure")
        for node in table.of(kind)
    }
    for page, visuals in pages():
        for visual in visuals:
            needed, allowed = ROLES[visual.visual.visualType]
            wells = visual.visual.query.queryState
            assert needed <= set(wells) <= needed | allowed, visual.name
            for projection in itertools.chain.from_iterable(role.projections for role in wells.values()):
                [(kind, found)] = projection.field.items()
                entity = found.Expression.SourceRef.Entity
                assert (kind, entity, found.Property) in fields, (page.name, visual.name, found.Property)
                assert projection.queryRef == f"{entity}.{found.Property}"
            names = [projection.nativeQueryRef for role in wells.values() for projection in role.projections]
            assert len(set(names)) == len(names), visual.name


def test_visuals_are_inside_their_page_and_do_not_overlap() -> None:
    for page, visuals in pages():
        for visual in visuals:
            place = visual.position
            assert 0 <= place.x < place.x + place.width <= page.width, visual.name
            assert 0 <= place.y < place.y + place.height <= page.height, visual.name
        for one, other in itertools.combinations(visuals, 2):
            a, b = one.position, other.position
            apart = (
                a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
            )  # fmt: skip
            assert apart, (one.name, other.name)
        assert sorted(visual.position.tabOrder for visual in visuals) == list(range(len(visuals)))


def test_volume_split_alerts_and_customer_history_each_have_a_page() -> None:
    assert {page.displayName for page, _ in pages()} == {"Volume", "Credits and debits", "Alerts", "Customer history"}
