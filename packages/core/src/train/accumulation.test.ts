import { beforeAll, describe, expect, it } from 'vitest';
import { attach, defineMethod } from '../adapter/attach.js';
import { fullLayer } from '../adapter/layers.js';
import { targetEntries } from '../adapter/targets.js';
import type { AdapterLayer } from '../contracts/layer.js';
import type { TargetConfig } from '../contracts/method.js';
import { parseOptions } from '../config.js';
import type { Executor } from '../contracts/executor.js';
import type { Batch, TrainingData } from '../contracts/model.js';
import { UnsupportedError } from '../errors.js';
import { adamW } from '../optimizers/adamw.js';
import { hostTensor, mapValues, sizeOf, tensorAt, type HostTensor } from '../tensors.js';
import { farthestTensor, referenceExecutor, toyModel, toyTrainingData } from '@peftjs/conformance';
import type { StepEvent, TrainOptions, TrainResult } from './options.js';
import type { TrainingSnapshot } from './snapshot.js';
import { train } from './train.js';

let executor: Executor;
beforeAll(async () => {
  executor = await referenceExecutor();
});

const refused = (): never => {
  throw new UnsupportedError('only trained here');
};

/** Trains its modules in full, with `dropout` on their input. */
const whole = defineMethod<TargetConfig & { readonly dropout: boolean }>({
  name: 'whole',
  capabilities: { mergeable: false, identityAtInit: true, adaptsRank: false, kinds: ['linear'] },
  parseConfig: (input) => {
    const { dropout, ...rest } = input as { dropout: boolean };
    return { ...parseOptions('whole', targetEntries, rest), dropout };
  },
  adapt: (sites, { dropout }, init) =>
    Object.fromEntries(
      sites.map((site): [string, AdapterLayer] => {
        const layer = fullLayer(site, init.frozen(site.path), 'default');
        const forward: AdapterLayer['forward'] = (x, p, { run, ctx }) =>
          run({ ...p, x: ctx.dropout(`${site.path}.drop`, x, 0.5) });
        return [site.path, dropout ? { ...layer, noise: ['drop'], forward } : layer];
      }),
    ),
  peftTypes: [],
  toFile: refused,
  fromFile: refused,
});

/** The tolerance between two sums of the same gradients in a different order, after some steps. */
const TOLERANCE = 1e-5;

/** Concatenates batches. */
function joined(batches: readonly Batch[]): Batch {
  const below = (pick: (batch: Batch) => HostTensor): HostTensor => {
    const parts = batches.map(pick);
    const [first] = parts as [HostTensor];
    const shape = [parts.reduce((rows, part) => rows + (part.shape[0] as number), 0), ...first.shape.slice(1)];
    const data =
      first.data.constructor === Float32Array ? new Float32Array(sizeOf(shape)) : new Int32Array(sizeOf(shape));
    let end = 0;
    for (const part of parts) {
      data.set(part.data, end);
      end += part.data.length;
    }
    return { dtype: first.dtype, shape, data };
  };
  return {
    inputs: mapValues(batches[0]?.inputs ?? {}, (_, name) => below(({ inputs }) => tensorAt(inputs, name))),
    labels: below(({ labels }) => labels),
    rowWeights: below(({ rowWeights }) => rowWeights),
    rows: batches.flatMap(({ rows }) => rows),
  };
}

/** The toy batches, with reduced row weights in every second one. */
function unevenData(batches: number): TrainingData {
  const made = toyTrainingData(3, batches).epoch(0);
  const data = made.map((batch, index) => {
    const weights = Float32Array.from(batch.rows, (_, row) => Number(index % 2 === 0 || row < 3));
    return { ...batch, rowWeights: hostTensor(weights, [weights.length]) };
  });
  return { kind: 'classification', batchesPerEpoch: batches, epoch: () => data };
}

