// Answers POST requests with the label of their text: curl -d "The screen is black." localhost:8123
import { createServer } from 'node:http';
import { PeftError, pipeline } from 'peftjs';

const MOST_BYTES = 64 * 1024; // tokenising a long text keeps this thread from answering others

const classify = await pipeline('text-classification', 'my-adapter');

/** The text of a request; undefined if it is too long. It is read to its end all the same: many clients read the answer only then. */
async function textOf(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes <= MOST_BYTES) chunks.push(chunk);
  }
  return bytes <= MOST_BYTES ? Buffer.concat(chunks).toString() : undefined;
}

const server = createServer((request, response) => {
  const reply = (status, body) => {
    if (!server.listening) response.setHeader('connection', 'close'); // the server is about to end
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };
  textOf(request)
    .then(async (text) => {
      if (text === undefined) reply(413, { error: `Expected a text of at most ${MOST_BYTES} bytes.` });
      else reply(200, await classify(text)); // requests that wait share the next batch
    })
    .catch((error) => {
      if (request.errored) return; // the client hung up
      const isTheirs = error instanceof PeftError; // the message says what is wrong
      if (!isTheirs) console.error(error);
      reply(isTheirs ? 400 : 500, { error: isTheirs ? error.message : 'The server failed.' });
    });
});
server.listen(Number(process.env.PORT ?? 8123), () => console.log(`http://localhost:${server.address().port}`));
// Node ignores signals as a container's first process: answer open requests for ten seconds at most, take no more, then end.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    server.close(() => process.exit());
    setTimeout(() => server.closeAllConnections(), 10_000).unref(); // some may stay open
  });
}
