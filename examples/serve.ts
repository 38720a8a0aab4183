// Serves a classifier over HTTP, with two adapters on one model: POST / { "text": "It broke.", "adapter": "lora" }
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import { compiled, PeftError, pipeline } from 'peftjs';

export const classify = await pipeline('text-classification', 'adapters/sora', {
  adapters: { lora: 'adapters/lora' }, // the first adapter is called 'default'
  executor: compiled({ worker: true }), // computes in a worker thread, so that this one can answer requests
});

export const server = createServer((request, response) => {
  const reply = (status: number, body: unknown) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };
  json(request)
    .then(async (body) => {
      const { text, adapter = 'default' } = Object(body) as { text: string; adapter?: string };
      reply(200, await classify(text, { adapter, topK: 2 })); // requests that wait share the next batch
    })
    .catch((error: unknown) => {
      const isTheirs = error instanceof PeftError || error instanceof SyntaxError; // the message says what is wrong
      reply(isTheirs ? 400 : 500, { error: isTheirs ? error.message : 'The server failed.' });
    });
});
server.listen(Number(process.env.PORT ?? 8123), () => console.log('serving', server.address()));
