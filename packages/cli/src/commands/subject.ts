import { CheckpointError, ConfigError } from '@peftjs/core/method';
import { isChatConfig, problemTypeIn, readAdapterConfig, taskIn, type Task } from '@peftjs/core/model';
import { isHubId, openFolder } from '@peftjs/models';
import { findPackage } from '../registry/packages.js';
import { aroundGraph, isAdapter, settingsIn } from './inspect.js';

/** The heads of transformers: the end of a class's name, the task of its models, and the pipeline for them. */
const HEADS = [
  { ending: /ForSequenceClassification$/, task: 'sequence-classification', pipeline: 'text-classification' },
  { ending: /ForImageClassification$/, task: 'sequence-classification', pipeline: 'image-classification' },
  { ending: /ForTokenClassification$/, task: 'token-classification', pipeline: 'token-classification' },
  { ending: /(?:ForCausalLM|LMHeadModel)$/, task: 'causal-lm', pipeline: 'text-generation' },
  { ending: /Model$/, task: 'feature-extraction', pipeline: 'feature-extraction' },
] as const satisfies readonly { ending: RegExp; task: Task; pipeline: string }[];

/** The tasks of `predict`, under the names of transformers' pipelines. */
export type PredictTask = (typeof HEADS)[number]['pipeline'];
export const PREDICT_TASKS: readonly PredictTask[] = HEADS.map(({ pipeline }) => pipeline);

/** What makes predictions. */
export interface Subject {
  /** The adapter or model: a folder or a hub id. */
  readonly source: string;
  /** The task it was trained for. */
  readonly task: PredictTask;
  /** Whether a text can have several labels at once. */
  readonly isMultiLabel: boolean;
  /** Whether it was trained on conversations. */
  readonly isChat: boolean;
}

/** The options that decide a task. */
interface Given {
  /** The task, if the user names it. */
  readonly task?: PredictTask;
  /** The base model, if it is not the one that the adapter names. */
  readonly model?: string | undefined;
}

/**
 * Finds the task of an adapter, or of a model's head.
 * @throws CheckpointError if nothing has that name, ConfigError for a model that does not show its task, and for an
 * adapter with another one.
 */
export async function subjectOf(source: string, { task: wanted, model }: Given): Promise<Subject> {
  if (source.endsWith('.gguf'))
    return { source, task: wanted ?? 'text-generation', isMultiLabel: false, isChat: false };
  const folder = await openFolder(source);
  const isOne = await isAdapter(folder);
  const isThere = await folder.storage.exists(folder.path);
  if (!isOne && !isThere && !isHubId(source) && findPackage(source) === undefined) {
    throw new CheckpointError(`${source}: there is no such folder; expected an adapter or a model`, source);
  }
  const config = isOne
    ? await readAdapterConfig(folder.path, folder.storage)
    : await settingsIn(aroundGraph(folder), 'config.json');
  const task = wanted ?? (isOne ? await adapterPipeline(config, source, model) : headOf(config)?.pipeline);
  const isMultiLabel = problemTypeIn(config['problem_type']) === 'multi_label_classification';
  if (task) return { source, task, isMultiLabel, isChat: isChatConfig(config) };
  const { path, storage } = aroundGraph(folder);
  const lacks = isThere && !(await storage.exists(`${path}/config.json`));
  const found = lacks
    ? 'has neither adapter_config.json (an adapter) nor config.json (a model); if it is a model, give its task'
    : 'is not an adapter, and its config.json does not show its task; give it';
  throw new ConfigError(`${source} ${found} with --task: ${PREDICT_TASKS.join(', ')}`, 'task');
}

async function adapterPipeline(config: Settings, source: string, model?: string): Promise<PredictTask> {
  const task = await taskOfAdapter(config, source, model);
  if (task === 'sequence-classification' && (await isOfImages(config, model))) return 'image-classification';
  return pipelineOf(task);
}

/** The pipeline for texts of a task. */
export function pipelineOf(task: Task): PredictTask {
  return (HEADS.find((head) => head.task === task) ?? HEADS[0]).pipeline;
}

type Settings = Readonly<Record<string, unknown>>;

/**
 * Finds the task of an adapter: its `task_type`. Without one, the class of the model that it was trained on, which PEFT
 * then writes; without that, the head of its base model, where this writes or labels words; else classification.
 * @throws ConfigError for a task that peftjs does not have.
 */
export async function taskOfAdapter(config: Settings, source: string, model?: string): Promise<Task> {
  const { task_type: type, auto_mapping: mapping } = config;
  const own = taskIn(type);
  if (own) return own;
  if (type !== undefined && type !== null) throw foreign(source, `task_type is ${JSON.stringify(type)}`);
  const name = ((mapping ?? {}) as Settings)['base_model_class'];
  const trained = headNamed(name);
  if (trained) return trained.task;
  if (typeof name === 'string' && /For[A-Z]/.test(name)) throw foreign(source, `model is a ${name}`);
  const base = await baseFolder(config, model);
  const head = base && headOf(await settingsIn(base, 'config.json'));
  return head?.task === 'causal-lm' || head?.task === 'token-classification' ? head.task : 'sequence-classification';
}

function foreign(source: string, found: string): ConfigError {
  return new ConfigError(
    `${source}: its ${found}; expected an adapter for the task ${[...new Set(HEADS.map(({ task }) => task))].join(', ')}`,
    'task_type',
  );
}

function headOf({ architectures }: Settings): (typeof HEADS)[number] | undefined {
  const [name]: unknown[] = [architectures].flat();
  return headNamed(name);
}

function headNamed(name: unknown): (typeof HEADS)[number] | undefined {
  return HEADS.find(({ ending }) => typeof name === 'string' && ending.test(name));
}

/** Whether the base model of an adapter reads images, whose configuration does not say it. */
async function isOfImages(config: Settings, model: string | undefined): Promise<boolean> {
  const base = await baseFolder(config, model);
  if (base === undefined) return false;
  const has = (file: string): Promise<boolean> => base.storage.exists(`${base.path}/${file}`);
  return (await has('preprocessor_config.json')) && !(await has('tokenizer.json'));
}

/** The folder of an adapter's base model; undefined where there is none to open. */
async function baseFolder({ base_model_name_or_path: named }: Settings, model: string | undefined) {
  const base = model ?? named;
  if (typeof base !== 'string' || base === '') return undefined;
  const folder = await openFolder(base).catch(() => undefined);
  return folder && aroundGraph(folder);
}
