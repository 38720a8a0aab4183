import * as tf from '@tensorflow/tfjs-core';
import { attach, predict, train, type Executor } from '@peftjs/core';
import { hostIntegers, type HostTensor, type HostTensors, type Site } from '@peftjs/core/method';
import { selectSites, type Scope } from '@peftjs/core/model';
import { farthestTensor, referenceExecutor, relativeDistance } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { createDataSet, encodeRows, evaluationData, trainingData, type DataSet, type LabelKind } from '@peftjs/tasks';
import { describe, expect, it } from 'vitest';
import {
  bertFiles,
  bertFolder,
  bertInMemory,
  encodingOf,
  expected,
  inputsOf,
  outputsOf,
  plainScope,
} from './bert-tiny.js';

const TOLERANCE = 1e-5;
const model = await fromPretrained(bertFolder);
const executors: Record<string, Executor> = {
  'the reference': await referenceExecutor(),
  'the compiled engine': compiled({ threads: 1 }),
};
const layers = [0, 1, 2];
const encodings = (rows: readonly number[]) => rows.map((row) => encodingOf(model, row));

/** The texts of the golden file as a data set. */
function dataSet(): Promise<DataSet<LabelKind>> {
  const rows = expected.texts.map(({ texts: [text, pair] }, row) => ({ text, label: row % 3, ...(pair && { pair }) }));
  return createDataSet({ name: 'texts', kind: 'classification', classes: ['0', '1', '2'], rows });
}

describe.each(Object.entries(executors))('BERT on %s', (_, executor) => {
  it.each(expected.batches.map((batch) => [batch.rows.join(', '), batch] as const))(
    'gives the outputs of transformers for the texts %s',
    async (_, { rows, logits, pooled, mean }) => {
      const actual = await outputsOf(executor, model, inputsOf(encodings(rows)));
      expect(relativeDistance(actual.logits, logits.flat())).toBeLessThan(TOLERANCE);
      expect(relativeDistance(actual.pooled, pooled.flat())).toBeLessThan(TOLERANCE);
      expect(relativeDistance(actual.mean, mean.flat())).toBeLessThan(TOLERANCE);
    },
  );

  it('reads heads and epsilon from config.json', async () => {
    const { settings, rows, logits, mean } = expected.otherSettings;
    const config = JSON.parse(new TextDecoder().decode(bertFiles['config.json'])) as object;
    const other = await fromPretrained('bert', {
      storage: bertInMemory({ 'config.json': new TextEncoder().encode(JSON.stringify({ ...config, ...settings })) }),
    });
    const actual = await outputsOf(executor, other, inputsOf(encodings(rows)));
    expect(relativeDistance(actual.logits, logits.flat())).toBeLessThan(TOLERANCE);
    expect(relativeDistance(actual.mean, mean.flat())).toBeLessThan(TOLERANCE);
  });

  it('gives them through data sets, with the word embeddings looked up on the host', async () => {
    const rows = encodeRows(await dataSet(), model.tokenizer, { maxTokens: model.maxTokens });
    const { batches } = evaluationData(rows, { batchSize: 3 });
    const logits = await predict(model, batches, { executor });
    for (const { rows, logits: golden } of expected.batches) {
      rows.forEach((row, place) => {
        expect(relativeDistance(logits[row] ?? [], golden[place] ?? [])).toBeLessThan(TOLERANCE);
      });
    }
  });

  it('does not depend on the amount or content of padding', async () => {
    const plain = await outputsOf(executor, model, inputsOf(encodings([0, 6, 1])));
    const padded = await outputsOf(executor, model, inputsOf(encodings([0, 6, 1]), 31, 77));
    for (const name of ['logits', 'pooled', 'mean'] as const) {
      expect(relativeDistance(padded[name], plain[name]), name).toBeLessThan(TOLERANCE);
    }
  });

  it('treats tokens as those of the first text if a batch has no types', async () => {
    const { tokenTypeIds, ...untyped } = inputsOf(encodings([0, 6]));
    const zeros = hostIntegers(new Int32Array(tokenTypeIds?.data.length ?? 0), tokenTypeIds?.shape ?? []);
    const actual = await outputsOf(executor, model, untyped);
    const typed = await outputsOf(executor, model, { ...untyped, tokenTypeIds: zeros });
    expect(relativeDistance(actual.logits, typed.logits)).toBeLessThan(TOLERANCE);
  });
});

it('takes the same LoRA steps on the compiled engine as on the reference', async () => {
  const rows = encodeRows(await dataSet(), model.tokenizer, { maxTokens: 24 });
  const steps = async (executor: Executor): Promise<HostTensors> => {
    const peft = attach(model, lora({ r: 2, targetModules: 'all-linear' }), { seed: 1 });
    const data = trainingData(rows, { batchSize: 4, seed: 1 });
    const { last } = await train(peft, data, { executor, epochs: 1, learningRate: 1e-2 });
    return last.values;
  };
  const reference = await steps(await referenceExecutor());
  const { name, distance } = farthestTensor(await steps(compiled({ threads: 1 })), reference);
  expect(distance, name).toBeLessThan(5e-4); // Adam amplifies rounding errors of gradients near 0
});

it("trains without the network's own dropout: the first loss equals that of a plain forward pass", async () => {
  const executor = compiled({ threads: 1 });
  const rows = encodeRows(await dataSet(), model.tokenizer, { maxTokens: 24 });
  const options = { batchSize: rows.rows.length };
  const logits = await predict(model, evaluationData(rows, options).batches, { executor });
  const lossOf = (row: Float32Array, label: number): number =>
    Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0)) - (row[label] as number);
  const losses: number[] = [];
  await train(attach(model, lora({ r: 2 }), { seed: 1 }), trainingData(rows, { ...options, seed: 1 }), {
    executor,
    epochs: 1,
    learningRate: 1e-3,
    onStep: ({ loss }) => losses.push(loss),
  });
  const plain = logits.map((row, index) => lossOf(row, rows.rows[index]?.label ?? 0));
  expect(losses).toHaveLength(1);
  expect(losses[0]).toBeCloseTo(plain.reduce((sum, loss) => sum + loss, 0) / plain.length, 5);
});

