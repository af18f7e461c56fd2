"""A gRPC server in front of an emulator's Storage Write API: it answers as the service does where
the emulator does not, and it fails as told.

As the service: a stream that is committed again is ALREADY_COMMITTED; rows with JSON that it does
not take are named in `row_errors`, the request being refused as a whole; an append must say in its
metadata where it goes. All else passes through, byte for byte.
"""

from __future__ import annotations

import json
import math
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types
from google.rpc import status_pb2

_SERVICE = "/google.cloud.bigquery.storage.v1.BigQueryWrite/"
_ROOM = [("grpc.max_receive_message_length", 2**25), ("grpc.max_send_message_length", 2**25)]
APPEND, COMMIT = "AppendRows", "BatchCommitWriteStreams"
CREATE, FINALIZE = "CreateWriteStream", "FinalizeWriteStream"
METHODS = (CREATE, APPEND, FINALIZE, COMMIT)


class Fault(NamedTuple):
    """What becomes of a call: done or not, and answered with this status; `within` the answer of
    AppendRows, where the connection stays, or of a commit, where it is the key's fault."""

    code: grpc.StatusCode
    done: bool = False
    within: bool = False


LOST = Fault(grpc.StatusCode.UNAVAILABLE, done=True)  # done, and nobody hears of it


class FaultyWriteApi:
    """Speaks to the gRPC server at `upstream`, and listens at `address`."""

    def __init__(self, upstream: str):
        self.calls: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._json: dict[str, list[str]] = {}
        self._committed: set[str] = set()
        self._lock = threading.Lock()
        self._channel = grpc.insecure_channel(upstream, options=_ROOM)
        self._server = grpc.server(ThreadPoolExecutor(32), options=_ROOM)
        unary = {name: self._unary(name) for name in (CREATE, FINALIZE, COMMIT)}
        append = grpc.stream_stream_rpc_method_handler(self._append)
        handlers = {**unary, APPEND: append}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE.strip("/"), handlers),)
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(0).wait()
        self._channel.close()

    def fail(self, method: str, *faults: Fault) -> None:
        """The next calls of a method, or requests on a connection of AppendRows, go like this."""
        self._faults[method].extend(faults)

    def forget(self) -> None:
        """No call fails any more."""
        self._faults.clear()

    def _fault(self, method: str) -> Fault | None:
        with self._lock:
            self.calls[method] += 1
            if not self._faults[method]:
                return None
            self.failed[method] += 1
            return self._faults[method].popleft()

    def _unary(self, method: str) -> grpc.RpcMethodHandler:
        call = self._channel.unary_unary(_SERVICE + method)

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            fault = self._fault(method)
            if fault is None or fault.done:
                with _same_status(context):
                    answer = self._as_service(method, request, call(request, timeout=30))
            if fault is not None and fault.within:
                return _no_key(request)
            if fault is not None:
                context.abort(fault.code, "injected")
            return answer

        return grpc.unary_unary_rpc_method_handler(handle)

    def _as_service(self, method: str, request: bytes, answer: bytes) -> bytes:
        if method == CREATE:
            stream = types.WriteStream.deserialize(answer)
            kinds = [(column.name, column.type_.name) for column in stream.table_schema.fields]
            self._json[stream.name] = [name for name, kind in kinds if kind == "JSON"]
        if method == COMMIT:
            (name,) = types.BatchCommitWriteStreamsRequest.deserialize(request).write_streams
            done = types.BatchCommitWriteStreamsResponse.deserialize(answer)
            if not done.stream_errors:
                self._committed.add(name)
            elif name in self._committed:
                again = types.StorageError.StorageErrorCode.STREAM_ALREADY_COMMITTED
                done.stream_errors[0].code = again
                return bytes(types.BatchCommitWriteStreamsResponse.serialize(done))
        return answer

    def _append(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        call = self._channel.stream_stream(_SERVICE + APPEND)
        for request in requests:
            _refuse_to_guess_the_region(request, context)
            fault = self._fault(APPEND)
            answer = self._not_json(request)
            if answer is None and (fault is None or fault.done):
                with _same_status(context):
                    (answer,) = call(iter([request]), timeout=30)
            if fault is not None:
                if not fault.within:
                    context.abort(fault.code, "injected")
                answer = _within(fault)
            assert answer is not None
            yield answer

    def _not_json(self, request: bytes) -> bytes | None:
        """The refusal of a request that has rows whose JSON is none."""
        asked = types.AppendRowsRequest.deserialize(request)
        data = asked.arrow_rows
        rows = pa.ipc.open_stream(
            data.writer_schema.serialized_schema + data.rows.serialized_record_batch
        ).read_all()
        errors = [
            types.RowError(index=place, code=1, message=f"{name}: no JSON: {value[:40]}")
            for name in self._json.get(asked.write_stream, [])
            if name in rows.column_names
            for place, value in enumerate(rows.column(name).to_pylist())
            if value is not None and not _is_json(value)
        ]
        if not errors:
            return None
        answer = types.AppendRowsResponse(
            error=status_pb2.Status(code=3, message="Errors found while processing rows"),
            row_errors=errors,
        )
        return bytes(types.AppendRowsResponse.serialize(answer))


def _no_key(request: bytes) -> bytes:
    (stream,) = types.BatchCommitWriteStreamsRequest.deserialize(request).write_streams
    error = types.StorageError(
        code=types.StorageError.StorageErrorCode.KMS_PERMISSION_DENIED,
        entity=stream,
        error_message="no permission for the key",
    )
    refused = types.BatchCommitWriteStreamsResponse(stream_errors=[error])
    return bytes(types.BatchCommitWriteStreamsResponse.serialize(refused))


def _refuse_to_guess_the_region(request: bytes, context: grpc.ServicerContext) -> None:
    stream = types.AppendRowsRequest.deserialize(request).write_stream
    route = ("x-goog-request-params", f"write_stream={stream}")
    if route not in [(name, value) for name, value in context.invocation_metadata()]:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Cannot route on empty project id ''")


def _within(fault: Fault) -> bytes:
    error = status_pb2.Status(code=fault.code.value[0], message="injected")
    return bytes(types.AppendRowsResponse.serialize(types.AppendRowsResponse(error=error)))


def _is_json(text: str) -> bool:
    """BigQuery takes no number that a double cannot hold."""
    try:
        json.loads(text, parse_int=_number, parse_float=_number)
    except (ValueError, OverflowError):
        return False
    return True


def _number(text: str) -> float:
    if math.isinf(found := float(text)):
        raise OverflowError(text)
    return found


@contextmanager
def _same_status(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        said: Any = error
        context.abort(said.code(), said.details())
