"""Drives the example receivers: many senders with the same events at once, and kill -9 in the middle. Then PostgreSQL is asked
how often each event had an effect. Run by scripts/receivers, which brings what this needs.

Signatures are made by the official library (`v1`) and by PyNaCl (`v1a`) for our verifying, and by ours
(examples/sign-webhook.rs) for theirs.
"""

import argparse
import base64
import http.client
import json
import os
import pathlib
import secrets
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone

import psycopg
from nacl.signing import SigningKey
from standardwebhooks import Webhook

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMAS = ["src/receiver/inbox/schema.sql", "examples/receiver.sql"]
PATIENCE_SECONDS = 120
LOOK_AGAIN_SECONDS = 0.05

SECRET = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
KEY = SigningKey.generate()
PRIVATE_KEY = "whsk_" + base64.b64encode(bytes(KEY)).decode()
PUBLIC_KEY = "whpk_" + base64.b64encode(bytes(KEY.verify_key)).decode()


# --- Signing -------------------------------------------------------------------------------------------------------------


def v1(event_id, at, body):
    return Webhook(SECRET).sign(event_id, datetime.fromtimestamp(at, timezone.utc), body.decode())


def v1a(event_id, at, body):
    content = f"{event_id}.{at}.".encode() + body
    return "v1a," + base64.b64encode(KEY.sign(content).signature).decode()


def headers(event_id, at, signature):
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(at),
        "webhook-signature": signature,
        "posthaste-event-type": "order.changed",
        "content-type": "application/json",
    }


def signed_by_ours(program, key, event_id, body):
    """The headers that examples/sign-webhook.rs prints."""
    lines = subprocess.run([program, event_id], input=body, env={"KEY": key}, capture_output=True, check=True).stdout
    return dict(line.split(": ", 1) for line in lines.decode().splitlines())


# --- One service ---------------------------------------------------------------------------------------------------------


class Service:
    """A process that is killed and started again, on the same port."""

    def __init__(self, command, port, database_url, keys):
        self.command, self.port = command, port
        self.environment = {**os.environ, "DATABASE_URL": database_url, "PORT": str(port), **keys}
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, env=self.environment)
        wait_until("the service answers", self.answers)

    def answers(self):
        if self.process.poll() is not None:
            raise SystemExit(f"the service ended with {self.process.returncode}")
        try:
            return self.send("GET", "/healthz", b"", {})[0] == 200
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def send(self, method, path, body, sent):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return response.status, response.read(), response.headers
        except http.client.HTTPException as error:
            raise ConnectionError(type(error).__name__) from error
        finally:
            connection.close()

    def hook(self, body, sent):
        return self.send("POST", "/hooks", body, sent)


def wait_until(what, is_so):
    until = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > until:
            raise SystemExit(f"gave up waiting: {what}")
        time.sleep(LOOK_AGAIN_SECONDS)


# --- What is shown -------------------------------------------------------------------------------------------------------


def expect(what, is_right, seen):
    if not is_right:
        raise SystemExit(f"{what}: {seen}")


def check_refusals(service, sign):
    body = b'{"order":"refused","version":1,"state":"new"}'
    now = int(time.time())
    right = headers("evt_refused", now, sign("evt_refused", now, body))
    early, late = now + 600, now - 600
    for what, expected, sent_body, sent in [
        ("without headers", 400, body, {}),
        ("without a signature", 400, body, {**right, "webhook-signature": ""}),
        ("another body", 401, body + b" ", right),
        ("an old timestamp", 401, body, headers("evt_refused", late, sign("evt_refused", late, body))),
        ("a timestamp to come", 401, body, headers("evt_refused", early, sign("evt_refused", early, body))),
        ("too long a body", 413, b"x" * (1024 * 1024 + 1), right),
    ]:
        status, text, _ = service.hook(sent_body, sent)
        expect(what, status == expected, f"{status} instead of {expected}: {text[:200]}")


def check_failure(service, database, sign):
    """A body that the work cannot do anything with: kept with its signature, and tried again when it comes again."""
    body = b'{"version":1}'
    for _ in range(2):
        now = int(time.time())
        status, text, _ = service.hook(body, headers("evt_fails", now, sign("evt_fails", now, body)))
        expect("a failing event", status == 500 and b"version" not in text, f"{status} {text[:200]}")
        row = database.execute(
            "select status, raw_body, signature_headers ? 'webhook-signature' from processed_webhooks where event_id = 'evt_fails'"
        ).fetchone()
        expect("its row", row == ("failed", body, True), row)


class Senders:
    """So many at once, each with every event, again and again until it is answered with 2xx."""

    def __init__(self, service, signs, events, senders):
        self.service, self.signs, self.events = service, signs, events
        self.lock = threading.Lock()
        self.answered, self.first, self.duplicates, self.broken, self.busy = 0, {}, 0, 0, 0
        self.threads = [threading.Thread(target=self.run, args=[n], daemon=True) for n in range(senders)]

    def run(self, number):
        for n in range(self.events):
            event_id = f"evt_{n:06}"
            # Ten orders for each version, and the newest version first for some: events come out of order.
            version = self.events - n if n % 2 else n
            body = json.dumps({"order": f"order_{n % 10}", "version": version, "state": f"state {version}"}).encode()
            sign = self.signs[(n + number) % len(self.signs)]
            while not self.delivered(event_id, body, sign):
                time.sleep(LOOK_AGAIN_SECONDS)

    def delivered(self, event_id, body, sign):
        now = int(time.time())
        try:
            status, text, sent = self.service.hook(body, headers(event_id, now, sign(event_id, now, body)))
        except ConnectionRefusedError:
            return False
        except OSError:
            with self.lock:
                self.broken += 1
            return False
        with self.lock:
            if status == 202:
                self.first[event_id] = self.first.get(event_id, 0) + 1
            elif status == 200:
                expect("a duplicate", sent["webhook-duplicate"] == "true" and json.loads(text)["duplicate"] is True, text)
                self.duplicates += 1
            elif status in (409, 500, 503):
                self.busy += 1
                return False
            else:
                expect("an answer", False, f"{status} {text[:200]}")
            self.answered += 1
        return True


