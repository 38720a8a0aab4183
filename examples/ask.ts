// Starts the server of serve.ts, sends it single texts for alternating adapters, and prints the response times.
import type { AddressInfo } from 'node:net';
import { classify, server } from './serve.js';

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

for (const adapter of ['default', 'lora', 'lola']) console.log(adapter, JSON.stringify(await ask({ texts, adapter })));

const milliseconds: number[] = [];
for (let count = 0; count < 200; count++) {
  const start = performance.now();
  await ask({ texts: [texts[count % texts.length]], adapter: count % 2 === 0 ? 'default' : 'lora' });
  milliseconds.push(performance.now() - start);
}
milliseconds.sort((a, b) => a - b);
console.log(`p50 ${milliseconds[100]?.toFixed(1)} ms, p99 ${milliseconds[198]?.toFixed(1)} ms`);

server.close();
await classify.dispose();
