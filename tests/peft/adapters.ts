import { rm, writeFile } from 'node:fs/promises';
import { adalora } from '@peftjs/adalora';
import { alora } from '@peftjs/alora';
import {
  activeAdapter,
  attach,
  hostTensor,
  savePretrained,
  withAdapter,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { createRng, floats, type ConfiguredMethod, type HostTensor, type HostTensors } from '@peftjs/core/method';
import { bayesLora } from '@peftjs/bayes-lora';
import { dynamicDora } from '@peftjs/dynamic-dora';
import { elaLora } from '@peftjs/ela-lora';
import { gora } from '@peftjs/gora';
import { l1ra } from '@peftjs/l1ra';
import { lnTuning } from '@peftjs/ln-tuning';
import { loha } from '@peftjs/loha';
import { lokr } from '@peftjs/lokr';
import { lora } from '@peftjs/lora';
import { oft } from '@peftjs/oft';
import { sora } from '@peftjs/sora';
import { vera } from '@peftjs/vera';
import { logitsOf, model } from './bert.js';

const LAYER = 'bert.encoder.layer';

type Named<T> = readonly [name: string, value: T];

/** One configuration for every way in which an adapter can be written. */
const configurations: Readonly<Record<string, ConfiguredMethod>> = {
  lora: lora({ r: 4 }),
  'lora-labels': lora({ r: 1, targetModules: ['query'] }),
  'lora-patterns': lora({
    r: 4,
    loraAlpha: 6,
    targetModules: ['query', 'value', 'output.dense'],
    rankPattern: { [`${LAYER}.0.attention.self.query`]: 2, 'layer\\.[12]\\.output\\.dense': 1, value: 3 },
    alphaPattern: { [`${LAYER}.0.attention.self.query`]: 5, 'layer\\.[01]\\..*\\.value': 7 },
  }),
  rslora: lora({
    r: 3,
    loraAlpha: 2,
    useRslora: true,
    targetModules: ['key', 'pooler.dense'],
    rankPattern: { key: 1 },
  }),
  'lora-embeddings': lora({
    r: 2,
    loraAlpha: 3,
    targetModules: ['word_embeddings', 'token_type_embeddings', 'value'],
    rankPattern: { word_embeddings: 1 },
  }),
  'lora-bias-all': lora({ r: 2, bias: 'all', targetModules: ['query'], modulesToSave: ['pooler.dense'] }),
  'lora-bias-adapted': lora({ r: 2, bias: 'lora_only', targetModules: ['value', 'output.dense'] }),
  'lora-bias-up': lora({ r: 2, bias: 'lora_only', loraBias: true, targetModules: ['value'] }),
  'lora-modules-to-save': lora({
    r: 2,
    targetModules: ['query'],
    modulesToSave: ['pooler.dense', 'layer.2.intermediate.dense'],
  }),
  dora: lora({
    r: 3,
    loraAlpha: 2,
    useDora: true,
    targetModules: ['value', 'intermediate.dense', 'pooler.dense'],
    rankPattern: { value: 1 },
    alphaPattern: { 'layer\\.1\\.intermediate\\.dense': 4 },
  }),
  'dora-embeddings': lora({
    r: 2,
    targetModules: ['word_embeddings', 'token_type_embeddings', 'query'],
    useDora: true,
  }),
  adalora: adalora({ initR: 4, targetR: 2, loraAlpha: 6, targetModules: ['query', 'value', 'output.dense'] }),
  'adalora-for-training': adalora({ initR: 4, targetR: 2, targetModules: ['key', 'output.dense'] }),
  sora: sora({ r: 4, targetModules: ['query', 'value', 'output.dense'] }),
  'sora-dead': sora({ r: 2, targetModules: ['query', 'key'] }),
  'dynamic-dora': dynamicDora({ r: 4, targetModules: ['query', 'value', 'output.dense'] }),
  'ela-lora': elaLora({ r: 4, targetModules: ['query', 'value', 'output.dense'] }),
  l1ra: l1ra({ r: 4, targetModules: ['query', 'value', 'output.dense'] }),
  alora: alora({ r: 4, rounds: 0, targetModules: ['query', 'value', 'output.dense'] }),
  'bayes-lora': bayesLora({ r: 4, targetModules: ['query', 'value', 'output.dense'] }),
  gora: gora({ initLoraWeights: 'stored', r: 2, targetModules: ['query', 'output.dense'], rankPattern: { query: 5 } }),
  vera: vera({ r: 8, targetModules: ['query', 'output.dense'] }),
  'vera-seed': vera({ r: 8, projectionPrngKey: 5, saveProjection: false, targetModules: ['query', 'output.dense'] }),
  'ln-tuning': lnTuning({ modulesToSave: ['pooler.dense'] }),
  loha: loha({
    r: 2,
    alpha: 3,
    targetModules: ['query', 'intermediate.dense'],
    rankPattern: { 'intermediate.dense': 1 },
    alphaPattern: { [`${LAYER}.1.attention.self.query`]: -2 },
  }),
  lokr: lokr({ r: 1, targetModules: ['query', 'intermediate.dense'], rankPattern: { query: 4 } }),
  'lokr-both': lokr({ r: 1, decomposeBoth: true, decomposeFactor: 4, targetModules: ['value', 'output.dense'] }),
  oft: oft({ oftBlockSize: 4, targetModules: ['query', 'output.dense', 'word_embeddings'] }),
  'oft-transform': oft({ r: 2, blockShare: true, useCayleyNeumann: false, bias: 'all', targetModules: ['value'] }),
  'oft-near': oft({
    oftBlockSize: 4,
    coft: true,
    eps: 1,
    numCayleyNeumannTerms: 3,
    bias: 'oft_only',
    targetModules: ['key'],
  }),
};

/** Every configuration on a model, untrained. */
export function newAdapters(base: Model = model): Named<PeftModel>[] {
  return Object.entries(configurations).map(([name, configured]) => [
    name,
    attach(name === 'lora-labels' ? { ...base, labels: ['angry', 'calm', 'glad'] } : base, configured),
  ]);
}

/**
 * The adapters with values that are random rather than trained, so that they are the same on every machine. Where ranks
 * are pruned, modules keep between none and all of their ranks; 'sora-dead' has none left.
 */
export function drawnAdapters(base: Model = model): Named<PeftModel>[] {
  return newAdapters(base).map(([name, peft]) => {
    const alive = (index: number, r: number): number => (name === 'sora-dead' ? 0 : index % (r + 1));
    return [name, withAdapter(peft, { values: withDeadRanks(peft, drawnValues(peft), alive) })];
  });
}

/** Values away from their initial ones, the same on every machine. */
export function drawnValues(peft: PeftModel): HostTensors {
  const adapter = activeAdapter(peft);
  const values = { ...adapter.values };
  for (const { site, params } of Object.values({ ...adapter.layers, ...adapter.saved })) {
    for (const [name, { initial }] of Object.entries(params)) {
      values[`${site.path}.${name}`] = moved(initial, `${site.path}.${name}`);
    }
  }
  return values;
}

/** A tensor away from its initial values, rounded: the last digit of logarithms differs between machines. */
function moved({ data, shape }: HostTensor, name: string): HostTensor {
  const rng = createRng(1).fork(name);
  const values = Array.from(data, (value) => Math.round(4096 * (value + 0.2 * rng.normal())) / 4096);
  return hostTensor(Float32Array.from(values), shape);
}

/** The values with only the last `alive` of the r ranks of every module active, by the tensors [r] that decide it. */
function withDeadRanks(peft: PeftModel, values: HostTensors, alive: (index: number, r: number) => number): HostTensors {
  const adapter = activeAdapter(peft);
  const changed = { ...values };
  Object.keys(adapter.layers).forEach((path, index) => {
    for (const key of ['loraE', 'gate', 'mask'].map((name) => `${path}.${name}`)) {
      const tensor = values[key];
      if (tensor) changed[key] = lastAlive(tensor, alive(index, tensor.data.length));
    }
  });
  return changed;
}

function lastAlive(tensor: HostTensor, count: number): HostTensor {
  const dead = tensor.data.length - count;
  return hostTensor(
    floats(tensor).map((value, rank) => (rank < dead ? 0 : value)),
    tensor.shape,
  );
}

/** How an adapter is saved: as small as possible, or with all that further training needs. */
export function savedAs(name: string): { readonly pruned: boolean } {
  return { pruned: !name.endsWith('-for-training') };
}

/** Writes adapters into folders of their names, with their logits, for tools/golden/open_in_peft.py. */
export async function writeAdapters(folder: string, adapters: readonly Named<PeftModel>[]): Promise<void> {
  const logits: Record<string, number[]> = {};
  for (const [name, peft] of adapters) {
    await savePretrained(peft, `${folder}/${name}`, savedAs(name));
    await rm(`${folder}/${name}/README.md`);
    logits[name] = await logitsOf(peft);
  }
  await writeFile(`${folder}/logits.json`, `${JSON.stringify(logits)}\n`);
}
