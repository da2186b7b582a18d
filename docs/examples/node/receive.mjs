// A receiver that verifies signatures, with the Standard Webhooks library.
//
//     npm install standardwebhooks
//     SECRET=whsec_... node docs/examples/node/receive.mjs

import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.SECRET);

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  // The bytes as they came, before anything parses them.
  const body = Buffer.concat(chunks);
  try {
    webhook.verify(body, request.headers);
  } catch (error) {
    console.log(`refused: ${error.message}`);
    response.writeHead(401).end();
    return;
  }
  // Here: store the webhook under its webhook-id if it is new. The work itself comes after the answer.
  console.log(`${request.headers["webhook-id"]} ${request.headers["posthaste-event-type"]}`);
  response.writeHead(204).end();
}).listen(process.env.PORT ?? 8082, "127.0.0.1");
