import { TrainingError } from '../errors.js';
import type { PureFunction } from '../contracts/executor.js';
import type { AdapterLayers } from '../contracts/method.js';
import type { Batch, Model } from '../contracts/model.js';
import {
  floats,
  hostScalar,
  hostZeros,
  mapValues,
  type HostTensor,
  type HostTensors,
  type Tensors,
  type TensorSpec,
} from '../tensors.js';
import type { cachingCompiler } from './compiler.js';
import { modelInputs, specsOf } from './feeds.js';
import { flatten, unflatten, type Groups } from './groups.js';
import { lossWeight } from './loss.js';
import type { Session, StepReport, StepSettings, TrainingState, Values } from './session.js';
import {
  addPart,
  advance,
  trainedTensors,
  trainStep,
  type PartSums,
  type StepDefinition,
  type StepInputs,
  type StepOutputs,
} from './step.js';

/** A batch of a training step, or one of several that make one up, with random numbers of its own. */
export interface StepPart {
  readonly batch: Batch;
  /** As `drawNoise` gives it. */
  readonly noise: HostTensors;
}

/** What training steps are taken with. */
export interface Stepping extends Pick<Session, 'upload' | 'download' | 'release'> {
  readonly model: Model;
  readonly layers: AdapterLayers;
  /** Number of the adapter's own layers. */
  readonly adapted: number;
  readonly compiler: ReturnType<typeof cachingCompiler>;
  readonly frozen: Values;
  readonly specs: Readonly<Record<'all' | 'trained' | 'frozen', Readonly<Record<string, TensorSpec>>>>;
}

/** One training step on the batches of `parts`, as if they were one; `state` moves on to the new values. */
export async function takeStep(
  at: Stepping,
  settings: StepSettings,
  state: TrainingState,
  parts: readonly StepPart[],
  scalars: HostTensors,
): Promise<StepReport> {
  const definition = { model: at.model, layers: at.layers, adapted: at.adapted, ...settings };
  const [first, ...others] = parts;
  if (!first) throw new TrainingError('a step needs a batch');
  const result =
    others.length === 0
      ? await wholeStep(at, definition, state, first, scalars)
      : await stepInParts(at, definition, state, parts, scalars);
  const next = unflatten(result, ['report', 'adapter', 'moment1', 'moment2']);
  for (const kind of ['adapter', 'moment1', 'moment2'] as const) {
    at.release(Object.fromEntries(Object.keys(next[kind]).map((name) => [name, state[kind][name]])));
    Object.assign(state[kind], next[kind]);
  }
  const report = await at.download(next.report);
  at.release(next.report);
  return reportOf(at.layers, report);
}

/** Everything in one graph. */
async function wholeStep(
  at: Stepping,
  definition: StepDefinition,
  state: TrainingState,
  { batch, noise }: StepPart,
  scalars: HostTensors,
): Promise<Values> {
  const fed = { ...batchTensors(at, batch), scalars: { ...scalars, ...noise } };
  const shapes = { ...mapValues(fed, specsOf), frozen: at.specs.frozen, ...stateSpecs(at) };
  return runFed(at, 'step', { fed, shapes, held: { frozen: at.frozen, ...state } }, (flat) => {
    const groups = unflatten(flat, ['inputs', 'labels', 'frozen', 'adapter', 'moment1', 'moment2', 'scalars']);
    return flatOutputs(trainStep(definition, { ...groups, ...labelsOf(groups.labels) }));
  });
}

