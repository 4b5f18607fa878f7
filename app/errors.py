"""The errors of this application. Each message says what was wrong, where, and what to do about it."""


class BankstreamError(Exception):
    """Root of every error that the application raises on purpose."""


class SettingsError(BankstreamError):
    """A setting is missing or has a value that cannot work. Raised at start, before anything is touched."""


class ContinuityError(BankstreamError):
    """The log or the ledger is not where it was left: going on would skip or double records."""


class FencedError(BankstreamError):
    """Another worker owns what this one was writing. The only safe thing is to leave."""


class PoisonRecordError(BankstreamError):
    """A record that no version of the code could have processed. It goes to the dead letters; its partition goes on.

    `stage` names the step that refused it (`decode`, `apply`), `reason` is a short stable word for metrics.
    """

    def __init__(self, message: str, *, reason: str, stage: str = "decode") -> None:
        super().__init__(message)
        self.reason = reason
        self.stage = stage


def one_line(error: BaseException) -> str:
    """What an error says, as part of a sentence: without line breaks, and without a full stop or question mark at its end."""
    return " ".join(str(error).split()).rstrip(".?") or type(error).__name__


def discreet(error: BaseException) -> str:
    """What may be logged of an error: its type, and its message if that is known to quote no record. Others may carry a person's data."""
    known = isinstance(error, BankstreamError | OSError) or type(error).__module__.startswith("aiokafka.")
    return f"{type(error).__name__}: {error}" if known else type(error).__name__
