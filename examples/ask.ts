// Starts the server of serve.ts, sends it texts for alternating adapters, first one by one and then all at once.
import type { AddressInfo } from 'node:net';
import { classify, server } from './serve.js';

const REQUESTS = Number(process.env.REQUESTS ?? 256);
const texts = [
  'The battery died after a week.',
  'Best tacos in town!',
  'I laughed all the way through.',
  'Never again.',
];

const { port } = server.address() as AddressInfo;
async function ask(body: unknown): Promise<unknown> {
  const response = await fetch(`http://localhost:${port}`, { method: 'POST', body: JSON.stringify(body) });
  return response.json();
}

for (const adapter of ['default', 'lora', 'lola']) {
  console.log(adapter, JSON.stringify(await ask({ text: texts[0], adapter })));
}

const bodies = Array.from({ length: REQUESTS }, (_, count) => ({
  text: texts[count % texts.length],
  adapter: count % 2 === 0 ? 'default' : 'lora',
}));
const milliseconds: number[] = [];
for (const body of bodies) {
  const start = performance.now();
  await ask(body);
  milliseconds.push(performance.now() - start);
}
milliseconds.sort((a, b) => a - b);
const quantile = (share: number) => milliseconds[Math.floor(share * REQUESTS)]?.toFixed(1);
console.log(`one by one: p50 ${quantile(0.5)} ms, p99 ${quantile(0.99)} ms`);

const start = performance.now();
await Promise.all(bodies.map(ask));
console.log(`at once: ${((1000 * REQUESTS) / (performance.now() - start)).toFixed(0)} requests a second`);

server.close();
await classify.dispose();
