// A complete receiver of webhooks: Express, PostgreSQL, and the library of Standard Webhooks.
//
// It verifies the raw body, notes each event once in the transaction that queues its work, answers fast, and does the work
// afterwards. Before its first start:
//
//     psql "$DATABASE_URL" -f src/receiver/inbox/schema.sql -f examples/receiver.sql
//     npm install --prefix examples/receiver-express
//
//     DATABASE_URL=postgres://... WEBHOOK_SECRET=whsec_... node examples/receiver-express/app.mjs
//
// With WEBHOOK_PUBLIC_KEY=whpk_... instead of the secret, it takes `v1a` signatures, which the library does not know yet.

import crypto from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";

import express from "express";
import pg from "pg";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const MAX_BODY_BYTES = 1024 * 1024;
const TOLERANCE_SECONDS = 300;
// Longer than the sender may come again with an event.
const REMEMBERED = "30 days";
// How long a request waits for another one of the same event. It holds a connection meanwhile.
const WAIT = "2s";
const IDLE_MS = 200;

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 16 });
pool.on("error", (error) => console.error(`an idle connection broke: ${error.code ?? error.name}`));

/** No webhook of our sender. 400: no signed webhook at all; 401: signed by another, changed, or at another time. */
class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

// --- Verifying -----------------------------------------------------------------------------------------------------------

/** Over the bytes as they came: JSON that was parsed and written again has other bytes. */
function verify(body, headers) {
  for (const name of ["webhook-id", "webhook-timestamp", "webhook-signature"]) {
    if (!headers[name]) throw new Refused(400, `the header '${name}' is missing or empty`);
  }
  const publicKey = process.env.WEBHOOK_PUBLIC_KEY;
  if (publicKey) return verifyV1a(publicKey, body, headers);
  try {
    new Webhook(process.env.WEBHOOK_SECRET).verify(body, headers);
  } catch (error) {
    if (error instanceof WebhookVerificationError) throw new Refused(401, error.message);
    throw new Refused(400, "the signature, the timestamp or the body is malformed");
  }
}

// What comes before the 32 bytes of an ed25519 key in the form that node reads.
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

