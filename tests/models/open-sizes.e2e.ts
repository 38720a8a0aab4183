/**
 * The graph of a model for every batch and length gives the same as graphs of one size: steps, outputs and texts of
 * every network.
 */
import {
  addAdapter,
  attach,
  hostTensor,
  onWarning,
  predict,
  train,
  type Batch,
  type Executor,
  type Model,
  type TrainingData,
} from '@peftjs/core';
import { ShapeError, createRng, hostIntegers } from '@peftjs/core/method';
import type { DataKind } from '@peftjs/core/model';
import type { Axis } from '@peftjs/core/runtime';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, generate } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { bertFolder } from './bert-tiny.js';
import { heads, headsOf, load, networks, tiny, type HeadName, type Network } from './tiny.js';
import { modelFolder } from './use-lite.js';

const engine: Executor = compiled({ threads: 1 });

/** The executor without named axes: each compiled function serves one size. */
function fixing(executor: Executor): Executor {
  return {
    ...executor,
    compile: (fn, specs) =>
      Promise.resolve({
        compileMs: 0,
        async run(values) {
          const sized = Object.entries(specs).map(([key, spec]) => {
            const { dims } = values[key] as { readonly dims: readonly number[] };
            return [key, { ...spec, shape: dims }] as const;
          });
          const made = await executor.compile(fn, Object.fromEntries(sized));
          const results = await made.run(values);
          await made.dispose();
          return results;
        },
        dispose: () => Promise.resolve(),
      }),
  };
}

/**
 * The results of `body` on the open graph and on graphs of one size. @throws when a function had to be compiled for
 * each size.
 */
async function both<T>(body: (executor: Executor) => Promise<T>): Promise<{ open: T; fixed: T }> {
  const warnings: string[] = [];
  const ids: (readonly Axis[])[] = [];
  const recording: Executor = {
    ...engine,
    compile(fn, specs) {
      ids.push(
        ...Object.entries(specs).flatMap(([key, { shape }]) => (key.endsWith('inputs/inputIds') ? [shape] : [])),
      );
      return engine.compile(fn, specs);
    },
  };
  const restore = onWarning((message) => warnings.push(message));
  try {
    const open = await body(recording);
    expect(ids).toContainEqual(['batch', 'tokens']);
    expect(ids.filter(([batch]) => batch !== 'batch')).toEqual([]);
    expect(warnings.filter((message) => message.includes('for each size'))).toEqual([]);
    return { open, fixed: await body(fixing(engine)) };
  } finally {
    restore();
  }
}

/** Random rows of ids, with padding in the later ones, and labels for a head. */
function drawn(kind: DataKind, rows: number, tokens: number): Batch {
  const rng = createRng(rows * 100 + tokens);
  const shape = [rows, tokens];
  const isToken = (at: number): boolean => at % tokens < Math.max(1, tokens - Math.floor(at / tokens));
  const integers = (below: number, of = rows * tokens): Int32Array =>
    Int32Array.from({ length: of }, () => rng.integer(below));
  const labels =
    kind === 'regression'
      ? hostTensor(
          Float32Array.from({ length: rows }, () => rng.uniform()),
          [rows],
        )
      : kind === 'classification'
        ? hostIntegers(integers(2, rows), [rows])
        : hostIntegers(integers(3), shape);
  return {
    inputs: {
      inputIds: hostIntegers(integers(40), shape),
      attentionMask: hostTensor(
        Float32Array.from({ length: rows * tokens }, (_, at) => Number(isToken(at))),
        shape,
      ),
    },
    labels,
    rowWeights: hostTensor(new Float32Array(rows).fill(1), [rows]),
    rows: Array.from({ length: rows }, (_, row) => row),
  };
}

const SHAPES = [
  [3, 7],
  [1, 9],
  [4, 2],
] as const;

function dataOf(kind: DataKind): TrainingData {
  const batches = SHAPES.map(([rows, tokens]) => drawn(kind, rows, tokens));
  return { kind, batchesPerEpoch: batches.length, epoch: () => batches };
}

async function losses(model: Model, kind: DataKind, executor: Executor, parts = 1): Promise<number[]> {
  const found: number[] = [];
  const peft = attach(model, lora({ r: 2, loraDropout: 0.1 }), { seed: 1 });
  await train(peft, dataOf(kind), {
    executor,
    epochs: 1,
    learningRate: 1e-3,
    gradientAccumulationSteps: parts,
    onStep: ({ loss }) => found.push(loss),
  });
  return found;
}

function expectClose(open: readonly number[], fixed: readonly number[]): void {
  expect(open.length).toBe(fixed.length);
  open.forEach((value, at) => {
    expect(Math.abs(value - (fixed[at] as number))).toBeLessThan(1e-6 * Math.max(1, Math.abs(value)));
  });
}

