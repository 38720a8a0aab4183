import * as tf from '@tensorflow/tfjs';
import { expect, it } from 'vitest';
import { allLayers } from '../../adapter/peft-model.js';
import type { TargetConfig } from '../../adapter/targets.js';
import type { Model } from '../../contracts/model.js';
import { mapValues } from '../../records.js';
import { floats, tensorAt, type HostTensors } from '../../tensors.js';
import type { TrainingSnapshot } from '../../train/snapshot.js';
import { readSnapshot, writeSnapshot } from '../../train/snapshot.js';
import { relativeDistance } from '../closeness.js';
import { referenceExecutor } from '../reference-executor.js';
import { toyEvaluationData, toyModel, toyTrainingData } from '../toy-model.js';
import { attached, trainToy, type Suite } from './suite.js';

/** What training moves and what it leaves, that it learns, repeats itself, resumes and leaks nothing. */
export function testTraining<C extends TargetConfig>(suite: Suite<C>): void {
  it('trains every tensor it declares and nothing of the base', async () => {
    const model = toyModel();
    const before = checksums(model.weights);
    const peft = await attached(suite, { model });
    const layers = allLayers(peft.adapter);
    const start = peft.adapter.values;
    const { last } = await trainToy(peft, suite, { epochs: 3 });
    expect(checksums(model.weights)).toEqual(before);
    for (const layer of Object.values(layers)) {
      for (const [name, { trainable }] of Object.entries(layer.params)) {
        const key = `${layer.site.path}.${name}`;
        const value = last.values[key];
        const moved = !value || relativeDistance(floats(value), floats(tensorAt(start, key))) > 0;
        expect(moved, key).toBe(trainable);
      }
    }
  });
  it('learns the toy task', async () => {
    const losses: number[] = [];
    const peft = await attached(suite);
    await trainToy(peft, suite, { epochs: 12, onStep: ({ loss }) => losses.push(loss) });
    const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean(losses.slice(-4))).toBeLessThan(0.8 * mean(losses.slice(0, 4)));
  });
  it('gives the same numbers twice', async () => {
    const run = async (): Promise<HostTensors> => {
      const peft = await attached(suite);
      return (await trainToy(peft, suite, { epochs: 3 })).last.values;
    };
    expect(await run()).toEqual(await run());
  });
  it('goes on from a snapshot to the same end', async () => {
    const snapshots: TrainingSnapshot[] = [];
    const options = { epochs: 4, selection: { data: toyEvaluationData() } };
    const whole = await trainToy(await attached(suite), suite, {
      ...options,
      snapshotEvery: 7,
      onSnapshot: (at) => void snapshots.push(at),
    });
    expect(snapshots.map(({ step }) => step)).toEqual([7, 14]);
    for (const at of snapshots) {
      const resume = await readSnapshot(writeSnapshot(at));
      const resumed = await trainToy(await attached(suite), suite, { ...options, resume });
      expect(resumed.last.values).toEqual(whole.last.values);
      expect(resumed.selected.values).toEqual(whole.selected.values);
      expect(resumed.meanParameters).toBe(whole.meanParameters);
    }
  });
  it(`trap 31: leaks no tensor over ${suite.leakSteps} steps`, async () => {
    const counts: number[] = [];
    const peft = await attached(suite);
    await trainToy(
      peft,
      { ...suite, executor: referenceExecutor },
      {
        epochs: suite.leakSteps / toyTrainingData().batchesPerEpoch,
        learningRate: 0.01,
        onStep: () => counts.push(tf.memory().numTensors),
      },
    );
    expect(counts).toHaveLength(suite.leakSteps);
    expect(Math.max(...counts.slice(1))).toBeLessThanOrEqual(counts[1] as number);
  });
}

function checksums(weights: Model['weights']): Record<string, number> {
  return mapValues(weights, (weight) => floats(weight).reduce((sum, value, index) => sum + value * (index + 1), 0));
}
