// Express with express-delayed-response, and without: `node server.js PORT`.
const express = require("express");
const delayed = require("express-delayed-response");

const DOCUMENT = { id: 1, name: "item", tags: ["a", "b"] };
const cacheClient = delayed.createCacheClient({ max: 1_000_000 }); // or it forgets what it promised
const { delay } = delayed.init({ cacheClient });
const app = express();
let inFlight = 0;

app.get("/bare", (request, response) => response.json(DOCUMENT));
app.get("/in-flight", (request, response) => response.json(inFlight));
app.get("/item", delay({ timeout: 0 }), (request, response) => {
  inFlight += 1;
  setTimeout(() => { // it answers 202 to no handler that answers at once
    response.json(DOCUMENT);
    inFlight -= 1;
  }, 50);
});
app.listen(Number(process.argv[2]), "127.0.0.1");