/** Gradients part by part, summed by what each part counts, then the rest of the step. */
async function stepInParts(
  at: Stepping,
  definition: StepDefinition,
  state: TrainingState,
  parts: readonly StepPart[],
  scalars: HostTensors,
): Promise<Values> {
  const weights = parts.map(({ batch }) => lossWeight(definition.objective, batch));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const zeros = {
    sums: { loss: hostScalar(0), objective: hostScalar(0) },
    gradients: mapValues(at.specs.trained, ({ shape }) => hostZeros(shape)),
  };
  const sumSpecs = mapValues(zeros, specsOf);
  let sums: Groups<unknown> = mapValues(zeros, at.upload);
  for (const [index, { batch, noise }] of parts.entries()) {
    const share = total === 0 ? 1 / parts.length : (weights[index] as number) / total;
    const fed = {
      ...batchTensors(at, batch),
      scalars: { ...scalars, ...noise },
      part: { share: hostScalar(share) },
    };
    const shapes = { ...mapValues(fed, specsOf), frozen: at.specs.frozen, adapter: at.specs.all, ...sumSpecs };
    const held = { frozen: at.frozen, adapter: state.adapter, ...sums };
    const next = await runFed(at, 'part of a step', { fed, shapes, held }, (flat) => flatPart(definition, flat));
    at.release(flatten(sums));
    sums = unflatten(next, ['sums', 'gradients']);
  }
  const fed = { scalars };
  const shapes = { ...mapValues(fed, specsOf), ...stateSpecs(at), ...sumSpecs };
  const result = await runFed(at, 'end of a step', { fed, shapes, held: { ...state, ...sums } }, (flat) =>
    flatEnd(definition, flat),
  );
  at.release(flatten(sums));
  return result;
}

function flatPart(definition: StepDefinition, flat: Parameters<PureFunction>[0]): ReturnType<PureFunction> {
  const groups = unflatten(flat, ['inputs', 'labels', 'frozen', 'adapter', 'scalars', 'part', 'sums', 'gradients']);
  const { share } = groups.part;
  if (!share) throw new TrainingError('a part of a step needs its share');
  const sums = { ...lossesOf(groups.sums), gradients: groups.gradients };
  const { gradients, ...losses } = addPart(definition, { ...groups, ...labelsOf(groups.labels), share, sums });
  return flatten({ sums: losses, gradients });
}

function flatEnd(definition: StepDefinition, flat: Parameters<PureFunction>[0]): ReturnType<PureFunction> {
  const groups = unflatten(flat, ['adapter', 'moment1', 'moment2', 'scalars', 'sums', 'gradients']);
  return flatOutputs(advance(definition, groups, { ...lossesOf(groups.sums), gradients: groups.gradients }));
}

/** Compiles what it has not compiled, and runs it on tensors that are fed and given up, and values that are held. */
async function runFed(
  { compiler, upload, release }: Stepping,
  purpose: string,
  given: {
    readonly fed: Groups<HostTensor>;
    readonly shapes: Groups<TensorSpec>;
    readonly held: Groups<unknown>;
  },
  fn: PureFunction,
): Promise<Values> {
  const compiled = await compiler.get(purpose, given.shapes, fn);
  const fed = mapValues(given.fed, upload);
  const result = await compiled.run(flatten<unknown>({ ...fed, ...given.held }));
  release(flatten<unknown>(fed));
  return result;
}

function batchTensors({ model, layers }: Stepping, batch: Batch): Record<'inputs' | 'labels', HostTensors> {
  const { labels, rowWeights } = batch;
  return { inputs: modelInputs(model, layers, batch), labels: { labels, rowWeights } };
}

function stateSpecs({ specs: { all, trained } }: Stepping): Groups<TensorSpec> {
  return { adapter: all, moment1: trained, moment2: trained };
}

function labelsOf({ labels, rowWeights }: Tensors): Pick<StepInputs, 'labels' | 'rowWeights'> {
  if (!labels || !rowWeights) throw new TrainingError('a step needs labels and row weights');
  return { labels, rowWeights };
}

function lossesOf({ loss, objective }: Tensors): Pick<PartSums, 'loss' | 'objective'> {
  if (!loss || !objective) throw new TrainingError('a step needs the losses of its parts');
  return { loss, objective };
}

/** The step between flat records: what an executor compiles. */
function flatOutputs({ loss, objective, gradientNorms, ...state }: StepOutputs): Tensors {
  return flatten({ report: { loss, objective, gradientNorms }, ...state });
}

function reportOf(layers: AdapterLayers, { loss, objective, gradientNorms }: HostTensors): StepReport {
  const norms = floats(gradientNorms as HostTensor);
  return {
    loss: loss?.data[0] ?? NaN,
    objective: objective?.data[0] ?? NaN,
    gradientNorms: Object.fromEntries(trainedTensors(layers).map(({ key }, index) => [key, norms[index] as number])),
  };
}
