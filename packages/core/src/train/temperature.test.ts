import { referenceExecutor, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { beforeAll, describe, expect, it } from 'vitest';
import { wholeModules } from '../../test/whole-modules.js';
import { disableAdapter, mergeAndUnload } from '../adapter/adapters.js';
import { attach, defineMethod } from '../adapter/attach.js';
import { activeAdapter, type PeftModel } from '../adapter/peft-model.js';
import type { Executor } from '../contracts/executor.js';
import type { Model } from '../contracts/model.js';
import { createRng } from '../rng.js';
import { evaluate, evaluationOutputs, predict } from './evaluate.js';
import { bestTemperature, fitTemperature } from './temperature.js';
import { train } from './train.js';

const sure = [0, 20];

/** Random logits of rows with five classes, each row with a class drawn from their softmax at this temperature. */
function drawn(rows: number, temperature: number) {
  const rng = createRng(1);
  const logits = Array.from({ length: rows }, () => Array.from({ length: 5 }, () => 3 * rng.normal()));
  const actual = logits.map((row) => {
    const powers = row.map((logit) => Math.exp(logit / temperature));
    let left = rng.uniform() * powers.reduce((sum, power) => sum + power, 0);
    return powers.findIndex((power) => (left -= power) < 0);
  });
  return { logits, actual };
}

/** The negative log-likelihood of classes at a temperature. */
function nll({ logits, actual }: ReturnType<typeof drawn>, temperature: number): number {
  return logits.reduce((total, row, index) => {
    const scaled = row.map((logit) => logit / temperature);
    return total + Math.log(scaled.reduce((sum, x) => sum + Math.exp(x), 0)) - (scaled[actual[index] as number] ?? NaN);
  }, 0);
}

describe('the best temperature', () => {
  it.each([
    [3, 4],
    [99, 100],
    [6, 10],
  ])('has a closed form for rows with the same two logits, of which %i in %i are right', (right, rows) => {
    const actual = Array.from({ length: rows }, (_, row) => Number(row < right));
    const logits = actual.map(() => sure);
    const temperature = 20 / Math.log(right / (rows - right)); // where softmax([0, 20 / T]) is the share of right rows
    expect(bestTemperature(logits, actual) / temperature).toBeCloseTo(1, 10);
  });

  it('is where the derivative of the likelihood is zero, and the likelihood largest', () => {
    const rows = drawn(200, 2.5);
    const best = bestTemperature(rows.logits, rows.actual);
    const slopeAt = (temperature: number) => (nll(rows, temperature + 1e-4) - nll(rows, temperature - 1e-4)) / 2e-4;
    expect(Math.abs(slopeAt(best))).toBeLessThan(1e-6);
    expect([slopeAt(0.99 * best) < 0, slopeAt(1.01 * best) > 0]).toEqual([true, true]);
    expect(best).toBeGreaterThan(2);
    expect(best).toBeLessThan(3.1);
  });

  it('grows with the logits', () => {
    const { logits, actual } = drawn(50, 0.7);
    const best = bestTemperature(logits, actual);
    const larger = logits.map((row) => row.map((logit) => 1000 + 30 * logit));
    expect(bestTemperature(larger, actual) / best).toBeCloseTo(30, 8);
  });

  it.each([
    ['all rows are right', [sure, sure], [1, 1], 'all 2 held-out rows are classified right'],
    ['there are no rows', [], [], 'all 0 held-out rows'],
    ['the logits are no better than none', [sure, sure], [0, 1], 'on the 2 held-out rows the logits say nothing'],
    ['a logit is not a number', [sure, [NaN, 1]], [0, 1], 'the logits say nothing'],
  ])('does not exist if %s', (_, logits, actual, said) => {
    expect(() => bestTemperature(logits, actual)).toThrow(expect.objectContaining({ code: 'PEFT_DATA' }));
    expect(() => bestTemperature(logits, actual)).toThrow(said);
  });
});

describe('fitTemperature', () => {
  let executor: Executor;
  let peft: PeftModel;
  const data = toyEvaluationData();
  const method = defineMethod(wholeModules())({ targetModules: ['query'] });
  const fit = (model: Model, given = data) => fitTemperature(attach(model, method), given, { executor });
  beforeAll(async () => {
    executor = await referenceExecutor();
    peft = attach(toyModel(), method, { seed: 1 });
    await train(peft, toyTrainingData(), { executor, epochs: 3, learningRate: 0.01 });
  });

  it('gives the adapter a temperature that divides the outputs to score, not those of predict', async () => {
    const [logits, before] = [
      await predict(peft, data.batches, { executor }),
      await evaluate(peft, data, { executor }),
    ];
    const temperature = await fitTemperature(peft, data, { executor });
    expect(activeAdapter(peft).temperature).toBe(temperature);
    expect(temperature).not.toBeCloseTo(1, 1);
    expect(await predict(peft, data.batches, { executor })).toEqual(logits);
    const scaled = logits.map((row) => row.map((logit) => logit / temperature));
    expect(await evaluationOutputs(peft, data, { executor })).toEqual(scaled);
    expect(await evaluate(peft, data, { executor })).toEqual(before); // the accuracy
    const frozen = await disableAdapter(peft, () => evaluationOutputs(peft, data, { executor }));
    expect(frozen).toEqual(await predict(peft.model, data.batches, { executor }));
    expect(await fitTemperature(peft, data, { executor })).toBe(temperature); // not 1
  });

  it('is undone by merging and by further training', async () => {
    await fitTemperature(peft, data, { executor });
    expect(mergeAndUnload(peft, { adapterNames: [] })).not.toHaveProperty('temperature');
    await train(peft, toyTrainingData(), { executor, epochs: 1 });
    expect(activeAdapter(peft)).not.toHaveProperty('temperature');
  });

  it.each<[string, Partial<Model>, object]>([
    ['several labels a row', { problemType: 'multi_label_classification' }, {}],
    ['regression', { problemType: 'regression' }, {}],
    ['tags of tokens', { task: 'token-classification' }, {}],
    ['data without predictions', {}, { predictions: undefined }],
  ])('refuses %s', async (_, model, parts) => {
    await expect(fit({ ...toyModel(), ...model }, { ...data, ...parts })).rejects.toThrow(
      'expected a classifier and data with one of several classes per row',
    );
  });
});
