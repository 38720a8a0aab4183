import { loadAdapter, loadPretrained, type Model, type PeftModel } from '@peftjs/core';
import {
  CheckpointError,
  ConfigError,
  describe,
  UnsupportedError,
  type PeftMethod,
  type Site,
} from '@peftjs/core/method';
import {
  firstNames,
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  aReadStorage,
  assertArgument,
  labelsIn,
  outputsOf,
  problemTypeIn,
  readAdapterConfig,
  taskIn,
  type Task,
} from '@peftjs/core/model';
import {
  fromPretrained,
  openFolder,
  type ChatTemplate,
  type Folder,
  type PretrainedModel,
  type PretrainedOptions,
  type Tokenizer,
} from '@peftjs/models';
import { embedderForAdapter, readAdapterTemplate, warnOfOtherPooling } from '@peftjs/models/architectures';
import { bytesSource, openSafetensors } from '@peftjs/safetensors';
import * as v from 'valibot';
import { networkOf, type LoadedModel } from './inference.js';

/**
 * What a pipeline runs: the folder, package or hub ID of an adapter or a model, a model, or a model with adapters, of
 * which the active ones apply.
 */
export type PipelineSource = string | Model | PeftModel;

/** The settings of loading a source. */
export interface SourceSettings {
  /** The methods of the adapters to load. */
  readonly methods: readonly PeftMethod[];
  /** The base model of an adapter. Default: the one named in the adapter's configuration. */
  readonly model?: string | Model | undefined;
  /** Additional adapters by name: folders or hub IDs. */
  readonly adapters: Readonly<Record<string, string>>;
  /** The tokenizer. Default: the model's, with the chat template in an adapter's folder where it has one. */
  readonly tokenizer?: Tokenizer | undefined;
  /** The options of `fromPretrained`. */
  readonly loading: PretrainedOptions;
}

/** A loaded source. */
export interface OpenedSource {
  /** The model, with or without adapters. */
  readonly loadedModel: LoadedModel;
  /** The tokenizer. */
  readonly tokenizer: Tokenizer;
  /** The chat templates in the adapters' folders, by the names of the adapters. */
  readonly templates: ReadonlyMap<string, ChatTemplate>;
}

/** An adapter's folder and its configuration. */
interface Found {
  readonly name: string;
  readonly source: string;
  readonly folder: Folder;
  readonly config: Readonly<Record<string, unknown>>;
}

/** The name of the source's own adapter. */
const DEFAULT = 'default';

/**
 * Loads a source for a task like `pipeline`: a model, or an adapter with its base model, which gets a head like the
 * adapter's.
 * @throws ConfigError for an invalid source, or one for another task.
 * @throws CheckpointError for a missing or broken file.
 * @throws UnsupportedError for a model without a tokenizer.
 */
export async function openSource(task: Task, source: PipelineSource, settings: SourceSettings): Promise<OpenedSource> {
  const { revision: _revision, subfolder: _subfolder, ...loading } = settings.loading; // these two are of the source
  const found = typeof source === 'string' ? await adapterIn(DEFAULT, source, settings.loading) : undefined;
  const others = await namedAdapters(settings.adapters, loading);
  const adapters = [...(found ? [found] : []), ...others];
  for (const adapter of adapters) assertTask(task, adapter);
  const base = found ? baseOf(found, settings.model, loading) : withoutBase(source, settings.model, settings.loading);
  const model = await loaded(task, base, adapters[0]);
  if (typeof base.model === 'string') await assertHead(model as Model, adapters);
  const loadedModel = await withAdapters(model, adapters, settings.methods);
  if (task === 'feature-extraction' && loading.pooling === undefined && loading.normalize === undefined) {
    const unasked = typeof base.model === 'string' ? adapters.slice(1) : adapters; // the first has decided the pooling
    for (const { folder } of unasked) await warnOfOtherPooling(folder, networkOf(loadedModel));
  }
  const tokenizer = settings.tokenizer ?? tokenizerOf(loadedModel);
  const talking = task === 'causal-lm' && settings.tokenizer === undefined ? adapters : [];
  return { loadedModel, tokenizer, templates: await templatesOf(talking, loadedModel, tokenizer) };
}

async function namedAdapters(adapters: SourceSettings['adapters'], loading: PretrainedOptions): Promise<Found[]> {
  const found: Found[] = [];
  for (const [name, source] of Object.entries(adapters)) {
    const adapter = await adapterIn(name, source, loading);
    if (!adapter) {
      throw new CheckpointError(
        `adapter '${name}': expected a folder with ${ADAPTER_CONFIG}, none in ${source}`,
        source,
      );
    }
    found.push(adapter);
  }
  return found;
}

/** Finds the adapter in a folder or on the hub; undefined if there is none. @throws ConfigError for an empty source. */
async function adapterIn(name: string, source: string, loading: PretrainedOptions): Promise<Found | undefined> {
  if (source === '') throw notASource(source);
  assertArgument('storage', loading.storage, v.optional(aReadStorage));
  const { path: top, storage } = await openFolder(source, loading);
  const path = loading.subfolder ? `${top}/${loading.subfolder}` : top;
  if (!(await storage.exists(`${path}/${ADAPTER_CONFIG}`))) return undefined;
  return { name, source, folder: { path, storage }, config: await readAdapterConfig(path, storage) };
}