function verifyV1a(publicKey, body, headers) {
  const age = Date.now() / 1000 - Number(headers["webhook-timestamp"]);
  if (Number.isNaN(age)) throw new Refused(400, "the header 'webhook-timestamp' is no number");
  if (Math.abs(age) > TOLERANCE_SECONDS) throw new Refused(401, "signed too long ago, or in the future");
  const raw = Buffer.from(publicKey.replace(/^whpk_/, ""), "base64");
  const key = crypto.createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw]), format: "der", type: "spki" });
  const content = Buffer.concat([Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`), body]);
  const signatures = headers["webhook-signature"].split(" ").filter((signature) => signature.startsWith("v1a,"));
  const matches = (signature) => crypto.verify(null, content, key, Buffer.from(signature.slice(4), "base64"));
  if (!signatures.some(matches)) throw new Refused(401, "no signature matches");
}

// --- The inbox: each event once --------------------------------------------------------------------------------------------

const CLAIM = `
  insert into processed_webhooks as known (event_id, event_type, received_at, status, idempotency_expires_at)
  values ($1, $2, now(), 'processing', now() + $3::interval)
  on conflict (event_id) do update
     set event_type = excluded.event_type, received_at = excluded.received_at, status = 'processing',
         response_code = null, response_body = null, idempotency_expires_at = excluded.idempotency_expires_at
   where known.status <> 'done' or known.idempotency_expires_at <= excluded.received_at`;
const ANSWERED = "select response_body from processed_webhooks where event_id = $1";
const DONE = `
  update processed_webhooks
     set status = 'done', response_code = $1, response_body = $2, raw_body = null, signature_headers = null
   where event_id = $3`;
const FAILED = `
  update processed_webhooks set status = 'failed', response_code = 500, raw_body = $1, signature_headers = $2
   where event_id = $3`;
// Somebody has the row and keeps it, each waits for the other, or the isolation level forbids to look.
const BUSY = ["55P03", "40P01", "40001"];

/**
 * The row and the work are committed together, so a crash leaves both or neither. A second request for the event waits for
 * the first one at the primary key, then it is a duplicate, or its turn.
 */
async function handle(event, work) {
  const client = await pool.connect();
  let broken;
  try {
    await client.query("begin");
    const answer = await inTransaction(client, event, work);
    await client.query("commit");
    return answer;
  } catch (error) {
    if (BUSY.includes(error.code)) {
      await client.query("rollback");
      return { status: 409, headers: { "retry-after": "1" } };
    }
    // What the connection is in the middle of is not known.
    broken = error;
    throw error;
  } finally {
    client.release(broken);
  }
}

async function inTransaction(client, event, work) {
  await client.query("select set_config('lock_timeout', $1, true)", [WAIT]);
  const claimed = await client.query(CLAIM, [event.id, event.type, REMEMBERED]);
  if (claimed.rowCount === 0) {
    const { rows } = await client.query(ANSWERED, [event.id]);
    const body = { ...JSON.parse(rows[0].response_body ?? "{}"), duplicate: true };
    return { status: 200, headers: { "webhook-duplicate": "true" }, body };
  }
  await client.query("savepoint work");
  try {
    const body = await work(client);
    await client.query(DONE, [202, JSON.stringify(body), event.id]);
    return { status: 202, body };
  } catch (error) {
    // Without the message: it may repeat the payload.
    console.error(`${event.id} failed: ${error.code ?? error.name}`);
    // The work that failed is undone, and not the row that says so.
    await client.query("rollback to savepoint work");
    await client.query(FAILED, [event.body, JSON.stringify(event.signed), event.id]);
    return { status: 500 };
  }
}

async function cleanUp() {
  await pool.query("delete from processed_webhooks where idempotency_expires_at <= now()");
}

// --- Receiving, and the work --------------------------------------------------------------------------------------------

const app = express();

// As bytes, whatever the type says: nothing may parse it before it is verified.
app.post("/hooks", express.raw({ type: () => true, limit: MAX_BODY_BYTES }), async (request, response) => {
  const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
  try {
    verify(body, request.headers);
  } catch (refused) {
    if (!(refused instanceof Refused)) throw refused;
    response.status(refused.status).type("text").send(`${refused.message}\n`);
    return;
  }
  const signed = Object.fromEntries(Object.entries(request.headers).filter(([name]) => name.startsWith("webhook-")));
  const event = { id: request.headers["webhook-id"], type: request.headers["posthaste-event-type"], body, signed };
  const answer = await handle(event, async (client) => {
    const order = JSON.parse(body);
    if (typeof order.order !== "string") throw new TypeError("no order");
    await client.query("insert into jobs (event_id, payload) values ($1, $2)", [event.id, order]);
    return { order: order.order };
  });
  response.status(answer.status).set(answer.headers ?? {});
  if (answer.body) response.json(answer.body);
  else response.end();
});

app.get("/healthz", (_, response) => response.type("text").send("ok\n"));

// What went wrong inside is for our log, and not for the sender.
app.use((error, _request, response, _next) => {
  const status = error.status === 413 ? 413 : 500;
  if (status === 500) console.error(`a request failed: ${error.code ?? error.name}`);
  response.status(status).end();
});

/** One job and its end in one transaction: a crash leaves it to be done. */
async function workOne() {
  const client = await pool.connect();
  let broken;
  try {
    await client.query("begin");
    const { rows } = await client.query(
      "select id, event_id, payload from jobs order by id limit 1 for update skip locked",
    );
    if (rows.length > 0) {
      const [{ id, event_id, payload: order }] = rows;
      // An older event may come after a newer one: it changes nothing any more.
      await client.query(
        `insert into orders as known (id, version, state) values ($1, $2, $3)
         on conflict (id) do update set version = excluded.version, state = excluded.state
          where known.version < excluded.version`,
        [order.order, order.version, order.state],
      );
      await client.query("insert into effects (event_id) values ($1)", [event_id]);
      await client.query("delete from jobs where id = $1", [id]);
    }
    await client.query("commit");
    return rows.length > 0;
  } catch (error) {
    broken = error;
    throw error;
  } finally {
    client.release(broken);
  }
}

async function workForever() {
  for (;;) {
    try {
      if (!(await workOne())) await pause(IDLE_MS);
    } catch (error) {
      console.error(`work failed, and is tried again: ${error.code ?? error.name}`);
      await pause(1000);
    }
  }
}

await cleanUp();
setInterval(() => cleanUp().catch((error) => console.error(`the clean-up failed: ${error.code}`)), 3_600_000);
app.listen(Number(process.env.PORT ?? 8082), "127.0.0.1");
await workForever();
