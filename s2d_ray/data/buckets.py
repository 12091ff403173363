"""Buckets: how obstore and pyarrow reach them, with the credentials that each machine finds for itself."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode, urlsplit

import pyarrow.fs as pafs
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from s2d_ray.data.outages import OUTAGE_SECONDS, REFUSAL_SECONDS, Failure, outlasting
from s2d_ray.errors import UserError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential

T = TypeVar("T")
Store = S3Store | GCSStore | AzureStore
STILL_SECONDS = 30
"""How long a storage may take to answer, or a file stand still."""
CLIENT: "ClientConfig" = {"allow_http": True, "timeout": "1day", "read_timeout": f"{STILL_SECONDS}s"}
"""Plain HTTP is spoken where a person names a server that does. A file may take long."""
RETRIES: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=5)}
"""Of what is over at once; what takes longer `reached` waits for, which says so."""
ARROW_TRIES = 14
"""Of each request of pyarrow's, which waits 90 s in all between them, on average."""
ARROW_AWAY = re.compile("AWS Error (NETWORK_CONNECTION|SERVICE_UNAVAILABLE|SLOW_DOWN|INTERNAL_FAILURE)")
CREDENTIAL_LIFE = timedelta(minutes=10)
"""botocore renews by itself what ends earlier than this."""


class Overtaken(OSError):
    """A file is not any more what it was when it was read."""


@contextmanager
def storage_errors(address: object) -> Iterator[None]:
    """Raise what goes wrong at an address in the block as a file system would."""
    try:
        yield
    except AlreadyExistsError as error:
        raise FileExistsError(errno.EEXIST, _reason(error), str(address)) from error
    except PreconditionError as error:
        raise Overtaken(errno.ESTALE, _reason(error), str(address)) from error
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, _reason(error), str(address)) from error
    except BaseError as error:
        raise OSError(errno.EIO, _reason(error), str(address)) from error


def reached(address: object, do: Callable[[], T]) -> T:
    """What `do` gives, which may be called several times: an outage of the storage is waited for.

    Raises OSError where it takes too long, or what fails is something else.
    """
    with storage_errors(address):
        return outlasting(address, do, _failure)


def _failure(error: Exception) -> Failure | None:
    said = str(error)
    status = re.search(r"status code: (\d{3})", said)
    code = int(status[1]) if status else 0
    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError) or "AWS Error ACCESS_DENIED" in said
    if refused or code in (401, 403):
        return Failure(_reason(error), REFUSAL_SECONDS)
    # No status: the connection could not be made, broke off, or gave nothing for too long.
    away = code >= 500 or code in (408, 429) or (not code and "HTTP error" in said)
    if (isinstance(error, BaseError) and away) or ARROW_AWAY.search(said):
        return Failure(_reason(error), OUTAGE_SECONDS)
    return None


def _reason(error: Exception) -> str:
    """The storage's own words, where it said any; else obstore's, without what it tried how often."""
    said = re.search("<Message>([^<\\n]+)", str(error))
    return said[1] if said else str(error).partition("\n")[0].rpartition(" - ")[2].strip(" :")


@cache
def store(scheme: str, bucket: str) -> Store:
    """A bucket, for obstore. Raises UserError where nothing says in which account it is."""
    with storage_errors(f"{scheme}://{bucket}"):
        if scheme == "gs":
            return GCSStore(bucket, client_options=CLIENT, retry_config=RETRIES)
        if scheme == "az":
            if "AZURE_STORAGE_ACCOUNT_NAME" not in os.environ:
                raise UserError(f"az://{bucket} is in an account: give its name as AZURE_STORAGE_ACCOUNT_NAME")
            return AzureStore(bucket, client_options=CLIENT, retry_config=RETRIES)
        credentials = _aws_credentials()
        # What anyone may read is read without any.
        config: S3Config = {"region": file_system("s3", bucket).region, "skip_signature": credentials is None}
        if endpoint := _s3_endpoint():
            config["endpoint"] = endpoint
        return S3Store(
            bucket, config=config, client_options=CLIENT, retry_config=RETRIES, credential_provider=credentials
        )


def _aws_credentials() -> "Callable[[], S3Credential] | None":
    """Where obstore gets them from: by itself it knows neither profiles nor single sign-on."""
    import botocore.session

    if (found := botocore.session.get_session().get_credentials()) is None:
        return None

    def credential() -> "S3Credential":
        now = found.get_frozen_credentials()
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.now(UTC) + CREDENTIAL_LIFE,
        }

    return credential


def _s3_endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


class _S3FileSystem(pafs.S3FileSystem):  # type: ignore[misc]
    """Made anew where it is unpickled: pyarrow forgets on the way how often to try."""

    bucket: str

    def __reduce__(self) -> tuple[Any, ...]:
        return file_system, ("s3", self.bucket)


@cache
def file_system(scheme: str, bucket: str) -> pafs.FileSystem:
    """A bucket, for pyarrow: no credentials travel with it."""
    if scheme == "az":
        from obstore.fsspec import FsspecStore

        return pafs.PyFileSystem(pafs.FSSpecHandler(FsspecStore("az", client_options=CLIENT, retry_config=RETRIES)))
    if scheme == "gs":
        return pafs.FileSystem.from_uri(f"gs://{bucket}")[0]
    endpoint = urlsplit(_s3_endpoint() or "")
    options = {"scheme": endpoint.scheme, "endpoint_override": endpoint.netloc} if endpoint.netloc else {}
    system = _S3FileSystem(
        # Amazon is asked for it, another server is not.
        region=pafs.FileSystem.from_uri(f"s3://{bucket}?{urlencode(options)}")[0].region,
        # A small file in one request instead of three.
        allow_delayed_open=True,
        request_timeout=STILL_SECONDS,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=ARROW_TRIES),
        **options,
    )
    system.bucket = bucket
    return system
