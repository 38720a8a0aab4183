// Serves a classifier over HTTP, with two adapters on one model: POST / { "text": "It broke.", "adapter": "lora" }
import { createServer, type IncomingMessage } from 'node:http';
import { compiled, PeftError, pipeline } from 'peftjs';

const MOST_BYTES = 64 * 1024; // tokenising a long text keeps this thread from answering others

export const classify = await pipeline('text-classification', 'adapters/sora', {
  adapters: { lora: 'adapters/lora' }, // the first adapter is called 'default'
  executor: compiled({ worker: true }), // computes in a worker thread, so that this one can answer requests
});

/** The body of a request; undefined if it is too long. It is read to its end all the same: many clients read the answer only then. */
async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= MOST_BYTES) chunks.push(chunk);
  }
  return bytes <= MOST_BYTES ? Buffer.concat(chunks).toString() : undefined;
}

export const server = createServer((request, response) => {
  const reply = (status: number, body: unknown) => {
    if (!server.listening) response.setHeader('connection', 'close'); // the server is about to end
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };
  bodyOf(request)
    .then(async (body) => {
      if (body === undefined) {
        reply(413, { error: `Expected at most ${MOST_BYTES} bytes.` });
        return;
      }
      const { text, adapter = 'default' } = Object(JSON.parse(body)) as { text: unknown; adapter?: string };
      if (typeof text !== 'string') {
        reply(400, { error: 'Expected a "text" that is one string.' }); // a list in 64 KB may hold thousands of texts
        return;
      }
      reply(200, await classify(text, { adapter, topK: 2 })); // requests that wait share the next batch
    })
    .catch((error: unknown) => {
      if (request.errored) return; // the client hung up
      const isTheirs = error instanceof PeftError || error instanceof SyntaxError; // the message says what is wrong
      if (!isTheirs) console.error(error);
      reply(isTheirs ? 400 : 500, { error: isTheirs ? error.message : 'The server failed.' });
    });
});
server.listen(Number(process.env.PORT ?? 8123), () => console.log('serving', server.address()));
process.once('SIGTERM', () => {
  server.close(() => process.exit()); // answers open requests, and takes no more
  setTimeout(() => server.closeAllConnections(), 10_000).unref(); // some may stay open
});