function notASource(source: unknown): ConfigError {
  return new ConfigError(`expected a folder, a package, a hub id or a model, got ${describe(source)}`, 'source');
}

/** The pipeline of each task. */
const PIPELINES: Readonly<Record<Task, string>> = {
  'sequence-classification': "'text-classification', 'image-classification' or 'text-ranking'",
  'token-classification': "'token-classification'",
  'causal-lm': "'text-generation'",
  'feature-extraction': "'feature-extraction'",
};

/** @throws ConfigError when the adapter's configuration names another task. */
function assertTask(task: Task, { source, config }: Found): void {
  const own = taskIn(config.task_type);
  if (own !== undefined && own !== task) throw otherTask(source, own);
}

function otherTask(name: string, own: Task): ConfigError {
  return new ConfigError(`'${name}' is for ${own}: use the pipeline ${PIPELINES[own]}`, 'task');
}

/** The base model of adapters. */
interface Base {
  readonly model: string | LoadedModel;
  /** The options to load it with if it is not in memory. */
  readonly loading: PretrainedOptions;
  /** The adapter whose configuration names it. */
  readonly of?: string;
}

/** Returns the base model of an adapter. @throws ConfigError when neither the adapter nor the caller names one. */
function baseOf({ source, config }: Found, model: string | Model | undefined, loading: PretrainedOptions): Base {
  const { base_model_name_or_path: named, revision } = config;
  if (model !== undefined) return { model, loading };
  if (typeof named !== 'string' || named === '') {
    throw new ConfigError(`${source} does not name its base model: pass it as 'model' (--model)`, 'model');
  }
  return { model: named, of: source, loading: typeof revision === 'string' ? { ...loading, revision } : loading };
}

function withoutBase(source: PipelineSource, model: string | Model | undefined, loading: PretrainedOptions): Base {
  if (model === undefined) return { model: source, loading };
  throw new ConfigError("option 'model' is the base of an adapter, but the source is not one: omit it", 'model');
}

/** Loads the base model with a head like the adapter's. */
async function loaded(task: Task, base: Base, adapter: Found | undefined): Promise<LoadedModel> {
  const { model, loading } = base;
  if (typeof model !== 'string') {
    assertNotLoaded(loading);
    return fitting(assertModel(task, model), adapter);
  }
  try {
    const options = { ...loading, task };
    if (task === 'feature-extraction' && adapter) return await embedderForAdapter(model, options, adapter.folder);
    return await fitting(await fromPretrained(model, options), adapter, loading);
  } catch (error) {
    throw explained(error, base);
  }
}

/** The options that only apply when a model is loaded. */
const LOADING_OPTIONS = ['labels', 'problemType', 'pooling', 'normalize', 'dtype', 'revision', 'subfolder'] as const;

/** @throws ConfigError when one of them is given. */
function assertNotLoaded(loading: PretrainedOptions): void {
  const odd = LOADING_OPTIONS.find((option) => loading[option] !== undefined);
  if (odd === undefined) return;
  throw new ConfigError(`option '${odd}' is for loading a model, but this one is in memory: omit it`, odd);
}

/** Explains an error for a missing model: which adapter named it, or that the source is not an adapter either. */
function explained(error: unknown, { model, of }: Base): unknown {
  if (!(error instanceof CheckpointError) || error.path !== model) return error;
  const message =
    of === undefined
      ? `expected an adapter, with ${ADAPTER_CONFIG}, or a model: ${error.message}`
      : `the base model of ${of}: ${error.message}; pass it as 'model' (--model)`;
  return new CheckpointError(message, error.path, error);
}

/** Returns a model. @throws ConfigError when the value is not a model, or is for another task. */
function assertModel(task: Task, model: unknown): LoadedModel {
  if (typeof model !== 'object' || model === null || !('adapters' in model || 'forward' in model)) {
    throw notASource(model);
  }
  const loadedModel = model as LoadedModel;
  const { name, task: own = 'sequence-classification' } = networkOf(loadedModel);
  if (own !== task) throw otherTask(name, own);
  return loadedModel;
}

/** Returns the model with as many outputs as an adapter. @throws ConfigError when the labels asked for are not as many. */
async function fitting(
  loadedModel: LoadedModel,
  adapter: Found | undefined,
  asked: Pick<PretrainedOptions, 'labels' | 'problemType'> = {},
): Promise<LoadedModel> {
  if (!adapter || 'adapters' in loadedModel || !('withLabels' in loadedModel)) return loadedModel;
  const model = loadedModel as PretrainedModel;
  const labels = await outputsIn(adapter, model);
  if (labels === undefined || count(labels) === outputsOf(model)) return model;
  if (asked.labels) throw otherLabels(asked.labels, adapter, labels);
  const problemType = asked.problemType ?? problemTypeIn(adapter.config.problem_type);
  return model.withLabels(labels, problemType && { problemType });
}

