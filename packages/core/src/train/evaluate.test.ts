import { beforeAll, describe, expect, it } from 'vitest';
import { addAdapter, disableAdapter, mergeAdapter, setAdapter, unmergeAdapter } from '../adapter/adapters.js';
import { attach, defineMethod } from '../adapter/attach.js';
import { rankLayer } from '../ranks/rank-layer.js';
import { activeAdapter, type PeftModel } from '../adapter/peft-model.js';
import { targetEntries } from '../adapter/targets.js';
import { parseOptions } from '../config.js';
import type { Executor } from '../contracts/executor.js';
import type { TargetConfig } from '../contracts/method.js';
import type { EvaluationData, InputBatch, Model } from '../contracts/model.js';
import { hostTensor } from '../tensors.js';
import { referenceExecutor, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { evaluate, predict } from './evaluate.js';
import { train } from './train.js';

let executor: Executor;
beforeAll(async () => {
  executor = await referenceExecutor();
});

/** Data that keep the largest logit of a row, and record what passes through `summarise` and reaches `score`. */
function summarising(): { data: EvaluationData; seen: Map<number, Float32Array>; scored: Float32Array[] } {
  const seen = new Map<number, Float32Array>();
  const scored: Float32Array[] = [];
  const data: EvaluationData = {
    ...toyEvaluationData(),
    summarise(row, outputs) {
      seen.set(row, outputs.slice());
      return Float32Array.of(Math.max(...outputs));
    },
    score(summaries) {
      scored.push(...summaries);
      return { accuracy: 0 };
    },
  };
  return { data, seen, scored };
}

describe('evaluate', () => {
  it('scores the summary of each row, and keeps nothing else of a batch', async () => {
    const { data, seen, scored } = summarising();
    await evaluate(toyModel(), data, { executor });
    const outputs = await predict(toyModel(), data.batches, { executor });
    expect([...seen.keys()].sort((a, b) => a - b)).toEqual([...outputs.keys()]);
    expect(outputs.map((_, row) => seen.get(row))).toEqual(outputs);
    expect(scored).toEqual(outputs.map((logits) => Float32Array.of(Math.max(...logits))));
    expect(scored.map(({ buffer }) => buffer.byteLength)).toEqual(outputs.map(() => 4)); // no view of a batch's outputs
  });

  it('scores copies of the outputs where data have no summarise', async () => {
    const outputs: Float32Array[] = [];
    const data: EvaluationData = {
      ...toyEvaluationData(),
      score(rows) {
        outputs.push(...rows);
        return {};
      },
    };
    await evaluate(toyModel(), data, { executor });
    expect(outputs).toEqual(await predict(toyModel(), data.batches, { executor }));
    expect(outputs.every(({ buffer, byteLength }) => buffer.byteLength === byteLength)).toBe(true);
  });
});

it('leaves room for other events between two batches', async () => {
  const order: string[] = [];
  const [first, second] = toyEvaluationData().batches as [InputBatch, InputBatch];
  const recorded = (batch: InputBatch): InputBatch => ({
    ...batch,
    get inputs() {
      order.push('batch');
      setImmediate(() => order.push('event'));
      return batch.inputs;
    },
  });
  await predict(toyModel(), [recorded(first), recorded(second)], { executor });
  expect(new Set(order.slice(0, order.lastIndexOf('batch')))).toContain('event');
});

/** Adds a matrix of ones, scaled. */
const ones = (scaling: number) =>
  defineMethod<TargetConfig>({
    name: 'ones',
    capabilities: { mergeable: true, identityAtInit: false, adaptsRank: false, kinds: ['linear'] },
    parseConfig: (input) => parseOptions('ones', targetEntries, input),
    adapt: (sites) =>
      Object.fromEntries(
        sites.map((site) => {
          const vector = (length: number, shape: number[]) => hostTensor(new Float32Array(length).fill(1), shape);
          const loraA = vector(site.inFeatures, [site.inFeatures, 1]);
          const loraB = vector(site.outFeatures, [1, site.outFeatures]);
          return [site.path, rankLayer(site, { initial: { loraA, loraB }, scaling })];
        }),
      ),
    peftTypes: [],
    toFile: () => ({ config: {}, tensors: {} }),
    fromFile: () => ({ config: {}, values: {} }),
  })({ targetModules: ['query'] });

it('predicts with more adapters at once than the executor keeps passes of', async () => {
  const model = toyModel();
  const { batches } = toyEvaluationData();
  const pefts = Array.from({ length: 10 }, (_, index) => attach(model, ones(index), {}));
  const together = await Promise.all(pefts.map((peft) => predict(peft, batches, { executor })));
  for (const [index, peft] of pefts.entries()) {
    expect(together[index]).toEqual(await predict(peft, batches, { executor }));
  }
});

describe('a second call on the same executor', () => {
  const counting = () => {
    let count = 0;
    const counted: Executor = {
      ...executor,
      compile(...given) {
        count++;
        return executor.compile(...given);
      },
    };
    return { executor: counted, count: () => count };
  };

  const two = (): PeftModel => {
    const peft = attach(toyModel(), ones(0.1), { seed: 1 });
    addAdapter(peft, ones(0.2), { adapterName: 'other', seed: 2 });
    return peft;
  };

  const data = toyEvaluationData();
  const rows = data.batches.reduce((sum, batch) => sum + batch.rows.length, 0);
  const adapterNames = Array.from({ length: rows }, (_, row) => ['default', 'other', '__base__'][row % 3] as string);

  it('gives the adapters of rows in the order of the rows, also for a part of the batches', async () => {
    const { executor } = counting();
    const [, ...others] = data.batches;
    const left = others.flatMap((batch) => [...batch.rows]).sort((a, b) => a - b);
    const whole = await predict(two(), data.batches, { executor, adapterNames });
    const part = await predict(two(), others, {
      executor,
      adapterNames: left.map((row) => adapterNames[row] as string),
    });
    expect(part).toEqual(left.map((row) => whole[row]));
  });

  it('gives every row the frozen model while adapters are disabled', async () => {
    const peft = two();
    const outputs = (names: string[]) => predict(peft, data.batches, { executor, adapterNames: names });
    const frozen = await outputs(adapterNames.map(() => '__base__'));
    expect(await disableAdapter(peft, () => outputs(adapterNames))).toEqual(frozen);
    await expect(disableAdapter(peft, () => outputs(['default']))).rejects.toThrow(/has 1 names/);
  });

  it('gives rows of the same number an adapter each', async () => {
    const [first] = data.batches as [InputBatch];
    const [own, other, base] = await Promise.all(
      ['default', 'other', '__base__'].map((name) =>
        predict(two(), [first], { executor, adapterNames: first.rows.map(() => name) }),
      ),
    );
    const names = ['default', 'other', '__base__'].flatMap((name) => first.rows.map(() => name));
    const outputs = await predict(two(), [first, first, first], { executor, adapterNames: names });
    expect(outputs).toEqual([own, other, base].flat());
    expect(own).not.toEqual(other);
  });

  it.each<[string, () => PeftModel | Model, string[]?]>([
    ['a plain model', toyModel],
    ['one adapter', two],
    [
      'two adapters at once',
      () => {
        const peft = two();
        setAdapter(peft, ['default', 'other']);
        return peft;
      },
    ],
    [
      'a merged adapter',
      () => {
        const peft = two();
        mergeAdapter(peft);
        return peft;
      },
    ],
    ['an adapter for each row', two, adapterNames],
  ])('compiles nothing: %s', async (_, make, names) => {
    const { executor, count } = counting();
    const model = make();
    const outputs = () => predict(model, data.batches, { executor, ...(names && { adapterNames: names }) });
    const first = await outputs();
    expect(count()).toBe(1);
    expect(await outputs()).toEqual(first);
    expect(count()).toBe(1);
    if (names) return;
    for (let call = 0; call < 2; call++) await evaluate(model, data, { executor });
    expect(count()).toBe(2); // training has its own program, without the weights
  });

  it('compiles nothing after a training run with evaluations, and uses the trained values', async () => {
    const { executor, count } = counting();
    const peft = two();
    const before = await evaluate(peft, { ...data, score: ([first]) => ({ first: first?.[0] ?? NaN }) }, { executor });
    await train(peft, toyTrainingData(), { executor, epochs: 1, learningRate: 0.1, selection: { data } });
    expect(count()).toBe(2); // the outputs and the step
    const after = await evaluate(peft, { ...data, score: ([first]) => ({ first: first?.[0] ?? NaN }) }, { executor });
    expect(count()).toBe(2);
    expect(after.first).not.toBe(before.first);
  });

  it('uses the adapters that are active now', async () => {
    const peft = two();
    const outputs = async () => (await predict(peft, data.batches, { executor })).flatMap((row) => [...row]);
    const one = await outputs();
    setAdapter(peft, ['default', 'other']);
    const both = await outputs();
    expect(both).not.toEqual(one);
    setAdapter(peft, 'default');
    expect(await outputs()).toEqual(one);
    mergeAdapter(peft);
    const merged = await outputs();
    merged.forEach((value, place) => expect(value).toBeCloseTo(one[place] as number, 4));
    unmergeAdapter(peft);
    expect(await outputs()).toEqual(one);
    expect(activeAdapter(peft).name).toBe('default');
  });
});
