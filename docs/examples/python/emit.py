"""An order and its event in one transaction, with psycopg 3.

    pip install "psycopg[binary]"
    python docs/examples/python/emit.py
"""

import os

import psycopg
from psycopg.types.json import Json


def place_order(connection, tenant, item):
    """Both rows are there after the commit, or neither is."""
    with connection.transaction():
        order_id = connection.execute(
            "insert into orders (item) values (%s) returning id", [item]
        ).fetchone()[0]
        event_id = connection.execute(
            "select posthaste.emit(%s, %s, %s)",
            [tenant, "order.created", Json({"order_id": order_id})],
        ).fetchone()[0]
    return order_id, event_id


def main():
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute(
            "create table if not exists orders (id bigint generated always as identity primary key, item text not null)"
        )
        order_id, event_id = place_order(connection, "acme", "a box of tea")
        print(f"order {order_id}, event {event_id}")

        try:
            with connection.transaction():
                place_order(connection, "acme", "never ordered")
                raise RuntimeError("the customer changed their mind")
        except RuntimeError:
            print("rolled back: neither the order nor its event exists")


if __name__ == "__main__":
    main()
