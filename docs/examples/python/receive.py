"""A receiver: verify the signature, handle each webhook once, answer fast. With the Standard Webhooks library.

    pip install standardwebhooks
    SECRET=whsec_... python docs/examples/python/receive.py
"""

import os
import sqlite3
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["SECRET"])
database = sqlite3.connect("inbox.db")
database.execute("create table if not exists inbox (webhook_id text primary key, type text, body blob)")


def accept(webhook_id, event_type, body):
    """Stores a webhook for later work. False: it was stored before."""
    with database:
        stored = database.execute(
            "insert into inbox values (?, ?, ?) on conflict do nothing", [webhook_id, event_type, body]
        )
    return stored.rowcount == 1


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        # The bytes as they came. Parsed and written again, JSON has other bytes and the signature does not match.
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            webhook.verify(body, headers)
        except WebhookVerificationError as error:
            print(f"refused: {error}", flush=True)
            return self.answer(401)
        new = accept(headers["webhook-id"], headers["posthaste-event-type"], body)
        print(f"{headers['webhook-id']} {'stored' if new else 'seen before'}", flush=True)
        # A duplicate is a success too: anything else than 2xx would bring it back.
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8081"))), Handler).serve_forever()
