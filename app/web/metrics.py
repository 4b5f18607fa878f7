"""Defines the Prometheus metrics of the lookup API."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

REQUESTS: Final = Counter(
    "bankstream_api_requests_total", "Requests answered, by endpoint and status.", ["endpoint", "status"]
)
SECONDS: Final = Histogram(
    "bankstream_api_request_seconds",
    "Seconds from the arrival of a request to the head of its response, by endpoint.",
    ["endpoint"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 30),
)
FORWARDED: Final = Counter("bankstream_api_forwarded_total", "Lookups that were forwarded to another worker.")
STREAMS: Final = Gauge("bankstream_api_streams", "Open live alert streams.")
UNAUDITED: Final = Counter(
    "bankstream_api_unaudited_total", "Responses withheld because the audit could not be written."
)
