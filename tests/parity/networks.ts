import { hostTensor, type Batch, type Model } from '@peftjs/core';
import { hostIntegers, type HostTensor } from '@peftjs/core/method';
import type { DataKind } from '@peftjs/core/model';
import { fromPretrained } from '@peftjs/models';
import { bertFolder, encodingOf, inputsOf } from '../models/bert-tiny.js';
import { batchOf, heads, load, tiny, type HeadName, type Network } from '../models/tiny.js';

/** A small random network with one of its heads, and a batch for it. */
export interface ParityNetwork {
  readonly name: string;
  /** The first of a family represents it if an executor is slow. */
  readonly family: 'encoder' | 'relative' | 'decoder' | 'rotary' | 'pairs';
  load(): Promise<{ readonly model: Model; readonly batch: Batch; readonly kind: DataKind }>;
}

/** All architectures; every kind is in at least one family. */
export const parityNetworks: readonly ParityNetwork[] = [
  { name: 'bert for classification', family: 'encoder', load: bert },
  network('distilbert', 'classes', 'encoder'),
  network('roberta', 'tokens', 'encoder'),
  network('electra', 'number', 'encoder'),
  network('deberta-v2', 'classes', 'relative'),
  network('deberta-v3', 'tokens', 'relative'),
  network('mpnet', 'tokens', 'relative'),
  network('gpt2', 'next', 'decoder'),
  network('llama', 'next', 'rotary'),
  network('qwen2', 'classes', 'rotary'),
  network('modernbert', 'classes', 'rotary'),
  pairs('distilbert'),
];

/** Architectures that differ from these in a few operations: they are only compared in the end-to-end tests. */
export const moreNetworks: readonly ParityNetwork[] = [
  network('qwen3', 'next', 'rotary'),
  network('mistral', 'next', 'rotary'),
  network('smollm3', 'classes', 'rotary'),
  network('phi3', 'next', 'rotary'),
  network('gemma', 'classes', 'rotary'),
  network('gemma2', 'next', 'rotary'),
  network('gemma3', 'next', 'rotary'),
  network('olmo2', 'classes', 'rotary'),
  network('granite', 'next', 'rotary'),
];

function network(name: Network, head: HeadName, family: ParityNetwork['family']): ParityNetwork {
  return {
    name: `${name} for ${heads[head].kind}`,
    family,
    async load() {
      const from = tiny(name);
      return { model: await load(from, head), batch: batchOf(from, 1, { head }), kind: heads[head].kind };
    },
  };
}

/** A network that embeds rows of two texts. */
function pairs(name: Network): ParityNetwork {
  return {
    name: `${name} for pairs`,
    family: 'pairs',
    async load() {
      const from = tiny(name);
      const model = await load(from, 'tokens', { task: 'feature-extraction', normalize: true });
      return { model, batch: textsOf(batchOf(from, 1), 2), kind: 'pairs' };
    },
  };
}

/** Rows of several texts, made of the texts of a batch: each column starts one text later. */
export function textsOf({ inputs, rowWeights, rows }: Batch, columns: number): Batch {
  const turned = (column: number, { data, shape: [texts = 0, tokens = 0] }: HostTensor): number[] =>
    Array.from({ length: texts * tokens }, (_, at) => data[(at + column * tokens) % (texts * tokens)] as number);
  const repeated = (tensor: HostTensor): HostTensor => {
    const values = Array.from({ length: columns }, (_, column) => turned(column, tensor)).flat();
    const shape = [columns * (tensor.shape[0] as number), tensor.shape[1] as number];
    return tensor.dtype === 'int32'
      ? hostIntegers(Int32Array.from(values), shape)
      : hostTensor(Float32Array.from(values), shape);
  };
  return {
    columns,
    inputs: Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, repeated(tensor)])),
    labels: hostTensor(
      Float32Array.from(rows, (row) => (row % 5) / 4),
      [rows.length],
    ),
    rowWeights,
    rows,
  };
}

async function bert(): ReturnType<ParityNetwork['load']> {
  const model = await fromPretrained(bertFolder);
  const rows = [0, 1, 2, 3];
  const inputs = inputsOf(rows.map((row) => encodingOf(model, row)));
  const batch = {
    inputs,
    labels: hostIntegers(
      Int32Array.from(rows, (row) => row % 2),
      [rows.length],
    ),
    rowWeights: { dtype: 'float32', shape: [rows.length], data: new Float32Array(rows.length).fill(1) },
    rows,
  } as const;
  return { model, batch, kind: 'classification' };
}
