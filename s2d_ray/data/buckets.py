"""Buckets: how obstore and pyarrow reach them, with the credentials that each machine finds for itself."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import pyarrow.fs as pafs
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import AzureStore, GCSStore, S3Store

from s2d_ray.errors import UserError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential

Store = S3Store | GCSStore | AzureStore
CLIENT: "ClientConfig" = {"allow_http": True, "timeout": "1day", "read_timeout": "10s"}
"""Plain HTTP is spoken where a person names a server that does. A file may take long, but not stand still for long."""
RETRIES: "RetryConfig" = {"max_retries": 5, "retry_timeout": timedelta(seconds=10)}
"""A storage that is gone has to be noticed before another attempt takes this one for dead."""
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


def _reason(error: Exception) -> str:
    """The storage's own words, where it said any; else the first line of obstore's."""
    said = re.search("<Message>([^<\\n]+)", str(error))
    return said[1] if said else str(error).partition("\n")[0]


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


@cache
def file_system(scheme: str, bucket: str) -> pafs.FileSystem:
    """A bucket, for pyarrow: no credentials travel with it."""
    if scheme == "az":
        from obstore.fsspec import FsspecStore

        return pafs.PyFileSystem(pafs.FSSpecHandler(FsspecStore("az", client_options=CLIENT, retry_config=RETRIES)))
    options = {}
    if scheme == "s3":
        # A small file in one request instead of three.
        options["allow_delayed_open"] = "true"
        if endpoint := _s3_endpoint():
            options |= {"scheme": urlsplit(endpoint).scheme, "endpoint_override": urlsplit(endpoint).netloc}
    return pafs.FileSystem.from_uri(f"{scheme}://{bucket}?{urlencode(options)}")[0]