/** A forward pass on TensorFlow.js that reports each module it reaches and the number of rows. */
function reached(inputs: HostTensors, forward: (scope: Scope, inputs: tf.NamedTensorMap) => tf.Tensor) {
  const modules: { path: string; shape: number[] }[] = [];
  const noting =
    <R extends unknown[]>(module: (path: string, x: tf.Tensor, ...rest: R) => tf.Tensor) =>
    (path: string, x: tf.Tensor, ...rest: R): tf.Tensor => {
      modules.push({ path, shape: x.shape });
      return module(path, x, ...rest);
    };
  tf.tidy(() => {
    const entries = Object.entries({ ...model.weights, ...inputs }).map(
      ([name, { data, shape, dtype }]) => [name, tf.tensor(data, [...shape], dtype)] as const,
    );
    const tensors = Object.fromEntries(entries);
    const plain = plainScope(tensors);
    const { linear, embedding, layerNorm } = plain;
    forward({ ...plain, linear: noting(linear), embedding: noting(embedding), layerNorm: noting(layerNorm) }, tensors);
  });
  return modules;
}

describe('the last layer', () => {
  const last = 'bert.encoder.layer.2';
  const inputs = inputsOf(encodings([0, 6])); // [2, 13]
  const tokensAt = (modules: ReturnType<typeof reached>, name: string) =>
    modules.filter(({ path }) => path === `${last}.${name}`).map(({ shape }) => shape[1]);

  it('is only computed for the first token, from the keys and values of all', () => {
    const modules = reached(inputs, model.forward);
    const firstOnly = ['attention.self.query', 'attention.output.dense', 'intermediate.dense', 'output.LayerNorm'];
    for (const name of firstOnly) expect(tokensAt(modules, name), name).toEqual([1]);
    for (const name of ['attention.self.key', 'attention.self.value']) expect(tokensAt(modules, name)).toEqual([13]);
  });

  it('is computed for every token if the sentence embedding needs it', () => {
    expect(tokensAt(reached(inputs, model.encode), 'output.LayerNorm')).toEqual([13]);
  });
});

describe('the sites', () => {
  it('are the modules of transformers in order, with role and layer', () => {
    const row = ({ path, kind, role, layer, inFeatures, outFeatures }: Site): string =>
      `${path} ${kind} ${role} ${layer ?? '-'} ${inFeatures}>${outFeatures}`;
    expect(model.sites.map(row)).toEqual([
      'bert.embeddings.word_embeddings embedding other - 193>32',
      'bert.embeddings.position_embeddings embedding other - 64>32',
      'bert.embeddings.token_type_embeddings embedding other - 2>32',
      'bert.embeddings.LayerNorm layerNorm other - 32>32',
      ...layers.flatMap((layer) => [
        `bert.encoder.layer.${layer}.attention.self.query linear attention.query ${layer} 32>32`,
        `bert.encoder.layer.${layer}.attention.self.key linear attention.key ${layer} 32>32`,
        `bert.encoder.layer.${layer}.attention.self.value linear attention.value ${layer} 32>32`,
        `bert.encoder.layer.${layer}.attention.output.dense linear attention.output ${layer} 32>32`,
        `bert.encoder.layer.${layer}.attention.output.LayerNorm layerNorm other ${layer} 32>32`,
        `bert.encoder.layer.${layer}.intermediate.dense linear ffn.in ${layer} 32>64`,
        `bert.encoder.layer.${layer}.output.dense linear ffn.out ${layer} 64>32`,
        `bert.encoder.layer.${layer}.output.LayerNorm layerNorm other ${layer} 32>32`,
      ]),
      'bert.pooler.dense linear other - 32>32',
      'classifier linear head - 32>3',
    ]);
  });

  it('are exactly the modules that a forward pass reaches', () => {
    const paths = reached(inputsOf(encodings([0])), model.forward).map(({ path }) => path);
    expect(paths.sort()).toEqual(model.sites.map(({ path }) => path).sort());
  });

  it('are by default adapted at queries and values, as in PEFT', () => {
    const config = { targetModules: null, excludeModules: null, layersToTransform: null, modulesToSave: null };
    const { matched } = selectSites(model.sites, config, {
      kinds: ['linear'],
      head: model.head,
      defaults: model.defaultTargetModules,
    });
    expect(matched.map(({ path }) => path)).toEqual(
      layers.flatMap((layer) => ['query', 'value'].map((name) => `bert.encoder.layer.${layer}.attention.self.${name}`)),
    );
  });

  it('have weights of their shape, [in, out]', () => {
    for (const { path, kind, inFeatures, outFeatures } of model.sites) {
      const shape = kind === 'layerNorm' ? [outFeatures] : [inFeatures, outFeatures];
      expect((model.weights[`${path}.weight`] as HostTensor).shape, path).toEqual(shape);
    }
  });
});

describe('inputs', () => {
  it('with more tokens than positions are rejected', () => {
    const long = inputsOf([{ ids: Array<number>(65).fill(7), truncated: false }]);
    expect(() => reached(long, model.forward)).toThrow(/at most 64 tokens, got 65/);
  });

  it('without a mask are rejected', () => {
    const { inputIds } = inputsOf(encodings([0]));
    expect(() => reached({ inputIds: inputIds as HostTensor }, model.forward)).toThrow(/reads 'attentionMask'/);
  });
});