def drive(name, service, database, signs, events, senders, kills):
    service.start()
    check_refusals(service, signs[0])
    check_failure(service, database, signs[0])
    load = Senders(service, signs, events, senders)
    began = time.monotonic()
    for thread in load.threads:
        thread.start()
    total = events * senders
    for kill in range(1, kills + 1):
        wait_until("enough is answered", lambda: load.answered >= total * kill // (kills + 1))
        service.kill()
        service.start()
    for thread in load.threads:
        thread.join()
    took = time.monotonic() - began
    wait_until("every job is done", lambda: one(database, "select count(*) from jobs") == 0)
    audit(database, load, events)
    service.kill()
    print(
        f"{name}: {events} events, each from {senders} senders, {kills} kills, {took:.0f} s: every event had one effect; "
        f"{len(load.first)} first answers, {load.duplicates} duplicates, {load.broken} requests broken by the kills, "
        f"{load.busy} told to come again",
        flush=True,
    )


def one(database, query):
    return database.execute(query).fetchone()[0]


def audit(database, load, events):
    effects = dict(database.execute("select event_id, count(*) from effects group by 1").fetchall())
    wrong = {event: times for event, times in effects.items() if times != 1}
    expect("effects", len(effects) == events and not wrong, f"{len(effects)} of {events} events, twice: {wrong}")
    twice = {event: times for event, times in load.first.items() if times != 1}
    expect("answers as if for the first time", not twice, twice)
    expect("a kill in the middle", load.broken > 0, "no request was broken")
    states = database.execute("select count(*) from orders where state <> 'state ' || version").fetchone()[0]
    newest = one(database, "select max(version) from orders")
    expect("the newest version of each order", states == 0 and newest == events - 1, f"{states} {newest}")
    statuses = dict(database.execute("select status, count(*) from processed_webhooks group by 1").fetchall())
    expect("rows of the inbox", statuses == {"done": events, "failed": 1}, statuses)


def check_ours(name, service, program, key):
    """Signatures of ours, verified by what the service uses."""
    service.start()
    body = b'{"order":"ours","version":1,"state":"new"}'
    sent = signed_by_ours(program, key, f"evt_ours_{key[:5]}", body)
    status, text, _ = service.hook(body, sent)
    expect("a signature of ours", status == 202, f"{status} {text[:200]}")
    status, text, _ = service.hook(body + b" ", sent)
    expect("the same with another body", status == 401, f"{status} {text[:200]}")
    service.kill()
    print(f"{name}: verifies {sent['webhook-signature'].split(',')[0]} of ours", flush=True)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--database-url", required=True, help="a server's, whose user may create databases")
    options.add_argument("--events", type=int, default=200)
    options.add_argument("--senders", type=int, default=50)
    options.add_argument("--kills", type=int, default=3)
    options.add_argument("--sign-webhook", required=True, help="the program of examples/sign-webhook.rs")
    options.add_argument("--service", nargs="+", action="append", required=True, metavar="NAME PORT COMMAND")
    given = options.parse_args()
    for name, port, *command in given.service:
        run(given, name, int(port), command)


def run(given, name, port, command):
    database_name = f"receivers_{name}_{os.getpid()}"
    server = psycopg.connect(given.database_url, autocommit=True)
    server.execute(f'create database "{database_name}"')
    base, _, _ = given.database_url.rpartition("/")
    url = f"{base}/{database_name}"
    services = []

    def service(keys):
        services.append(Service(command, port, url, keys))
        return services[-1]

    try:
        with psycopg.connect(url, autocommit=True) as database:
            for schema in SCHEMAS:
                # Twice: a service may do so at every start.
                database.execute((ROOT / schema).read_text())
                database.execute((ROOT / schema).read_text())
            # Ours knows both schemes at once.
            both = name == "axum"
            keys = {"WEBHOOK_KEYS": f"{SECRET} {PUBLIC_KEY}"} if both else {"WEBHOOK_SECRET": SECRET}
            signs = [v1, v1a] if both else [v1]
            drive(name, service(keys), database, signs, given.events, given.senders, given.kills)
            if not both:
                check_ours(name, service(keys), given.sign_webhook, SECRET)
                check_ours(name, service({"WEBHOOK_PUBLIC_KEY": PUBLIC_KEY}), given.sign_webhook, PRIVATE_KEY)
    finally:
        for started in services:
            if started.process and started.process.poll() is None:
                started.kill()
        server.execute(f'drop database "{database_name}" with (force)')


if __name__ == "__main__":
    sys.exit(main())
