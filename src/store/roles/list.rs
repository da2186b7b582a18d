//! Who may do what. A table that is not here is nobody's but its owner's, and a test says so.
//!
//! A statement that locks rows needs the right to update some column of them; where nothing is updated, it is one that does no
//! harm. `ctid` and `xmin` can be read only with a right to the whole table.

use super::role::Role::{self, Observer, Operator, Producer, Relay, Worker};

type List = &'static [(&'static str, &'static [(Role, &'static str)])];

/// Tables and views. What is granted on a partitioned table is granted on its days.
pub const TABLES: List = &[
    (
        "outbox",
        &[
            (Producer, "insert (id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent)"),
            (Relay, "select, delete, update (created_at)"),
            (Operator, "select, delete"),
            (Observer, "select (id, tenant, event_type, idempotency_key, max_attempts, traceparent, created_at)"),
        ],
    ),
    (
        "set_aside",
        &[
            (Relay, "insert, select (id, set_aside_at), delete"),
            (Operator, "select, update (payload)"),
            (Observer, "select (id, tenant, event_type, idempotency_key, max_attempts, created_at, error, set_aside_at)"),
        ],
    ),
    ("idempotency_keys", &[(Relay, "select, delete, update (expires_at)")]),
    (
        "events",
        &[
            (Relay, "select, insert"),
            // Erasing makes a payload null, and records what was in the outbox without one.
            (
                Operator,
                "select, insert (id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at, erased_at),
                 update (payload, erased_at)",
            ),
            (
                Observer,
                "select (id, tenant, event_type, idempotency_key, max_attempts, traceparent, created_at, published_at, matched,
                         erased_at)",
            ),
        ],
    ),
    (
        "deliveries",
        &[
            (
                Relay,
                "select, insert (event_id, endpoint_id, status, max_attempts),
                 update (status, next_attempt_at, last_error, dead_reason, updated_at)",
            ),
            (
                Worker,
                "select, update (status, attempts, next_attempt_at, last_status_code, last_error, dead_reason, updated_at)",
            ),
            (
                Operator,
                "select, insert (event_id, endpoint_id, status, max_attempts),
                 update (status, base_attempts, next_attempt_at, last_error, dead_reason, updated_at)",
            ),
            (Observer, "select"),
        ],
    ),
    (
        "attempts",
        &[
            (Worker, "insert"),
            (Operator, "select, update (request_headers, response_headers, response_body)"),
            (
                Observer,
                "select (event_id, endpoint_id, attempt, outcome, status_code, error, duration_ms, started_at, next_attempt_at,
                         worker)",
            ),
        ],
    ),
    (
        "relay_batches",
        &[
            (Relay, "select, insert (relay, event_ids, endpoint_ids), delete"),
            (Operator, "select, insert (relay, event_ids, endpoint_ids), delete"),
            (Observer, "select"),
        ],
    ),
    (
        "endpoints",
        &[
            // No URL and no header.
            (
                Relay,
                "select (id, tenant, event_like, status, max_in_flight, rate_limit_per_second, timeout_ms, retry_policy,
                         circuit_state, circuit_trips, circuit_opened_at, circuit_until, paused_until),
                 update (status, disabled_reason, circuit_state, circuit_trips, circuit_opened_at, circuit_until, paused_at,
                         paused_until)",
            ),
            (
                Worker,
                "select,
                 update (status, disabled_reason, circuit_state, circuit_trips, circuit_opened_at, circuit_until, paused_at,
                         paused_until)",
            ),
            (Operator, "select, insert, update, delete"),
            (
                Observer,
                "select (id, tenant, url, description, event_types, event_like, status, disabled_reason, disabled_at,
                         max_in_flight, rate_limit_per_second, timeout_ms, retry_policy, circuit_state, circuit_trips,
                         circuit_opened_at, circuit_until, paused_at, paused_until, resumed_at, created_at, updated_at,
                         client_certificate_sha256, client_certificate_expires_at, ca_sha256)",
            ),
        ],
    ),
    (
        "endpoint_secrets",
        &[
            (Relay, "select (id, expires_at), delete"),
            (Worker, "select"),
            (Operator, "select, insert, update (expires_at, key_id, key_ciphertext), delete"),
            (Observer, "select (id, endpoint_id, kind, key_id, public_key, created_at, expires_at)"),
        ],
    ),
    // Ids only. Triggers write it, and the function that makes another key the one that seals.
    ("encryption_keys", &[(Worker, "select"), (Operator, "select"), (Observer, "select")]),
    (
        "endpoint_activity",
        &[
            (Relay, "select (reported_at), delete"),
            (Worker, "select, insert, update"),
            (Operator, "select"),
            (Observer, "select"),
        ],
    ),
    ("endpoint_pauses", &[(Operator, "select"), (Observer, "select")]),
    ("endpoint_restraints", &[(Relay, "select"), (Observer, "select")]),
    (
        "markers",
        &[(Relay, "select, delete"), (Worker, "select, insert"), (Operator, "select"), (Observer, "select")],
    ),
    (
        "suspects",
        &[
            (Relay, "select (updated_at), delete"),
            (Worker, "select, insert, update, delete"),
            (Operator, "select"),
            (Observer, "select"),
        ],
    ),
    ("operations_told", &[(Relay, "select (told_at), delete"), (Observer, "select")]),
    ("requeues", &[(Relay, "select (id, started_at), delete"), (Operator, "select, insert, update"), (Observer, "select")]),
    (
        "history_days",
        &[
            (Relay, "select, insert (day, expired, expired_at), update (expired, expired_at)"),
            (Operator, "select, insert (day, expired, expired_at), update (expired, expired_at)"),
            (Observer, "select"),
        ],
    ),
    // Whoever declares queues remembers them: the migrator, who owns the table. The relay counts what waits in them.
    ("delay_queues", &[(Relay, "select"), (Operator, "select"), (Observer, "select")]),
    (
        "erasures",
        &[
            (
                Operator,
                "select, insert (target, value),
                 update (events, from_outbox, set_aside, ended, dead, attempts, dead_letters, finished_at, error)",
            ),
            (Observer, "select"),
        ],
    ),
    ("tenant_settings", &[(Worker, "select"), (Operator, "select, insert, update"), (Observer, "select")]),
    ("retry_budgets", &[(Worker, "select"), (Operator, "select, insert, update, delete"), (Observer, "select")]),
    (
        "schema_migrations",
        &[
            (Relay, "select (version, success)"),
            (Worker, "select (version, success)"),
            (Operator, "select (version, success)"),
            (Observer, "select"),
        ],
    ),
];

pub const SEQUENCES: List =
    &[("wake", &[(Relay, "update")]), ("operations_left_out", &[(Relay, "select"), (Observer, "select")])];

pub const FUNCTIONS: List = &[
    ("emit(text, text, json, text, int, text)", &[(Producer, "execute")]),
    // For the default of the outbox's id, which is evaluated as whoever inserts.
    ("uuid_v7()", &[(Producer, "execute")]),
    ("uuid_v7_floor(timestamptz)", &[(Relay, "execute"), (Operator, "execute"), (Observer, "execute")]),
    ("create_partitions(date, date)", &[(Relay, "execute")]),
    ("seal_with(text)", &[(Operator, "execute")]),
    // The statements that end deliveries.
    ("operations_tenant()", &[(Relay, "execute"), (Worker, "execute"), (Operator, "execute")]),
    (
        "tell_dead(uuid[], uuid[], text[], int[], int[])",
        &[(Relay, "execute"), (Worker, "execute"), (Operator, "execute")],
    ),
    // They take no day away that is not over, or in which something is unfinished.
    ("detach_day(date)", &[(Relay, "execute"), (Operator, "execute")]),
    ("drop_day(date)", &[(Relay, "execute"), (Operator, "execute")]),
];
