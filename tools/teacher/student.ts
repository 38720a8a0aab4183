import {
  activeAdapter,
  activeRanks,
  attach,
  train,
  type Executor,
  type Model,
  type PeftModel,
  type TrainingData,
} from '@peftjs/core';
import { createRng } from '@peftjs/core/method';
import type { Loss } from '@peftjs/core/runtime';
import * as tf from '@tensorflow/tfjs-core';
import { configuredArm, RATE, type Arm } from './arms.js';
import { adaptedModules } from './encoder.js';
import { measured, type Measured } from './measured.js';
import { oracleRanks } from './oracle.js';
import type { Ranks } from './allocations.js';
import { batchesOf, labelledBatch, logitsOf, type LabelKind, type Rows } from './rows.js';
import type { Task } from './tasks.js';

/** The result of a student. */
export interface Outcome extends Measured {
  /** The kept rank of every module. */
  readonly ranks: Ranks;
  /** Seconds of training and measuring. */
  readonly seconds: number;
}

/** The length and the seed of a student's training. */
export interface StudentSettings {
  /** Number of training steps. */
  readonly steps: number;
  /** The seed of its initial values and of the order of the rows. */
  readonly seed: number;
}

/** After each round, the oracle trains for the student's steps divided by this. */
const RELEARNT = 4;
const BATCH = 64;

/** Trains an arm on a task and measures it. */
export async function runStudent(
  model: Model,
  task: Task,
  arm: Arm,
  { steps, seed }: StudentSettings,
  executor: Executor,
): Promise<Outcome> {
  const started = performance.now();
  const { labels } = task.settings;
  const peft = attach(model, configuredArm(arm, adaptedModules(model), task.ranks), { seed });
  const learn = async (steps: number): Promise<void> => {
    await train(peft, trainingData(task.training, labels, steps, seed), {
      ...arm.training,
      executor,
      epochs: 1,
      learningRate: arm.learningRate ?? RATE,
      ...(arm.learningRates && { learningRates: arm.learningRates }),
      ...(labels === 'logits' && { loss: logitError(task.signal) }),
    });
  };
  await learn(steps);
  const relearn = (): Promise<void> => learn(Math.ceil(steps / RELEARNT));
  const ranks = arm.knows === 'oracle' ? await oracleRanks(peft, task, executor, relearn) : ranksOf(peft);
  return {
    ranks: Object.fromEntries(Object.keys(task.ranks).map((path) => [path, ranks[path] ?? 0])),
    ...measured(await logitsOf(peft, task.test.ids, executor), task.test, task),
    seconds: (performance.now() - started) / 1000,
  };
}

function ranksOf(peft: PeftModel): Ranks {
  const { layers, values } = activeAdapter(peft);
  return activeRanks(layers, values);
}

/**
 * Returns the loss (output - label)^2 / signal of outputs `[batch, outputs]` and labels `[batch, 1, outputs]`, averaged
 * over outputs and weighted rows. Like a cross-entropy it starts near one, the scale that the loss terms of methods
 * assume.
 */
export function logitError(signal: number): Loss {
  return {
    name: 'logit-error',
    settings: { signal },
    loss(outputs, { labels, rowWeights }) {
      const errors = tf.mean(tf.squaredDifference(outputs, tf.squeeze(labels, [1])), -1); // [batch]
      const total = tf.maximum(tf.sum(rowWeights), 1e-12);
      return tf.div(tf.sum(tf.mul(errors, rowWeights)), tf.mul<tf.Scalar>(total, signal));
    },
  };
}

/** Returns data with one epoch of `steps` steps: all rows in a seeded order, reshuffled and repeated as needed. */
function trainingData(
  rows: Rows,
  labels: LabelKind,
  steps: number,
  seed: number,
  kept?: readonly number[],
): TrainingData {
  const numbers = kept ?? [...rows.ids.keys()];
  const rng = createRng(seed).fork('order');
  return {
    kind: labels === 'classes' ? 'classification' : 'regression',
    batchesPerEpoch: steps,
    epoch() {
      const order: number[] = [];
      for (let round = 0; order.length < steps * BATCH; round++) {
        for (const at of rng.fork(String(round)).permutation(numbers.length)) order.push(numbers[at] as number);
      }
      return batchesOf(order.slice(0, steps * BATCH), BATCH, (own) => labelledBatch(own, rows, labels));
    },
    holdOut(count) {
      const drawn = [...rng.fork('held out').permutation(numbers.length)].map((at) => numbers[at] as number);
      return {
        rest: trainingData(rows, labels, steps, seed, drawn.slice(count)),
        heldOut: batchesOf(drawn.slice(0, count), BATCH, (own) => labelledBatch(own, rows, labels)),
      };
    },
  };
}
