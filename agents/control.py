"""Control orders. Rule: every partition obeys every order once, in the group that owns the table."""

from collections.abc import Mapping

import msgspec

from agents.table_commands import CommandHandler
from app.domain.events import instant_us
from app.domain.records import TableCommand
from app.engine.partition_group import RecordHandler
from app.engine.unit_of_work import InputRecord, UnitOfWork
from app.errors import PoisonRecordError

_orders = msgspec.json.Decoder(TableCommand)


def handler(obeys: Mapping[str, CommandHandler]) -> RecordHandler:
    """The logic for the control topic in one group; `obeys` has what to do by table. Tables of other groups are not its business."""

    def apply(record: InputRecord, unit: UnitOfWork) -> None:
        if record.value is None:
            return
        try:
            order = _orders.decode(record.value)
            instant_us("source.commit_time", order.source.commit_time)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise PoisonRecordError(f"this is no control order: {error}", reason="not_an_order") from None
        obey = obeys.get(order.table)
        if obey is not None and order.source.lsn is not None:
            obey(order, unit)

    return apply