/** Every head of an encoder and of a decoder; for other networks the one that needs the whole last layer. */
function headsRead(network: Network, own: readonly HeadName[]): readonly HeadName[] {
  const distinct = own.filter((head) => head !== 'number'); // its graph is that of 'classes'
  return network === 'roberta' || network === 'llama' ? distinct : distinct.slice(-1);
}

interface Case {
  readonly name: string;
  readonly kind: DataKind;
  load(): Promise<Model>;
}

const cases: readonly Case[] = [
  { name: 'bert', kind: 'classification', load: () => fromPretrained(bertFolder) },
  { name: 'bert in 8 bits', kind: 'classification', load: () => fromPretrained(bertFolder, { dtype: 'q8' }) },
  { name: 'use-lite', kind: 'classification', load: () => fromPretrained(modelFolder) },
  ...networks.flatMap((network) => {
    const from = tiny(network);
    return headsRead(network, headsOf(from)).map((head) => ({
      name: `${network} for ${head}`,
      kind: heads[head].kind,
      load: () => load(from, head),
    }));
  }),
];

describe.each(cases)('$name', ({ kind, load }) => {
  it('trains and predicts on one graph', async () => {
    const model = await load();
    const steps = await both((executor) => losses(model, kind, executor));
    expectClose(steps.open, steps.fixed);
    const { batches } = { batches: dataOf(kind).epoch(0) };
    const outputs = await both(async (executor) =>
      (await predict(model, [...batches], { executor })).flatMap((row) => [...row]),
    );
    expectClose(outputs.open, outputs.fixed);
  });
});

describe('rows with more tokens than the model reads', () => {
  it.each(['bert', 'llama'] as const)(
    'are rejected with a one-line message, also after rows that %s reads, and before any step',
    async (network) => {
      const model = network === 'bert' ? await fromPretrained(bertFolder) : await load(tiny(network), 'classes');
      const most = model.maxTokens;
      const [short, long] = [drawn('classification', 2, 4), drawn('classification', 2, most + 1)];
      const message = `${model.name} reads at most ${most} tokens, got ${most + 1}: cut the sequences`;
      expect(await predict(model, [short], { executor: engine })).toHaveLength(2);
      const predicting = predict(model, [long], { executor: engine });
      await expect(predicting).rejects.toThrow(message);
      await expect(predicting).rejects.toThrow(ShapeError);
      const steps: number[] = [];
      const peft = attach(model, lora({ r: 2 }), { seed: 1 });
      const data: TrainingData = { kind: 'classification', batchesPerEpoch: 2, epoch: () => [short, long] };
      const options = { executor: engine, epochs: 1, learningRate: 1e-3 };
      await expect(train(peft, data, { ...options, onStep: ({ step }) => steps.push(step) })).rejects.toThrow(message);
      expect(steps).toEqual([]);
    },
  );

  it('are rejected as prompts, also after a valid one', async () => {
    const model = await load(tiny('gpt2'), 'next');
    const most = model.maxTokens;
    const options = { executor: engine, maxNewTokens: 3, eosTokenId: [] };
    expect((await generate(model, [[5, 6]], options))[0]?.ids).toHaveLength(3);
    const prompt = Array.from({ length: most + 1 }, () => 5);
    await expect(generate(model, [prompt], options)).rejects.toThrow(`expected at most ${most}`);
    expect((await generate(model, [prompt.slice(1)], options))[0]?.ids).toHaveLength(1); // the last token is not read again
  });
});

describe('on one graph', () => {
  it('gradients are accumulated', async () => {
    const model = await fromPretrained(bertFolder);
    const { open, fixed } = await both((executor) => losses(model, 'classification', executor, 2));
    expectClose(open, fixed);
  });

  it('every row uses its own adapter', async () => {
    const model = await load(tiny('llama'), 'classes');
    const one = attach(model, lora({ r: 2, initLoraWeights: false }), { seed: 1 });
    addAdapter(one, lora({ r: 3, initLoraWeights: false }), { adapterName: 'other', seed: 2 });
    const batches = dataOf('classification').epoch(0);
    const rows = batches.reduce((sum, batch) => sum + batch.rows.length, 0);
    const adapterNames = Array.from({ length: rows }, (_, row) => ['default', 'other', '__base__'][row % 3] as string);
    const { open, fixed } = await both(async (executor) =>
      (await predict(one, [...batches], { executor, adapterNames })).flatMap((row) => [...row]),
    );
    expectClose(open, fixed);
  });

  it.each(['gpt2', 'llama', 'qwen2'] as const)('%s writes texts', async (network) => {
    const model = await load(tiny(network), 'next');
    const prompts = [[5, 6, 7], [8], [9, 10, 11, 12, 13]];
    const { open, fixed } = await both((executor) =>
      generate(model, prompts, { executor, maxNewTokens: 12, eosTokenId: [] }),
    );
    expect(open).toEqual(fixed);
  });
});
