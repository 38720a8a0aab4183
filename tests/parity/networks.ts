import type { Batch, Model } from '@peftjs/core';
import { hostIntegers, type DataKind } from '@peftjs/core/method';
import { fromPretrained } from '@peftjs/models';
import { bertFolder, encodingOf, inputsOf } from '../models/bert-tiny.js';
import { batchOf, heads, load, tiny, type HeadName, type Network } from '../models/tiny.js';

/** A small random network under one of its heads, and a batch for it. */
export interface ParityNetwork {
  readonly name: string;
  load(): Promise<{ readonly model: Model; readonly batch: Batch; readonly kind: DataKind }>;
}

/** Every architecture, and every kind at least once. One line is all that a new one takes. */
export const parityNetworks: readonly ParityNetwork[] = [
  { name: 'bert for classification', load: bert },
  network('distilbert', 'classes'),
  network('roberta', 'tokens'),
  network('electra', 'number'),
  network('deberta-v2', 'classes'),
  network('deberta-v3', 'tokens'),
  network('gpt2', 'next'),
  network('llama', 'next'),
  network('qwen2', 'classes'),
];

function network(name: Network, head: HeadName): ParityNetwork {
  return {
    name: `${name} for ${heads[head].kind}`,
    async load() {
      const from = tiny(name);
      return { model: await load(from, head), batch: batchOf(from, 1, { head }), kind: heads[head].kind };
    },
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
