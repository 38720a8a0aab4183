import { hostTensor, type Batch, type Executor, type TrainingData } from '@peftjs/core';
import { createRng, hostIntegers, type HostTensor } from '@peftjs/core/method';
import { toyTrainingData } from '@peftjs/conformance';

/** Returns toy batches of `lengths` different lengths, in random order. */
export function variedData(steps: number, lengths: number): TrainingData {
  const made = toyTrainingData(1, 4).epoch(0);
  const rng = createRng(3);
  const batches = Array.from({ length: steps }, (_, step) =>
    lengthened(made[step % made.length] as Batch, rng.integer(lengths)),
  );
  return { kind: 'classification', batchesPerEpoch: steps, epoch: () => batches };
}

/** Returns the batch with more padding. */
function lengthened(batch: Batch, padding: number): Batch {
  const { inputIds, attentionMask } = batch.inputs as Record<'inputIds' | 'attentionMask', HostTensor>;
  const [rows = 0, tokens = 0] = inputIds.shape;
  const shape = [rows, tokens + padding];
  const wider = (values: ArrayLike<number>): number[] =>
    Array.from({ length: rows * (tokens + padding) }, (_, at) => {
      const [row, token] = [Math.floor(at / (tokens + padding)), at % (tokens + padding)];
      return token < tokens ? (values[row * tokens + token] as number) : 0;
    });
  return {
    ...batch,
    inputs: {
      inputIds: hostIntegers(Int32Array.from(wider(inputIds.data)), shape),
      attentionMask: hostTensor(Float32Array.from(wider(attentionMask.data)), shape),
    },
  };
}

/** The unreleased resources of an executor. */
export interface Held {
  /** Values uploaded or returned and not yet released. */
  values: number;
  /** Functions compiled and not yet disposed of. */
  functions: number;
  /** The largest number of such functions at a time. */
  mostFunctions: number;
  /** Number of compilations so far. */
  compiled: number;
}

/** Wraps an executor to count its unreleased resources. */
export function counted<V>(executor: Executor<V>): { executor: Executor<V>; held: Held } {
  const held: Held = { values: 0, functions: 0, mostFunctions: 0, compiled: 0 };
  const counting: Executor<V> = {
    ...executor,
    upload(tensor) {
      held.values++;
      return executor.upload(tensor);
    },
    release(value) {
      held.values--;
      executor.release(value);
    },
    async compile(fn, specs) {
      const made = await executor.compile(fn, specs);
      held.compiled++;
      held.functions++;
      held.mostFunctions = Math.max(held.mostFunctions, held.functions);
      return {
        ...made,
        async run(inputs) {
          const outputs = await made.run(inputs);
          held.values += Object.keys(outputs).length;
          return outputs;
        },
        async dispose() {
          await made.dispose();
          held.functions--;
        },
      };
    },
  };
  return { executor: counting, held };
}
