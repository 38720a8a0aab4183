import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { allLayers, tensorsOf } from '../adapter/peft-model.js';
import type { Batch, Scope } from '../contracts/model.js';
import { TrainingError } from '../errors.js';
import { modelInputs } from '../runtime/inputs.js';
import { identityOf } from '../runtime/leases.js';
import { releaseAll, uploadAll } from '../runtime/program.js';
import type { ForwardPass } from '../runtime/runtime.js';
import { floats } from '../tensors.js';
import { downloadPass } from './evaluate.js';
import type { Run } from './run.js';
import type { StepReport } from './steps.js';

/**
 * Checks the numbers of the step just taken.
 * @param batches those of the step, as the runtime's model reads them
 * @throws TrainingError for a loss, an objective or a gradient that is not finite.
 */
export async function assertFinite(run: Run, report: StepReport, batches: readonly Batch[]): Promise<void> {
  const { objective, gradientNorms } = report;
  if (Number.isFinite(objective) && Object.values(gradientNorms).every(Number.isFinite)) return;
  const { step } = run.progress;
  const isFirst = step === 1 && run.stepsBefore === 0;
  const fault = isFirst ? `, before any update: ${await firstFault(run, report, batches)}` : `: ${laterFault(report)}`;
  throw new TrainingError(`step ${step}${fault}`, String(step));
}

function stateOf({ loss, objective }: StepReport): string {
  return Number.isFinite(loss) ? `objective is ${objective}` : `loss is ${loss}`;
}

function laterFault(report: StepReport): string {
  const largest = Object.entries(report.gradientNorms)
    .sort(([, a], [, b]) => (Number.isNaN(b) ? 1 : 0) - (Number.isNaN(a) ? 1 : 0) || b - a)
    .map(([name, norm]) => `${name} (${norm.toPrecision(3)})`);
  return `the ${stateOf(report)}; the largest gradients are of ${firstOf(largest)}. Lower the learning rate or clip the gradients`;
}

/** What is at fault in a step before which nothing was updated: no learning rate has had an effect. */
async function firstFault(run: Run, report: StepReport, batches: readonly Batch[]): Promise<string> {
  const { loss, objective, gradientNorms } = report;
  const { method, layers } = run.steps.adapter;
  if (!Number.isFinite(loss)) {
    const modules = await brokenModules(run, batches);
    const where =
      modules.length > 0
        ? `the first outputs that are not finite are those of ${firstOf(modules)}: check the weights and adapter there`
        : "all outputs are finite without dropout: check the loss and the data's labels";
    return `the ${stateOf(report)}, so the forward pass is at fault; ${where}`;
  }
  if (!Number.isFinite(objective)) {
    return `the ${stateOf(report)}, but the loss on the data is ${loss}: check the terms that ${method.name} adds to it`;
  }
  const [all, own] = [Object.keys(gradientNorms), new Set(tensorsOf(layers).map(({ key }) => key))];
  const broken = all.filter((key) => !Number.isFinite(gradientNorms[key]));
  const isOnlyOwn = broken.length < all.length && broken.every((key) => own.has(key));
  const which = `${broken.length} of ${all.length} gradients are not finite, first of ${firstOf(broken)}`;
  const at = isOnlyOwn
    ? `only those of the adapter: check ${method.name} and the model`
    : `check ${method.name}, the model and the loss`;
  return `the loss is ${loss}, so the gradient is at fault; ${which}; ${at} for a root, norm, quotient or logarithm at 0`;
}

/** The number of names in a message. */
const NAMED = 3;

function firstOf(names: readonly string[]): string {
  return names.slice(0, NAMED).join(', ');
}

/** Returns the modules whose outputs are not finite before the first step, in the order in which the model runs them. */
async function brokenModules({ runtime, steps }: Run, batches: readonly Batch[]): Promise<string[]> {
  const { executor, model } = runtime;
  const { adapter } = steps;
  const layers = allLayers(adapter);
  const paths: string[] = [];
  const pass: ForwardPass = {
    name: `magnitudes ${identityOf(paths)}`, // a kept program would fill the paths of an earlier call
    compute(scope, inputs) {
      const magnitudes: Tensor[] = [];
      paths.length = 0; // executors may trace this several times
      model.forward(
        watched(scope, (path, output) => {
          paths.push(path);
          magnitudes.push(tf.mean(tf.abs(output)));
        }),
        inputs,
      );
      return { outputs: tf.stack(magnitudes) };
    },
  };
  const values = uploadAll(executor, adapter.values);
  try {
    for (const batch of batches) {
      const inputs = modelInputs(model, layers, batch);
      const found = floats(await downloadPass(runtime, layers, values, pass, { inputs, rows: {} }, batch));
      const broken = paths.filter((_, at) => !Number.isFinite(found[at]));
      if (broken.length > 0) return broken;
    }
    return [];
  } finally {
    releaseAll(executor, values);
  }
}

/** Returns a scope that reports the output of every module. */
function watched(scope: Scope, report: (path: string, output: Tensor) => void): Scope {
  const seen = (path: string, output: Tensor): Tensor => {
    report(path, output);
    return output;
  };
  return {
    ...scope,
    linear: (path, x) => seen(path, scope.linear(path, x)),
    embedding: (path, ids) => seen(path, scope.embedding(path, ids)),
    layerNorm: (path, x, epsilon) => seen(path, scope.layerNorm(path, x, epsilon)),
    rmsNorm: (path, x, epsilon, offset) => seen(path, scope.rmsNorm(path, x, epsilon, offset)),
  };
}
