"""Defines the errors of the application. Each message says what is wrong, where, and what to do."""


class BankstreamError(Exception):
    """Base class of every error that the application raises on purpose."""


class SettingsError(BankstreamError):
    """A setting is missing or has an invalid value. Raised at start, before anything is read or written."""


class ContinuityError(BankstreamError):
    """A topic, a state or the ledger is not as it was left, so continuing would skip or duplicate records."""


class FencedError(BankstreamError):
    """Another worker has taken over the partition that this one writes. This process must exit."""


class PoisonRecordError(BankstreamError):
    """A record that no version of the code can process. It becomes a dead letter, and its partition continues with the next record.

    `stage` names the step that refused it (`decode`, `apply`), `reason` is a short stable word for metrics.
    """

    def __init__(self, message: str, *, reason: str, stage: str = "decode") -> None:
        super().__init__(message)
        self.reason = reason
        self.stage = stage


def one_line(error: BaseException) -> str:
    """Returns the message of an error for use inside a sentence: without line breaks and without a final full stop or question mark."""
    return " ".join(str(error).split()).rstrip(".?") or type(error).__name__


def discreet(error: BaseException) -> str:
    """Returns the loggable text of an error: its type, and its message if that never quotes a record. Others may contain personal data."""
    known = isinstance(error, BankstreamError | OSError) or type(error).__module__.startswith("aiokafka.")
    return f"{type(error).__name__}: {error}" if known else type(error).__name__
