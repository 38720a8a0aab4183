/**
 * An adapter for embeddings, written here and opened by PEFT as FEATURE_EXTRACTION. To write it again:
 *
 *   UPDATE_EMBEDDER=1 npx vitest run tests/peft/embedder.test.ts && venv/bin/python tools/golden/embedder.py
 */
import { readFile } from 'node:fs/promises';
import { attach, diskStorage, loadPretrained, memoryStorage, predict, savePretrained, withAdapter } from '@peftjs/core';
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS } from '@peftjs/core/model';
import { relativeDistance } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { expect, it } from 'vitest';
import { bertFolder } from '../models/bert-tiny.js';
import { drawnValues } from './adapters.js';
import { executor, fixtures, model as classifier, readJson, trainingData } from './bert.js';

const folder = `${fixtures}/embedder`;
const model = { ...(await fromPretrained(bertFolder, { task: 'feature-extraction' })), name: classifier.name };
const attached = attach(model, lora({ r: 2, targetModules: ['query', 'value', 'output.dense'] }));
const peft = withAdapter(attached, { values: drawnValues(attached) });
if (process.env.UPDATE_EMBEDDER) await savePretrained(peft, folder, { storage: diskStorage() });

it('equals the adapter that PEFT opened', async () => {
  const storage = memoryStorage();
  await savePretrained(peft, 'embedder', { storage });
  for (const file of [ADAPTER_CONFIG, ADAPTER_WEIGHTS]) {
    const written = Buffer.from(await storage.read(`embedder/${file}`));
    expect(written.equals(await readFile(`${folder}/${file}`)), file).toBe(true);
  }
});

it('has the same embeddings as in PEFT', async () => {
  const { model: type, embeddings } = readJson('embedder/opened.json') as { model: string; embeddings: number[][] };
  expect(type).toBe('PeftModelForFeatureExtraction');
  const loaded = await loadPretrained(model, folder, { methods: [lora] });
  const rows = await predict(loaded, trainingData.epoch(0).slice(0, 1), { executor });
  expect(
    relativeDistance(
      rows.flatMap((row) => [...row]),
      embeddings.flat(),
    ),
  ).toBeLessThan(1e-5);
});
