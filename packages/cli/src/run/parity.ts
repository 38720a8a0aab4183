import {
  activeAdapter,
  adamW,
  hostTensor,
  predict,
  train,
  type Batch,
  type Executor,
  type PeftModel,
  type TrainOptions,
} from '@peftjs/core';
import { farthestTensor, type TensorDistance } from '@peftjs/core/linalg';
import { createRng, floats, tensorAt, tensorsAt, type HostTensors } from '@peftjs/core/method';
import { replaceAdapter, type DataKind } from '@peftjs/core/model';
import { trainedTensors, type TrainingSnapshot } from '@peftjs/core/runtime';

/** Largest allowed ||a - b|| / ||b|| of any tensor, compared with the reference executor. */
export interface Tolerance {
  /** Of the outputs of the first batch. */
  readonly outputs: number;
  /** Of the gradients of the trained tensors on the first batch. */
  readonly gradients: number;
  /** Of the values and both moments after all steps, and of the losses of the steps. */
  readonly steps: number;
}

/** The tolerance of float32 computations that sum in another order. */
export const FLOAT32: Tolerance = { outputs: 5e-6, gradients: 1e-5, steps: 1e-4 };

/** What runs on each executor. */
export interface Subject {
  /** Identifies the subject in a report. */
  readonly name: string;
  /** Creates a model with a new adapter; called once for each executor. */
  attach(): Promise<PeftModel>;
  /** One batch for each step; at least two. */
  readonly batches: readonly Batch[];
  /** What the rows of the batches are. */
  readonly kind: DataKind;
  /** The dropout of the network. Default: none. */
  readonly dropout?: TrainOptions['dropout'];
}

/** The tensors that an executor computes for a subject. */
export type Measured = Readonly<Record<keyof Tolerance, HostTensors>>;

/** Computes the outputs and gradients of the first batch, and the state after one training step for each batch. */
export async function measure({ attach, batches, kind, dropout = 0 }: Subject, executor: Executor): Promise<Measured> {
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
      dropout,
      epochs: 1,
      learningRate: 0.02,
      optimizer: adamW({ weightDecay: 0.1, epsilon: 1e-4 }), // a larger epsilon: Adam would otherwise amplify gradients that are only rounding errors
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

/** The farthest tensor of each kind. */
export function farthestOf(actual: Measured, expected: Measured): Record<keyof Tolerance, TensorDistance> {
  const of = (kind: keyof Tolerance): TensorDistance => farthestTensor(actual[kind], expected[kind]);
  return { outputs: of('outputs'), gradients: of('gradients'), steps: of('steps') };
}

/** Moves an adapter away from its initial values, where many tensors and their gradients are zero. */
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
