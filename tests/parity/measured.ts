import {
  activeAdapter,
  adamW,
  hostTensor,
  predict,
  train,
  type Batch,
  type Executor,
  type PeftModel,
} from '@peftjs/core';
import {
  createRng,
  floats,
  replaceAdapter,
  tensorAt,
  tensorsAt,
  type DataKind,
  type HostTensors,
} from '@peftjs/core/method';
import { trainedTensors, type TrainingSnapshot } from '@peftjs/core/runtime';
import { relativeDistance } from '@peftjs/core/testing';
import type { Tolerance } from './executors.js';

/** What runs on each executor. */
export interface Subject {
  readonly name: string;
  /** Creates a model with an adapter of its own; called once for each executor. */
  attach(): Promise<PeftModel>;
  /** One batch per step; at least two. */
  readonly batches: readonly Batch[];
  readonly kind: DataKind;
}

/** The results of a subject on an executor. */
export type Measured = Readonly<Record<keyof Tolerance, HostTensors>>;

/** The outputs of the first batch, its gradients, and the values after one step per batch. */
export async function measure({ attach, batches, kind }: Subject, executor: Executor): Promise<Measured> {
  const peft = moved(await attach());
  const [first] = batches as [Batch];
  const rows = await predict(peft, [first], { executor });
  const losses: number[] = [];
  const snapshots: TrainingSnapshot[] = [];
  const { last } = await train(
    peft,
    { kind, batchesPerEpoch: batches.length, epoch: () => batches },
    {
      executor,
      epochs: 1,
      learningRate: 0.02,
      optimizer: adamW({ weightDecay: 0.1, epsilon: 1e-4 }), // limits Adam's step for a gradient that is only rounding errors
      warmupRatio: 0.2,
      finalRatio: 0.4,
      clipNorm: 0.5,
      saveEvery: 1,
      onStep: ({ loss }) => losses.push(loss),
      onSnapshot: (snapshot) => void snapshots.push(snapshot),
    },
  );
  const [start] = snapshots as [TrainingSnapshot];
  const gradients = tensorAt(start.slots, 'moment1'); // after one step, a multiple of each gradient
  const { moment1, moment2 } = tensorsAt((snapshots.at(-1) as TrainingSnapshot).slots, 'moment1', 'moment2');
  return {
    outputs: { outputs: numbers(rows.flatMap((row) => [...row])) },
    gradients,
    steps: { ...last.values, ...named('moment1', moment1), ...named('moment2', moment2), losses: numbers(losses) },
  };
}

/** The tensors with errors that are too large, and their errors; names that only one side has are included. */
export function tooFar(actual: Measured, expected: Measured, tolerance: Tolerance): string[] {
  return (Object.keys(tolerance) as (keyof Tolerance)[]).flatMap((kind) => {
    const names = new Set([...Object.keys(actual[kind]), ...Object.keys(expected[kind])]);
    return [...names].flatMap((name) => {
      const distance = distanceOf(actual[kind][name], expected[kind][name]);
      return distance <= tolerance[kind] ? [] : [`${kind}: ${name} is ${distance.toPrecision(2)} away`];
    });
  });
}

function distanceOf(a: HostTensors[string] | undefined, b: HostTensors[string] | undefined): number {
  if (!a || !b || a.shape.join() !== b.shape.join()) return Infinity;
  return relativeDistance(floats(a), floats(b));
}

/** Moves values away from the start, where much of an adapter and its gradients are zero. */
function moved(peft: PeftModel): PeftModel {
  const { layers, saved, values } = activeAdapter(peft);
  const rng = createRng(11);
  const changed = trainedTensors({ ...layers, ...saved }).map(({ key }) => {
    const { shape } = values[key] as HostTensors[string];
    const noise = rng.fork(key);
    const data = floats(values[key] as HostTensors[string]).map((value) => value + 0.05 * noise.normal());
    return [key, hostTensor(data, shape)] as const;
  });
  replaceAdapter(peft, { values: { ...values, ...Object.fromEntries(changed) } });
  return peft;
}

function numbers(values: readonly number[]): HostTensors[string] {
  return hostTensor(Float32Array.from(values), [values.length]);
}

function named(prefix: string, tensors: HostTensors): HostTensors {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [`${prefix} of ${name}`, tensor]));
}
