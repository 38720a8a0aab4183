import * as tf from '@tensorflow/tfjs';
import { expect, it } from 'vitest';
import { activeAdapter, allLayers } from '../../adapter/peft-model.js';
import type { TargetConfig } from '../../contracts/method.js';
import type { Model } from '../../contracts/model.js';
import { floats, mapValues, tensorAt } from '../../tensors.js';
import type { TrainOptions } from '../../train/options.js';
import { readSnapshot, writeSnapshot, type TrainingSnapshot } from '../../train/snapshot.js';
import { relativeDistance } from '../closeness.js';
import { toyEvaluationData, toyModel, toyTrainingData } from '../toy-model.js';
import { attached, trained, trainToy, type Suite } from './suite.js';

/** What training moves and what it leaves, that it learns, repeats itself, resumes and leaks nothing. */
export function testTraining<C extends TargetConfig>(suite: Suite<C>): void {
  const whole = once(() => wholeRun(suite));
  const long = once(() => longRun(suite));

  it('trains every tensor it declares and nothing of the base', async () => {
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
    const losses = (await long()).map(({ loss }) => loss);
    const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean(losses.slice(-4))).toBeLessThan(0.8 * mean(losses.slice(0, 4)));
  });
  it('gives the same numbers twice, evaluated on the way or not', async () => {
    const { values } = activeAdapter(await trained(suite, EPOCHS));
    expect(values).toEqual((await whole()).end.last.values);
  });
  it('goes on from a snapshot to the same end', async () => {
    const { snapshots, end } = await whole();
    expect(snapshots.map(({ step }) => step)).toEqual([7, 14]);
    for (const at of snapshots) {
      const resume = await readSnapshot(writeSnapshot(at));
      const resumed = await trainToy(await attached(suite), suite, { ...judged(), resume });
      expect(resumed.last.values).toEqual(end.last.values);
      expect(resumed.selected.values).toEqual(end.selected.values);
      expect(resumed.meanParameters).toBe(end.meanParameters);
    }
  });
  it('trap 31: leaks no tensor over many steps', async () => {
    const counts = (await long()).map(({ tensors }) => tensors);
    expect(counts).toHaveLength(LONG_EPOCHS * toyTrainingData().batchesPerEpoch);
    expect(Math.max(...counts.slice(1))).toBeLessThanOrEqual(counts[1] as number);
  });
}

const EPOCHS = 4;
const LONG_EPOCHS = 6;

/** Several tests look at one run. */
function once<T>(run: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => (result ??= run());
}

/** A run that is judged on the way. */
const judged = (): Pick<TrainOptions, 'epochs' | 'selection'> => ({
  epochs: EPOCHS,
  selection: { data: toyEvaluationData(2, 1) },
});

/** A run from its start to its end, with two snapshots on the way. */
async function wholeRun<C extends TargetConfig>(suite: Suite<C>) {
  const model = toyModel();
  const peft = await attached(suite, { model });
  const adapter = activeAdapter(peft);
  const [layers, start] = [allLayers(adapter), adapter.values];
  const snapshots: TrainingSnapshot[] = [];
  const onSnapshot = (at: TrainingSnapshot): void => void snapshots.push(at);
  const end = await trainToy(peft, suite, { ...judged(), evaluateEvery: 5, saveEvery: 7, onSnapshot });
  return { model, layers, start, snapshots, end };
}

/** The loss and the number of tensors after each step of a long run. */
async function longRun<C extends TargetConfig>(
  suite: Suite<C>,
): Promise<{ readonly loss: number; readonly tensors: number }[]> {
  const steps: { loss: number; tensors: number }[] = [];
  const onStep = ({ loss }: { readonly loss: number }): void =>
    void steps.push({ loss, tensors: tf.memory().numTensors });
  await trainToy(await attached(suite), suite, { epochs: LONG_EPOCHS, onStep });
  return steps;
}

function checksums(weights: Model['weights']): Record<string, number> {
  return mapValues(weights, (weight) => floats(weight).reduce((sum, value, index) => sum + value * (index + 1), 0));
}
