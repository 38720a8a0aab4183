import * as tf from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { activeAdapter, type Model, type TrainOptions } from '@peftjs/core';
import { allLayers, floats, mapValues, tensorAt, type TargetConfig } from '@peftjs/core/method';
import { readSnapshot, writeSnapshot, type TrainingSnapshot } from '@peftjs/core/runtime';
import { relativeDistance } from '@peftjs/core/linalg';
import { toyEvaluationData, toyModel, toyTrainingData } from './toy-model.js';
import { attached, trained, trainInSuite, type Suite } from './suite.js';

/** Tests that training changes the right tensors, learns, is repeatable, resumes and leaks no memory. */
export function testTraining<C extends TargetConfig>(suite: Suite<C>): void {
  const whole = once(() => wholeRun(suite));

  it('trains every tensor it declares and no base weight', async () => {
    const { model, layers, start, end } = await whole();
    expect(checksums(model.weights)).toEqual(checksums(toyModel().weights));
    for (const layer of Object.values(layers)) {
      for (const [name, { trainable }] of Object.entries(layer.params)) {
        const key = `${layer.site.path}.${name}`;
        const value = end.last.values[key];
        const moved = !value || relativeDistance(floats(value), floats(tensorAt(start, key))) > 0;
        expect(moved, key).toBe(trainable);
      }
    }
  });
  it('learns the toy task', async () => {
    const losses = (await whole()).steps.map(({ loss }) => loss);
    const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean(losses.slice(-4))).toBeLessThan(0.85 * mean(losses.slice(0, 4)));
  });
  it('gives the same numbers twice, with or without evaluations', async () => {
    const { values } = activeAdapter(await trained(suite, EPOCHS));
    expect(values).toEqual((await whole()).end.last.values);
  });
  it('continues from a snapshot to the same end', async () => {
    const { snapshots, end } = await whole();
    expect(snapshots.map(({ step }) => step)).toEqual([SNAPSHOT]);
    const resume = await readSnapshot(writeSnapshot(snapshots[0] as TrainingSnapshot));
    const resumed = await trainInSuite(await attached(suite), suite, { ...judged(), resume });
    expect(resumed.last.values).toEqual(end.last.values);
    expect(resumed.selected.values).toEqual(end.selected.values);
    expect(resumed.meanParameters).toBe(end.meanParameters);
  });
  it('trap 31: leaks no tensor over many steps', async () => {
    const counts = (await whole()).steps.map(({ tensors }) => tensors);
    expect(counts).toHaveLength(EPOCHS * toyTrainingData().batchesPerEpoch);
    const settled = counts.slice(SNAPSHOT); // the evaluation's weights are uploaded by then
    expect(Math.max(...settled)).toBeLessThanOrEqual(settled[0] as number);
  });
}

const EPOCHS = 4;
/** A step between two evaluations, past the middle. */
const SNAPSHOT = 9;

/** Runs a function once and shares the result among several tests. */
function once<T>(run: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => (result ??= run());
}

/** The options of a run with evaluations. */
const judged = (): Pick<TrainOptions, 'epochs' | 'selection'> => ({
  epochs: EPOCHS,
  selection: { data: toyEvaluationData(2, 1) },
});

/** Runs a whole training with a snapshot on the way. Records the loss and the number of tensors after each step. */
async function wholeRun<C extends TargetConfig>(suite: Suite<C>) {
  const model = toyModel();
  const peft = await attached(suite, { model });
  const adapter = activeAdapter(peft);
  const [layers, start] = [allLayers(adapter), adapter.values];
  const snapshots: TrainingSnapshot[] = [];
  const onSnapshot = (at: TrainingSnapshot): void => void snapshots.push(at);
  const steps: { loss: number; tensors: number }[] = [];
  const onStep = ({ loss }: { readonly loss: number }): void =>
    void steps.push({ loss, tensors: tf.memory().numTensors });
  const end = await trainInSuite(peft, suite, {
    ...judged(),
    evaluateEvery: 5,
    saveEvery: SNAPSHOT,
    onSnapshot,
    onStep,
  });
  return { model, layers, start, snapshots, steps, end };
}

function checksums(weights: Model['weights']): Record<string, number> {
  return mapValues(weights, (weight) => floats(weight).reduce((sum, value, index) => sum + value * (index + 1), 0));
}
