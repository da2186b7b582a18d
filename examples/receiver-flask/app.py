"""A complete receiver of webhooks: Flask, PostgreSQL, and the library of Standard Webhooks.

It verifies the raw body, notes each event once in the transaction that queues its work, answers fast, and does the work
afterwards. Before its first start:

    psql "$DATABASE_URL" -f src/receiver/inbox/schema.sql -f examples/receiver.sql
    pip install -r examples/receiver-flask/requirements.txt

    DATABASE_URL=postgres://... WEBHOOK_SECRET=whsec_... python examples/receiver-flask/app.py

With WEBHOOK_PUBLIC_KEY=whpk_... instead of the secret, it takes `v1a` signatures, which the library does not know yet.
"""

import base64
import binascii
import json
import logging
import os
import sys
import threading
import time

import waitress
from flask import Flask, Response, request
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from psycopg import errors
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool
from standardwebhooks import Webhook, WebhookVerificationError

MAX_BODY_BYTES = 1024 * 1024
TOLERANCE_SECONDS = 300
# Longer than the sender may come again with an event.
REMEMBERED = "30 days"
# How long a request waits for another one of the same event. It holds a connection meanwhile.
WAIT = "2s"
THREADS = 16
IDLE_SECONDS = 0.2

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
pool = ConnectionPool(os.environ["DATABASE_URL"], min_size=1, max_size=THREADS + 1, open=False)


class Refused(Exception):
    """No webhook of our sender. 400: no signed webhook at all; 401: signed by another, changed, or at another time."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


# --- Verifying ---------------------------------------------------------------------------------------------------------


def verify(body, headers):
    """Over the bytes as they came: JSON that was parsed and written again has other bytes."""
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        if not headers.get(name):
            raise Refused(400, f"the header '{name}' is missing or empty")
    public_key = os.environ.get("WEBHOOK_PUBLIC_KEY")
    if public_key:
        verify_v1a(public_key, body, headers)
        return
    try:
        Webhook(os.environ["WEBHOOK_SECRET"]).verify(body, dict(headers))
    except WebhookVerificationError as error:
        raise Refused(401, str(error)) from error
    except ValueError as error:
        raise Refused(400, "the signature, the timestamp or the body is malformed") from error


def verify_v1a(public_key, body, headers):
    try:
        age = time.time() - int(headers["webhook-timestamp"])
    except ValueError as error:
        raise Refused(400, "the header 'webhook-timestamp' is no number") from error
    if abs(age) > TOLERANCE_SECONDS:
        raise Refused(401, "signed too long ago, or in the future")
    key = VerifyKey(base64.b64decode(public_key.removeprefix("whpk_")))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for signature in headers["webhook-signature"].split(" "):
        scheme, _, encoded = signature.partition(",")
        if scheme != "v1a":
            continue
        try:
            key.verify(content, base64.b64decode(encoded, validate=True))
            return
        except (BadSignatureError, ValueError, binascii.Error):
            continue
    raise Refused(401, "no signature matches")


# --- The inbox: each event once ------------------------------------------------------------------------------------------

CLAIM = """
    insert into processed_webhooks as known (event_id, event_type, received_at, status, idempotency_expires_at)
    values (%s, %s, now(), 'processing', now() + %s::interval)
    on conflict (event_id) do update
       set event_type = excluded.event_type, received_at = excluded.received_at, status = 'processing',
           response_code = null, response_body = null, idempotency_expires_at = excluded.idempotency_expires_at
     where known.status <> 'done' or known.idempotency_expires_at <= excluded.received_at"""
ANSWERED = "select response_body from processed_webhooks where event_id = %s"
DONE = """
    update processed_webhooks
       set status = 'done', response_code = %s, response_body = %s, raw_body = null, signature_headers = null
     where event_id = %s"""
FAILED = """
    update processed_webhooks set status = 'failed', response_code = 500, raw_body = %s, signature_headers = %s
     where event_id = %s"""


def handle(event_id, event_type, body, headers, work):
    """The row and the work are committed together, so a crash leaves both or neither.

    A second request for the event waits for the first one at the primary key, then it is a duplicate, or its turn.
    """
    with pool.connection() as connection:
        connection.execute("select set_config('lock_timeout', %s, true)", [WAIT])
        try:
            is_new = connection.execute(CLAIM, [event_id, event_type, REMEMBERED]).rowcount == 1
        except (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure):
            connection.rollback()
            return answer(409, None, {"retry-after": "1"})
        if not is_new:
            (earlier,) = connection.execute(ANSWERED, [event_id]).fetchone()
            again = json.loads(earlier or "{}") | {"duplicate": True}
            return answer(200, again, {"webhook-duplicate": "true"})
        try:
            # A savepoint: the work that failed is undone, and not the row that says so.
            with connection.transaction():
                result = work(connection)
        except Exception as error:
            # Without the message: it may repeat the payload.
            print(f"{event_id} failed: {type(error).__name__}", file=sys.stderr, flush=True)
            signed = {name.lower(): value for name, value in headers.items() if name.lower().startswith("webhook-")}
            connection.execute(FAILED, [body, Jsonb(signed), event_id])
            return answer(500)
        connection.execute(DONE, [202, json.dumps(result), event_id])
    # Committed: now it may be answered.
    return answer(202, result)


def answer(status, body=None, headers=None):
    text = "" if body is None else json.dumps(body)
    return Response(text, status, headers or {}, content_type="application/json")


def clean_up():
    with pool.connection() as connection:
        connection.execute("delete from processed_webhooks where idempotency_expires_at <= now()")


# --- Receiving, and the work --------------------------------------------------------------------------------------------


@app.post("/hooks")
def hook():
    body = request.get_data()
    try:
        verify(body, request.headers)
    except Refused as refused:
        return Response(f"{refused}\n", refused.status, content_type="text/plain")
    event_id = request.headers["webhook-id"]

    def queue(connection):
        order = json.loads(body)
        connection.execute("insert into jobs (event_id, payload) values (%s, %s)", [event_id, Jsonb(order)])
        return {"order": order["order"]}

    return handle(event_id, request.headers.get("posthaste-event-type"), body, request.headers, queue)


def work_one():
    """One job and its end in one transaction: a crash leaves it to be done."""
    with pool.connection() as connection:
        job = connection.execute(
            "select id, event_id, payload from jobs order by id limit 1 for update skip locked"
        ).fetchone()
        if job is None:
            return False
        job_id, event_id, order = job
        # An older event may come after a newer one: it changes nothing any more.
        connection.execute(
            """insert into orders as known (id, version, state) values (%s, %s, %s)
               on conflict (id) do update set version = excluded.version, state = excluded.state
                where known.version < excluded.version""",
            [order["order"], order["version"], order["state"]],
        )
        connection.execute("insert into effects (event_id) values (%s)", [event_id])
        connection.execute("delete from jobs where id = %s", [job_id])
        return True


def work_forever():
    last_clean_up = 0.0
    while True:
        try:
            if time.monotonic() - last_clean_up > 3600:
                clean_up()
                last_clean_up = time.monotonic()
            if not work_one():
                time.sleep(IDLE_SECONDS)
        except Exception as error:
            print(f"work failed, and is tried again: {type(error).__name__}", file=sys.stderr, flush=True)
            time.sleep(1)


@app.get("/healthz")
def healthz():
    return "ok\n"


if __name__ == "__main__":
    # It warns of every request that waits for a thread.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    pool.open(wait=True)
    threading.Thread(target=work_forever, daemon=True).start()
    waitress.serve(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8081")), threads=THREADS)
