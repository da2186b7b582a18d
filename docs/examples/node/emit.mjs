// An order and its event in one transaction, with node-postgres.
//
//     npm install pg
//     node docs/examples/node/emit.mjs

import pg from "pg";

async function placeOrder(client, tenant, item) {
  // One client for the whole transaction: pool.query() may take another connection each time.
  await client.query("begin");
  try {
    const order = await client.query("insert into orders (item) values ($1) returning id", [item]);
    const event = await client.query("select posthaste.emit($1, $2, $3) as id", [
      tenant,
      "order.created",
      // node-postgres gives a bigint as text; without Number() the receiver would get {"order_id":"1"}.
      JSON.stringify({ order_id: Number(order.rows[0].id) }),
    ]);
    await client.query("commit");
    return { order: order.rows[0].id, event: event.rows[0].id };
  } catch (error) {
    await client.query("rollback");
    throw error;
  }
}

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const client = await pool.connect();
try {
  await client.query(
    "create table if not exists orders (id bigint generated always as identity primary key, item text not null)",
  );
  const placed = await placeOrder(client, "acme", "a box of tea");
  console.log(`order ${placed.order}, event ${placed.event}`);
} finally {
  client.release();
  await pool.end();
}
