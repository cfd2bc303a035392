"""A broker's or aiokafka's refusal of a record or a producer, as a SinkError with a hint."""

from __future__ import annotations

from typing import Final, NamedTuple

from streamflow.distribution import install_hint
from streamflow.errors import SinkError
from streamflow.operators.connectors.kafka.clients.port import RefusedError

__all__ = ["as_sink_error"]


class _Refusal(NamedTuple):
    message: str
    hint: str


_REFUSALS: Final = {
    "MessageSizeTooLargeError": _Refusal(
        "a record or batch is larger than the topic takes",
        "raise max.message.bytes of the topic, or lower max_record_bytes= so that it is found out earlier",
    ),
    "RecordListTooLargeError": _Refusal(
        "a batch is larger than a segment of the topic", "raise segment.bytes of the topic"
    ),
    "UnknownTopicOrPartitionError": _Refusal(
        "the topic is not there", "make it, or let the sink do so: create=dict(partitions=…)"
    ),
    "InvalidTopicError": _Refusal("that is no name for a topic", "use letters, digits, '.', '_' and '-'"),
    "TopicAuthorizationFailedError": _Refusal(
        "writing to the topic is not allowed", "the user needs WRITE and DESCRIBE on the topic"
    ),
    "TransactionalIdAuthorizationFailed": _Refusal(
        "the transactional id is not allowed",
        "the user needs WRITE and DESCRIBE on transactional ids that begin with 'streamflow.'",
    ),
    "ClusterAuthorizationFailedError": _Refusal(
        "an idempotent producer is not allowed", "the user needs WRITE on a topic, or IDEMPOTENT_WRITE"
    ),
    "InvalidTransactionTimeout": _Refusal(
        "the transaction timeout is longer than the broker allows",
        "lower transaction_timeout=, or raise the broker's transaction.max.timeout.ms",
    ),
    "UnsupportedForMessageFormatError": _Refusal(
        "the topic has a message format without transactions", "use a topic of Kafka 0.11 or later"
    ),
    "InvalidTimestampError": _Refusal(
        "a record's timestamp is farther from now than the topic takes",
        "check timestamp=, or raise message.timestamp.after.max.ms of the topic",
    ),
    "InvalidMessageError": _Refusal(
        "a record arrived damaged", "check the network between here and the broker"
    ),
    "PolicyViolationError": _Refusal("a policy of the cluster forbids it", "ask the cluster's administrator"),
    "AuthenticationFailedError": _Refusal("the login was refused", "check security="),
    "UnsupportedSaslMechanismError": _Refusal("the broker has no such login", "check security="),
    "UnsupportedVersionError": _Refusal("the broker is too old", "Kafka 2.1 or later is needed"),
    "IncompatibleBrokerVersion": _Refusal("the broker is too old", "Kafka 2.1 or later is needed"),
}
"""aiokafka's names of errors that trying again does not change."""

_UNNAMED: Final = -1


def as_sink_error(error: Exception, what: str, *, topic: str | None = None) -> SinkError:
    """The SinkError for an exception while trying to do `what`; a RefusedError if trying again is no use.

    >>> as_sink_error(TimeoutError("no answer"), "begin a transaction").message
    'could not begin a transaction: TimeoutError: no answer'
    """
    refusal = _REFUSALS.get(type(error).__name__)
    if isinstance(error, RuntimeError) and "Compression library" in str(error):
        refusal = _Refusal(
            f"the compression cannot be used: {error}",
            f"{install_hint()}; or choose another: compression=",
        )
    place = f" (topic {topic!r})" if topic else ""
    if refusal is None:
        # aiokafka has no names for the younger codes (87: a record without a key for a compacted topic).
        unnamed = getattr(error, "errno", None) == _UNNAMED
        return SinkError(
            f"could not {what}{place}: {type(error).__name__}: {error}",
            hint="look into the broker's log: it refuses a record or a request for a reason of its own"
            if unnamed
            else "check that the brokers are up and can be reached, and security=",
        )
    return RefusedError(f"could not {what}{place}: {refusal.message}", hint=refusal.hint)
