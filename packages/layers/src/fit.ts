import { ConfigError, type AdapterLayers } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import type { Optimizer, Tensor } from '@tensorflow/tfjs';
import type { Attachment } from './attachment.js';
import { assertClasses, learnsClasses } from './labels.js';
import { runFor, warnIfUnfinished, type FitOptions, type Run } from './run.js';
import { oneStep } from './step.js';
import { replaceMethod, trainerOf, updateTrainableWeights, type Trainer } from './tfjs-layers.js';

type Data = Parameters<tf.LayersModel['fit']>[0];
type FitArgs = NonNullable<Parameters<tf.LayersModel['fit']>[2]>;

/** The adapter layers that each optimizer has trained. */
type TrainedBy = WeakMap<Optimizer, AdapterLayers>;

/** The default batch size of `fit` in tfjs-layers. */
const BATCH_SIZE = 32;

/** Makes `fit`, `fitDataset` and `trainOnBatch` of a model train its adapters. @returns A function that undoes it. */
export function trainByFit(attachment: Attachment, options: FitOptions): () => void {
  const { model } = attachment;
  const training = trainingOf(attachment, options);
  const [fit, fitDataset, trainOnBatch] = [
    model.fit.bind(model),
    model.fitDataset.bind(model),
    model.trainOnBatch.bind(model),
  ];
  const undoing = [
    replaceMethod(model, 'fit', async (x, y, args) => {
      await assertClasses(model, y);
      return training(stepsOf(x, args ?? {}), () => fit(x, y, args));
    }),
    replaceMethod(model, 'fitDataset', (dataset, args) =>
      training(epochsOf(args) * (args.batchesPerEpoch ?? (dataset.size as number | null) ?? NaN), () =>
        fitDataset(learnsClasses(model) ? checked(model, dataset) : dataset, args),
      ),
    ),
    replaceMethod(model, 'trainOnBatch', async (x, y) => {
      await assertClasses(model, y);
      return training(undefined, () => trainOnBatch(x, y));
    }),
  ];
  return () => {
    for (const undo of undoing) undo();
  };
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
    const trainer = trainerOf(attachment.model);
    if (!trainer) return call();
    updateTrainableWeights(attachment.model);
    const makeTrainFunction = trainer.makeTrainFunction.bind(trainer);
    const undo = replaceMethod(trainer, 'makeTrainFunction', () => {
      const current = runFor(attachment, options, run, Number.isFinite(steps) ? steps : undefined);
      run = current;
      const train = makeTrainFunction();
      return (data) => inSteps(attachment, trainer, known, current, () => train(data));
    });
    try {
      const result = await call();
      if (run && !options.plan?.totalSteps) warnIfUnfinished(run);
      return result;
    } finally {
      undo();
      updateTrainableWeights(attachment.model);
    }
  };
}

/** Runs the model's train function with an optimizer that does this package's step. */
function inSteps<T>(attachment: Attachment, trainer: Trainer, known: TrainedBy, run: Run, train: () => T): T {
  const optimizer = trainer.optimizer_ as Optimizer;
  assertFits(optimizer, known, run);
  trainer.collectedTrainableWeights = []; // not needed by our step, and possibly of another adapter
  trainer.optimizer_ = { minimize: (loss) => oneStep(attachment, run, optimizer, loss) };
  try {
    return train();
  } finally {
    trainer.optimizer_ = optimizer;
  }
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
