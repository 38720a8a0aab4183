import { forward } from '../adapter/scope.js';
import { allLayers, type Adapter } from '../adapter/peft-model.js';
import { TrainingError } from '../errors.js';
import type { Executor, PureFunction } from '../contracts/executor.js';
import type { Batch, Model } from '../contracts/model.js';
import { mapValues } from '../records.js';
import { floats, type HostTensor, type HostTensors, type TensorSpec } from '../tensors.js';
import { cachingCompiler } from './compiler.js';
import { frozenWeights, layerSpecs, modelInputs, specsOf } from './feeds.js';
import { flatten, unflatten, type Groups } from './groups.js';
import { stepContext, trainedTensors, trainStep, type StepDefinition } from './step.js';

/** Values of an executor by name. */
export type Values = Record<string, unknown>;

/** What a training run carries from step to step, as values of its executor. */
export interface TrainingState {
  adapter: Values;
  moment1: Values;
  moment2: Values;
}

/** How the model is trained, apart from the model and its adapter. */
export type StepSettings = Pick<StepDefinition, 'objective' | 'optimizer' | 'clipNorm' | 'unclippedGroups'>;

/** What one step reports. */
export interface StepReport {
  readonly loss: number;
  readonly objective: number;
  /** Norm of each trained tensor's gradient before clipping, by name. */
  readonly gradientNorms: Readonly<Record<string, number>>;
}

/**
 * A model with one set of layers on an executor: frozen weights uploaded once, functions compiled once for each shape of
 * batch. What it holds is given up by `dispose`.
 */
export interface Session {
  readonly executor: Executor;
  /** Milliseconds spent compiling so far. */
  compileMs(): number;
  upload(tensors: HostTensors): Values;
  download(values: Values): Promise<HostTensors>;
  release(values: Values): void;
  /** Outputs `[batch, classes]` of a batch. `rows`: whose rows they are, where adapters share the batch. */
  predict(adapter: Values, batch: Batch, rows?: HostTensors): Promise<HostTensor>;
  /** One training step; `state` moves on to the new values. */
  step(settings: StepSettings, state: TrainingState, batch: Batch, scalars: HostTensors): Promise<StepReport>;
  dispose(): Promise<void>;
}

/** Opens a session. */
export function openSession(model: Model, parts: Pick<Adapter, 'layers' | 'saved'>, executor: Executor): Session {
  const layers = allLayers(parts);
  const frozenAtRest = frozenWeights(model, layers);
  const specs = { ...layerSpecs(layers), frozen: specsOf(frozenAtRest) };
  const compiler = cachingCompiler(executor);
  const { upload, download, release } = transfers(executor);
  const frozen = upload(frozenAtRest);
  const trained = trainedTensors(layers);

  const predict: Session['predict'] = async (adapter, batch, rows = {}) => {
    const inputs = modelInputs(model, layers, batch);
    const shapes = { inputs: specsOf(inputs), scalars: specsOf(rows), frozen: specs.frozen, adapter: specs.all };
    const compiled = await compiler.get('predict', shapes, (flat) => {
      const { scalars, ...tensors } = unflatten(flat, ['inputs', 'scalars', 'frozen', 'adapter']);
      return { outputs: forward(model, layers, tensors, stepContext(scalars, 0, false)) };
    });
    const fed = { inputs: upload(inputs), scalars: upload(rows) };
    const result = await compiled.run(flatten<unknown>({ ...fed, frozen, adapter }));
    const { outputs } = await download(result);
    release({ ...flatten<unknown>(fed), ...result });
    return outputs as HostTensor;
  };

  const step: Session['step'] = async (settings, state, batch, scalars) => {
    const batchInputs = modelInputs(model, layers, batch);
    const labels = { labels: batch.labels, rowWeights: batch.rowWeights };
    const shapes: Groups<TensorSpec> = {
      inputs: specsOf(batchInputs),
      labels: specsOf(labels),
      frozen: specs.frozen,
      adapter: specs.all,
      moment1: specs.trained,
      moment2: specs.trained,
      scalars: specsOf(scalars),
    };
    const definition = { model, layers, adapted: Object.keys(parts.layers).length, ...settings };
    const compiled = await compiler.get('step', shapes, (flat) => flatStep(definition, flat));
    const fed = { inputs: upload(batchInputs), labels: upload(labels), scalars: upload(scalars) };
    const result = await compiled.run(flatten<unknown>({ ...fed, frozen, ...state }));
    const next = unflatten(result, ['report', 'adapter', 'moment1', 'moment2']);
    for (const kind of ['adapter', 'moment1', 'moment2'] as const) {
      release(Object.fromEntries(Object.keys(next[kind]).map((name) => [name, state[kind][name]])));
      Object.assign(state[kind], next[kind]);
    }
    const { loss, objective, gradientNorms } = await download(next.report);
    release(flatten<unknown>({ ...fed, report: next.report }));
    const norms = gradientNorms as HostTensor;
    return {
      loss: scalarOf(loss),
      objective: scalarOf(objective),
      gradientNorms: Object.fromEntries(trained.map(({ key }, index) => [key, floats(norms)[index] as number])),
    };
  };

  return {
    executor,
    compileMs: compiler.milliseconds,
    upload,
    download,
    release,
    predict,
    step,
    async dispose() {
      release(frozen);
      await compiler.dispose();
    },
  };
}

/** The step between flat records: what an executor compiles. */
function flatStep(definition: StepDefinition, flat: Parameters<PureFunction>[0]): ReturnType<PureFunction> {
  const groups = unflatten(flat, ['inputs', 'labels', 'frozen', 'adapter', 'moment1', 'moment2', 'scalars']);
  const { labels, rowWeights } = groups.labels;
  if (!labels || !rowWeights) throw new TrainingError('a step needs labels and row weights');
  const { loss, objective, gradientNorms, ...state } = trainStep(definition, { ...groups, labels, rowWeights });
  return flatten({
    report: { loss, objective, gradientNorms },
    adapter: state.adapter,
    moment1: state.moment1,
    moment2: state.moment2,
  });
}

function transfers(executor: Executor): Pick<Session, 'upload' | 'download' | 'release'> {
  return {
    upload: (tensors) => mapValues(tensors, (tensor) => executor.upload(tensor)),
    async download(values) {
      const tensors: HostTensors = {};
      for (const [name, value] of Object.entries(values)) tensors[name] = await executor.download(value);
      return tensors;
    },
    release(values) {
      for (const value of Object.values(values)) if (value !== undefined) executor.release(value);
    },
  };
}

function scalarOf(tensor: HostTensor | undefined): number {
  return tensor?.data[0] ?? NaN;
}
