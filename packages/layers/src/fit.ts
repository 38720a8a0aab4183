import { ConfigError, type AdapterLayers } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import type { Optimizer, Tensor } from '@tensorflow/tfjs';
import type { Attachment } from './attachment.js';
import { assertClasses, learnsClasses } from './labels.js';
import { runFor, warnIfUnfinished, type FitOptions, type Run } from './run.js';
import { oneStep } from './step.js';
import { trainerOf, wrapMethod } from './tfjs-layers.js';

type Data = Parameters<tf.LayersModel['fit']>[0];
type FitArgs = NonNullable<Parameters<tf.LayersModel['fit']>[2]>;

/** The adapter layers that each optimizer has trained. */
type TrainedBy = WeakMap<Optimizer, AdapterLayers>;

type Minimize = Optimizer['minimize'];

/**
 * The steps of the training calls in progress, in the order in which these began; the last one is taken. Several are in
 * progress if they are not awaited, and they need not end in reverse order.
 */
const replacedSteps = new WeakMap<Optimizer, { readonly steps: Minimize[]; readonly restore: () => void }>();

/** The default batch size of `fit` in tfjs-layers. */
const BATCH_SIZE = 32;

/** Makes `fit`, `fitDataset` and `trainOnBatch` of a model train its adapters. @returns Functions that undo it. */
export function trainByFit(attachment: Attachment, options: FitOptions): (() => void)[] {
  const { model } = attachment;
  const training = trainingOf(attachment, options);
  return [
    wrapMethod(model, 'fit', (fit) => async (x, y, args) => {
      await assertClasses(model, y);
      return training(stepsOf(x, args ?? {}), () => fit(x, y, args));
    }),
    wrapMethod(
      model,
      'fitDataset',
      (fitDataset) => (dataset, args) =>
        training(epochsOf(args) * (args.batchesPerEpoch ?? (dataset.size as number | null) ?? NaN), () =>
          fitDataset(learnsClasses(model) ? checked(model, dataset) : dataset, args),
        ),
    ),
    wrapMethod(model, 'trainOnBatch', (trainOnBatch) => async (x, y) => {
      await assertClasses(model, y);
      return training(undefined, () => trainOnBatch(x, y));
    }),
  ];
}

/** Returns the same batches, and checks the labels of each before it is used. */
function checked<D>(model: tf.LayersModel, dataset: D): D {
  const batches = dataset as unknown as tf.data.Dataset<tf.TensorContainer>;
  return batches.mapAsync(async (batch) => {
    await assertClasses(model, (batch as { readonly ys: Tensor }).ys);
    return batch;
  }) as unknown as D;
}

/** Returns a function that runs a training call of the model with this package's steps. */
function trainingOf(attachment: Attachment, options: FitOptions) {
  const known: TrainedBy = new WeakMap();
  let run: Run | undefined;
  return async <T>(steps: number | undefined, call: () => Promise<T>): Promise<T> => {
    const optimizer = trainerOf(attachment.model)?.optimizer_;
    if (!optimizer) return call(); // says that the model is not compiled
    const current = (run = runFor(attachment, options, run, Number.isFinite(steps) ? steps : undefined));
    assertFits(optimizer, known, current);
    const undo = replaceStep(optimizer, (loss) => oneStep(attachment, current, optimizer, loss));
    try {
      const result = await call();
      if (!options.plan?.totalSteps) warnIfUnfinished(current);
      return result;
    } finally {
      undo();
    }
  };
}

/** Replaces an optimizer's step. @returns a function that puts the former one back; such calls may end in any order. */
function replaceStep(optimizer: Optimizer, step: Minimize): () => void {
  const steps: Minimize[] = [];
  const replaced = replacedSteps.get(optimizer) ?? {
    steps,
    restore: wrapMethod(optimizer, 'minimize', () => (loss) => (steps.at(-1) as Minimize)(loss)),
  };
  replacedSteps.set(optimizer, replaced);
  replaced.steps.push(step);
  return () => {
    replaced.steps.splice(replaced.steps.indexOf(step), 1);
    if (replaced.steps.length > 0) return;
    replacedSteps.delete(optimizer);
    replaced.restore();
  };
}

/**
 * An optimizer identifies its moments by the order of the weights, so it would mix them up after training other
 * weights.
 * @throws ConfigError for such an optimizer.
 */
function assertFits(optimizer: Optimizer, known: TrainedBy, { layers }: Run): void {
  if (known.get(optimizer) === layers) return;
  if (optimizer.iterations > 0 && optimizer.getClassName() !== 'SGD') {
    throw new ConfigError(
      `the optimizer ${optimizer.getClassName()} has moments of other weights: compile the model with a new one`,
      'optimizer',
    );
  }
  known.set(optimizer, layers);
}

/** Returns the number of steps in a call of `fit`. */
function stepsOf(x: Data, args: FitArgs): number {
  const [first] = (x instanceof tf.Tensor ? [x] : Object.values(x)) as [Tensor];
  const { batchSize = BATCH_SIZE, validationData, validationSplit = 0 } = args;
  const [rows = 0] = first.shape;
  const trained = validationData ? rows : Math.floor(rows * (1 - validationSplit));
  return epochsOf(args) * Math.ceil(trained / batchSize);
}

function epochsOf({ epochs = 1, initialEpoch = 0 }: { epochs?: number; initialEpoch?: number }): number {
  return epochs - initialEpoch;
}