/** The same rows, `count` batches joined at a time. */
function inLargerBatches(data: TrainingData, count: number): TrainingData {
  const batches = data.epoch(0);
  const larger = Array.from({ length: Math.ceil(batches.length / count) }, (_, index) =>
    joined(batches.slice(index * count, (index + 1) * count)),
  );
  return { ...data, batchesPerEpoch: larger.length, epoch: () => larger };
}

async function run(
  data: TrainingData,
  options: Partial<TrainOptions> = {},
  dropout = false,
): Promise<TrainResult & { steps: StepEvent[] }> {
  const steps: StepEvent[] = [];
  const peft = attach(toyModel(), whole({ targetModules: ['query', 'out'], dropout }), { seed: 1 });
  const onStep = (event: StepEvent): void => void steps.push(event);
  const settings = {
    executor,
    epochs: 2,
    learningRate: 0.02,
    optimizer: adamW({ weightDecay: 0.1 }),
    onStep,
    ...options,
  };
  return { ...(await train(peft, data, settings)), steps };
}

describe('accumulated gradients', () => {
  it.each([
    [2, 4, null],
    [2, 5, 0.5],
    [3, 5, 0.5],
    [8, 3, 1],
  ])('of %i of %i batches are those of one larger batch, clipped at %s', async (count, batches, clipNorm) => {
    const data = unevenData(batches);
    const accumulated = await run(data, { gradientAccumulationSteps: count, clipNorm });
    const larger = await run(inLargerBatches(data, count), { clipNorm });
    expect(accumulated.totalSteps).toBe(2 * Math.ceil(batches / count));
    const { name, distance } = farthestTensor(accumulated.last.values, larger.last.values);
    expect(distance, name).toBeLessThan(TOLERANCE);
    const reported = ({ step, epoch, loss, objective, learningRate }: StepEvent) => ({
      step,
      epoch,
      loss: expect.closeTo(loss, 5) as number,
      objective: expect.closeTo(objective, 5) as number,
      learningRate,
    });
    expect(accumulated.steps).toMatchObject(larger.steps.map(reported));
    const smaller = await run(data, { clipNorm });
    expect(farthestTensor(smaller.last.values, larger.last.values).distance).toBeGreaterThan(1e-3);
  });

  it('of one batch equal those of that batch, bit for bit', async () => {
    const data = unevenData(3);
    const { last } = await run(data, { gradientAccumulationSteps: 1 }, true);
    expect(last.values).toEqual((await run(data, {}, true)).last.values);
  });

  it('draw new dropout for each batch, the same for the same seed', async () => {
    const [batch] = unevenData(1).epoch(0) as [Batch];
    const twice: TrainingData = { kind: 'classification', batchesPerEpoch: 2, epoch: () => [batch, batch] };
    const once: TrainingData = { kind: 'classification', batchesPerEpoch: 1, epoch: () => [batch] };
    const options = { epochs: 1, gradientAccumulationSteps: 2 };
    const { last } = await run(twice, options, true);
    expect(last.values).toEqual((await run(twice, options, true)).last.values);
    // With one mask for both, the two equal halves would give the whole.
    expect(farthestTensor(last.values, (await run(once, { epochs: 1 }, true)).last.values).distance).toBeGreaterThan(
      1e-4,
    );
    const { last: dry } = await run(twice, options);
    expect(farthestTensor(dry.values, (await run(once, { epochs: 1 })).last.values).distance).toBeLessThan(TOLERANCE);
  });

  it('continue from a snapshot to the same end', async () => {
    const data = unevenData(5);
    const snapshots: TrainingSnapshot[] = [];
    const options = { gradientAccumulationSteps: 2, epochs: 3 };
    const onSnapshot = (snapshot: TrainingSnapshot): void => void snapshots.push(snapshot);
    const { last } = await run(data, { ...options, saveEvery: 4, onSnapshot }, true);
    const [resume] = snapshots as [TrainingSnapshot];
    const resumed = await run(data, { ...options, resume }, true);
    expect(resumed.steps.map(({ step }) => step)).toEqual([5, 6, 7, 8, 9]);
    expect(resumed.last.values).toEqual(last.values);
  });
});
