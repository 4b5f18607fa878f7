"""Creates the lake's bucket."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from app.config.settings import S3Settings, read
from app.errors import BankstreamError


class LakeError(BankstreamError):
    """The bucket cannot be reached or created."""


def run(environment: Mapping[str, str]) -> None:
    """Runs the step for the local stack and for `bankstream provision`; `environment` overrides the process's variables."""
    provision(read(S3Settings, environment))


def provision(settings: S3Settings) -> bool:
    """Creates the bucket. Returns whether it was missing. LakeError if another account owns it, or if S3 rejects the request."""
    secret = settings.secret_access_key
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            connect_timeout=5,
            read_timeout=settings.timeout_s,
            retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
            proxies={} if settings.endpoint_url else None,  # no proxy for a server at a custom endpoint
            s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
        ),
    )
    try:
        return _make(client, settings)
    except (ClientError, BotoCoreError) as error:
        raise LakeError(
            f"bucket {settings.bucket} cannot be created or reached: {error}. Check BANKSTREAM_S3_BUCKET, the keys and their policy."
        ) from None
    finally:
        client.close()


def _make(client: Any, settings: S3Settings) -> bool:
    try:
        client.head_bucket(Bucket=settings.bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.NOT_FOUND:
            raise
    else:
        return False
    location = (
        {"CreateBucketConfiguration": {"LocationConstraint": settings.region}}
        if settings.endpoint_url is None and settings.region != "us-east-1"
        else {}
    )
    try:
        client.create_bucket(Bucket=settings.bucket, **location)
    except client.exceptions.BucketAlreadyOwnedByYou:
        return False
    return True