function count(labels: number | readonly string[]): number {
  return typeof labels === 'number' ? labels : labels.length;
}

function otherLabels(asked: readonly string[], { source }: Found, own: number | readonly string[]): ConfigError {
  const names = typeof own === 'number' ? '' : ` (${firstNames(own)})`;
  return new ConfigError(
    `option 'labels' has ${asked.length} names, but the adapter '${source}' has ${count(own)} outputs${names}: give one name for each, or omit it`,
    'labels',
  );
}

/**
 * @throws ConfigError when the model's head is new, and there is no adapter or one without a head: the labels would be
 * random.
 */
async function assertHead(model: Model, adapters: readonly Found[]): Promise<void> {
  const last = lastOfHead(model);
  const { name, task, pretrainedHead } = model;
  if (!last || task === 'causal-lm' || pretrainedHead === true) return;
  if (adapters.length === 0) {
    throw new ConfigError(
      `'${name}' has no trained head of ${last.outFeatures} outputs for ${task}, so its labels would be random: pass an adapter trained on it, or a model with such a head`,
      'source',
    );
  }
  for (const adapter of adapters) {
    if ((await storedOutputs(adapter, last)) !== undefined) continue;
    throw new ConfigError(
      `neither the adapter '${adapter.source}' nor its base model '${name}' has a trained head for ${task}, so its labels would be random: save the adapter with its head (in PEFT, modules_to_save)`,
      'source',
    );
  }
}

/** Returns the last module of a trainable head. */
function lastOfHead({ head, sites }: Model): Site | undefined {
  return head.length === 0 ? undefined : sites.findLast(({ role }) => role === 'head');
}

/** Returns the labels of an adapter, or the number of outputs of its head; undefined if it has no head. */
async function outputsIn(adapter: Found, model: Model): Promise<number | readonly string[] | undefined> {
  const last = lastOfHead(model);
  return last && (labelsIn(adapter.config.id2label) ?? (await storedOutputs(adapter, last)));
}

/** Returns the number of outputs of the head in an adapter's file; undefined if it has none. */
async function storedOutputs({ folder: { path, storage } }: Found, last: Site): Promise<number | undefined> {
  const weights = `${path}/${ADAPTER_WEIGHTS}`;
  const bytes = (await storage.open?.(weights)) ?? bytesSource(await storage.read(weights));
  const file = await openSafetensors(bytes).catch((cause: unknown) => {
    throw new CheckpointError(`${weights}: ${cause instanceof Error ? cause.message : String(cause)}`, weights, cause);
  });
  try {
    const key = `base_model.model.${last.path}.weight`;
    const name = file.names.find((stored) => stored.replace('.modules_to_save.', '.') === key);
    return name === undefined ? undefined : file.spec(name).shape[0];
  } finally {
    await file.close();
  }
}

/** Adds adapters from folders to a model. Copies a model that already has adapters. */
async function withAdapters(
  loadedModel: LoadedModel,
  found: readonly Found[],
  methods: readonly PeftMethod[],
): Promise<LoadedModel> {
  let peft = 'adapters' in loadedModel ? { ...loadedModel, adapters: new Map(loadedModel.adapters) } : undefined;
  if (found.length === 0) return loadedModel;
  for (const adapter of found) {
    const { name, folder } = adapter;
    await assertFits(adapter, peft?.model ?? (loadedModel as Model));
    const options = { methods, storage: folder.storage, adapterName: name };
    if (peft) await loadAdapter(peft, folder.path, options);
    else peft = await loadPretrained(loadedModel as Model, folder.path, options);
  }
  return peft as PeftModel;
}

/** @throws ConfigError when the adapter's number of outputs is not the model's. */
async function assertFits(adapter: Found, model: Model): Promise<void> {
  const labels = await outputsIn(adapter, model);
  const [own, expected] = [labels && count(labels), outputsOf(model)];
  if (own === undefined || own === expected) return;
  throw new ConfigError(
    `adapter '${adapter.name}' has ${own} outputs, but the model ${expected}: all adapters of a pipeline must have the same number`,
    'adapters',
  );
}

/** Returns the model's tokenizer. @throws UnsupportedError when it has none. */
function tokenizerOf(loadedModel: LoadedModel): Tokenizer {
  const model: Model & { readonly tokenizer?: Tokenizer } = networkOf(loadedModel);
  if (model.tokenizer) return model.tokenizer;
  throw new UnsupportedError(`'${model.name}' has no tokenizer: pass one as 'tokenizer'`, 'tokenizer');
}

async function templatesOf(
  adapters: readonly Found[],
  loadedModel: LoadedModel,
  tokenizer: Tokenizer,
): Promise<OpenedSource['templates']> {
  const { sites } = networkOf(loadedModel);
  const templates = new Map<string, ChatTemplate>();
  for (const { name, folder } of adapters) {
    const template = await readAdapterTemplate(folder, { sites, tokenizer });
    if (template) templates.set(name, template);
  }
  return templates;
}
