import {
  activeAdapter,
  attach,
  loadPretrained,
  memoryStorage,
  mergeAndUnload,
  onWarning,
  savePretrained,
  withAdapter,
  type Storage,
} from '@peftjs/core';
import { referenceExecutor, relativeDistance } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveMerged } from '@peftjs/models';
import { readSafetensors, writeSafetensors } from '@peftjs/safetensors';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { drawnValues } from '../peft/adapters.js';
import { bertFiles, bertInMemory } from './bert-tiny.js';
import { batchOf, outputsOf, tiny } from './tiny.js';

const executor = await referenceExecutor();
const batch = batchOf(tiny('roberta'), 1);
const weightsFile = bertFiles['model.safetensors'] ?? expect.fail('no weights');

/** The tiny BERT as saved from a masked language model: without pooler and head. */
const ofMaskedLm = (): Storage => {
  const kept = [...readSafetensors(weightsFile)].filter(([name]) => !/pooler|classifier/.test(name));
  return bertInMemory({ 'model.safetensors': writeSafetensors(new Map(kept)) });
};

let warnings: string[];
let restore: () => void;
beforeEach(() => {
  warnings = [];
  restore = onWarning((message) => warnings.push(message));
});
afterEach(() => {
  restore();
});

it('is a new one if the checkpoint has none, and is trained and saved with the head', async () => {
  const storage = ofMaskedLm();
  const model = await fromPretrained('bert', { storage, numLabels: 3 });
  expect(warnings).toEqual([expect.stringContaining("bert/model.safetensors has no 'bert.pooler.dense'")]);
  expect(model.head).toEqual(['bert.pooler', 'classifier']);
  const peft = attach(model, lora({ r: 2, targetModules: 'all-linear' }), { seed: 1 });
  const moved = withAdapter(peft, { values: drawnValues(peft) });
  await savePretrained(moved, 'adapter', { storage });
  const config: unknown = JSON.parse(new TextDecoder().decode(await storage.read('adapter/adapter_config.json')));
  expect(config).toMatchObject({ modules_to_save: ['bert.pooler', 'classifier'] });
  const logits = await outputsOf(mergeAndUnload(moved), batch, executor);

  const again = await fromPretrained('bert', { storage, numLabels: 3 });
  expect(again.fingerprint).toBe(model.fingerprint);
  const loaded = await loadPretrained(again, 'adapter', { methods: [lora], storage });
  expect(await outputsOf(mergeAndUnload(loaded), batch, executor)).toEqual(logits);

  await saveMerged(mergeAndUnload(moved), 'merged', { storage, sourceStorage: storage });
  warnings.length = 0;
  const merged = await fromPretrained('merged', { storage, numLabels: 3 });
  expect(relativeDistance(await outputsOf(merged, batch, executor), logits)).toBeLessThan(1e-6);
  expect(warnings).toEqual([]);
});

it('may be missing if nothing reads it', async () => {
  await fromPretrained('bert', { storage: ofMaskedLm(), task: 'feature-extraction' });
  await fromPretrained('bert', { storage: ofMaskedLm(), task: 'token-classification', numLabels: 2 });
  expect(warnings).toEqual([]);
});

it('is saved with a merged embedder', async () => {
  const [model, without] = await Promise.all(
    [bertInMemory(), ofMaskedLm()].map((storage) => fromPretrained('bert', { storage, task: 'feature-extraction' })),
  );
  expect(model?.fingerprint).toBe(without?.fingerprint);
  const storage = memoryStorage();
  const peft = attach(model ?? expect.fail('no model'), lora({ r: 2 }), { seed: 1 });
  await saveMerged(mergeAndUnload(peft), 'merged', { storage, sourceStorage: bertInMemory() });
  const name = 'pooler.dense.weight';
  const written = readSafetensors(await storage.read('merged/model.safetensors'));
  expect(written.get(name)?.data).toEqual(readSafetensors(weightsFile).get(`bert.${name}`)?.data);
});

it('is left out of an adapter for embeddings, which do not depend on it', async () => {
  const storage = bertInMemory();
  const model = await fromPretrained('bert', { storage, task: 'feature-extraction' });
  const peft = attach(model, lora({ r: 2, targetModules: ['query'] }), { seed: 1 });
  await savePretrained(peft, 'adapter', { storage });
  const file = 'adapter/adapter_model.safetensors';
  const written = readSafetensors(await storage.read(file));
  const extra = ['lora_A', 'lora_B'].map((name) => {
    const own = written.get(`base_model.model.encoder.layer.0.attention.self.query.${name}.weight`);
    return [`base_model.model.pooler.dense.${name}.weight`, own ?? expect.fail(name)] as const;
  });
  await storage.write(file, writeSafetensors(new Map([...written, ...extra])));
  const loaded = await loadPretrained(model, 'adapter', { methods: [lora], storage });
  expect(warnings).toEqual([expect.stringContaining("also adapts 'pooler.dense', which no output of")]);
  expect(activeAdapter(loaded).values).toEqual(activeAdapter(peft).values);
});
