// Answers POST requests with the label of their text: curl -d "The screen is black." localhost:8123
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { PeftError, pipeline } from 'peftjs';

const classify = await pipeline('text-classification', 'my-adapter');

const server = createServer((request, response) => {
  const reply = (status, body) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };
  text(request)
    .then(async (asked) => reply(200, await classify(asked))) // requests that wait share the next batch
    .catch((error) => {
      const isTheirs = error instanceof PeftError; // the message says what is wrong
      if (!isTheirs) console.error(error);
      reply(isTheirs ? 400 : 500, { error: isTheirs ? error.message : 'The server failed.' });
    });
});
server.listen(Number(process.env.PORT ?? 8123), () => console.log(`http://localhost:${server.address().port}`));
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit()); // a container has no default for them
