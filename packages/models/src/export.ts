/** Writes models for others: as `save_pretrained` of transformers does, and as transformers.js reads them. */
import { diskStorage, type Model, type Storage } from '@peftjs/core';
import {
  assertFullPrecision,
  assertLabelNames,
  cardHeader,
  CheckpointError,
  ConfigError,
  floats,
  labelFields,
  problemTypeOf,
  specOf,
  tensorAt,
  transposed,
  UnsupportedError,
  writeFolder,
  type HostTensor,
  type HostTensors,
  type ProblemType,
  type Site,
  type Task,
} from '@peftjs/core/method';
import { writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { checkFinite, checkShapes, weightShapes } from './architecture.js';
import type { SourceFiles } from './checkpoint.js';
import { joined, modelFolder } from './folder.js';
import { encodeJson, field, parseJson } from './json.js';
import { locate, type SourceOptions } from './source.js';
import { modesOf, type PoolingMode } from './pooling.js';
import type { PretrainedModel } from './pretrained.js';
import { architectureFor } from './transformers/bare.js';
import { embeddingFiles, PROMPTS_FILE, type Prompts } from './transformers/sentence-transformers.js';
import { CONFIG_FILE, type ConfigFile, type ModelType } from './transformers/config.js';
import { GENERATION_CONFIG_FILE } from './transformers/tokenizer.js';
import { WEIGHTS_FILE } from './transformers/weights.js';

/**
 * Writes a model, e.g. what `mergeAndUnload` gives, as a folder that transformers opens: model.safetensors in float32 under the
 * keys of transformers, config.json with the class and the labels of the head, and the files of the tokenizer. A save that is
 * cut short leaves a folder that says so when it is opened, never files of two saves.
 *
 * @throws UnsupportedError for a model that transformers does not know, or whose weights are held in 8 bits.
 * @throws ConfigError for labels that are not as many as the outputs.
 * @throws CheckpointError when the files that the model came from are not its own any more, or nothing can be written.
 * @example
 * await saveMerged(mergeAndUnload(peft), 'merged', { labels: ['bad', 'good'] });
 */
export async function saveMerged(model: Model, folder: string, options: ExportOptions = {}): Promise<void> {
  const { storage = diskStorage() } = options;
  assertFullPrecision(model);
  checkFinite(model.weights, model.name);
  const { tokenizer, transformers } = await readSource(model, options);
  const files = withEndings(tokenizer, model, transformers?.config);
  if (transformers === undefined) {
    throw new UnsupportedError(`transformers knows no model like '${model.name}'; export it as ONNX`, model.name);
  }
  const head = described(model, options.labels);
  const config = encodeJson(mergedSettings(transformers, head), transformers.config.floats);
  const weights = writeSafetensors(storedWeights(model, transformers, head), { format: 'pt' });
  const card = encoded(cardOf(model, 'transformers'));
  const others = [[WEIGHTS_FILE, weights] as const, ...files, ...sentenceFiles(model), [CARD_FILE, card] as const];
  await writeFolder(storage, {
    config: { path: joined(folder, CONFIG_FILE), bytes: config },
    others: others.map(([file, bytes]) => ({ path: joined(folder, file), bytes })),
  });
}

/** The model card, which the hub shows and finds a folder by. */
const CARD_FILE = 'README.md';

function encoded(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function cardOf({ name, task }: Model, library: 'transformers' | 'transformers.js'): string {
  return `${cardHeader({ baseModel: name, library, task })}# ${name}, adapted

Made with peftjs, for ${library}.
`;
}

/** What sentence-transformers reads of a model for embeddings; nothing of others. */
function sentenceFiles(
  model: Model & Partial<Pick<PretrainedModel, 'pooling' | keyof Prompts>>,
): Map<string, Uint8Array> {
  const { pooling, includePrompt = true, sites, weights, maxTokens = Infinity } = model;
  if (!pooling) return new Map();
  const width = sites.findLast(({ kind }) => kind === 'layerNorm')?.outFeatures ?? 0;
  return embeddingFiles({ ...pooling, includePrompt, width, maxTokens, weights });
}

type Transformers = NonNullable<SourceFiles['transformers']>;

/** The settings of the source, with the head that the model has now and the type of its weights. */
function mergedSettings({ config, type }: Transformers, head: Described): Record<string, unknown> {
  const { _name_or_path: _, torch_dtype: __, ...settings } = settingsOf(config);
  return {
    ...settings,
    architectures: [className(type, head.task)],
    dtype: 'float32',
    ...headSettings(head),
    ...(isDecoder(type) && head.task === 'sequence-classification' && paddingSettings(settings)),
  };
}

/** The last token of a text is the one before padding: transformers must know which that is. */
function paddingSettings(settings: unknown): Record<string, unknown> {
  const end = field(settings, 'eos_token_id');
  const id: unknown = field(settings, 'pad_token_id') ?? (Array.isArray(end) ? end[0] : end);
  return { pad_token_id: id ?? null };
}

/**
 * The files of a tokenizer. For a model with a chat template their generation_config.json ends a text where `generate` ends it, so also
 * at the end of the assistant's turn.
 */
function withEndings(files: SourceFiles['tokenizer'], model: Model, config?: ConfigFile): SourceFiles['tokenizer'] {
  const { eosTokenIds = [], tokenizer } = model as Partial<PretrainedModel>;
  if (model.task !== 'causal-lm' || !tokenizer?.chatTemplate || eosTokenIds.length === 0) return files;
  const bytes = files.get(GENERATION_CONFIG_FILE);
  const own = bytes ? parseJson(bytes, GENERATION_CONFIG_FILE) : generationDefaults(config);
  const [only, ...others] = eosTokenIds;
  const settings = { ...(own as object), eos_token_id: others.length === 0 ? only : eosTokenIds };
  return new Map(files).set(GENERATION_CONFIG_FILE, encodeJson(settings));
}

/** What transformers takes from config.json where there is no generation_config.json, and does not look for where there is one. */
function generationDefaults(config?: ConfigFile): Record<string, unknown> {
  const ids = ['bos_token_id', 'pad_token_id'].map((name) => [name, field(config?.settings, name)] as const);
  return Object.fromEntries(ids.filter(([, id]) => typeof id === 'number'));
}

/** The weights as torch holds them. @throws CheckpointError when the settings are those of another model. */
function storedWeights(
  { weights }: Model,
  { config, type }: Transformers,
  { task, outputs }: Described,
): Map<string, StoredTensor> {
  const { head, pooler, ...network } = architectureFor(type, config, task);
  const carried = pooler && weights[`${pooler.path}.weight`] && task === 'feature-extraction' ? [pooler] : [];
  const sites = [...network.sites, ...carried, ...head.sites(outputs)];
  checkShapes({ ...network, sites }, specsOf(weights), config.file);
  return new Map(
    sites.flatMap((site) =>
      Object.keys(weightShapes({ sites: [site], encodeOnly: [] })).map((name) => [
        name,
        stored(site, name, tensorAt(weights, name)),
      ]),
    ),
  );
}

function specsOf(weights: HostTensors): Record<string, ReturnType<typeof specOf>> {
  return Object.fromEntries(Object.entries(weights).map(([name, weight]) => [name, specOf(weight)]));
}

/** [in, out] -> [out, in] for the weight of a linear module, but in transformers' Conv1D. */
function stored({ path, kind, fanInFanOut }: Site, name: string, tensor: HostTensor): StoredTensor {
  const isTurned = kind === 'linear' && !fanInFanOut && name === `${path}.weight`;
  const { shape, ...turned } = isTurned ? transposed(tensor) : tensor;
  return { dtype: 'F32', shape, data: floats({ shape, ...turned }, name) };
}

/** How a folder for transformers.js is written. */
export interface OnnxFolderOptions extends ExportOptions {
  /** Most tokens that the graph takes: texts are cut there. */
  readonly maxTokens: number;
}

/** Where transformers.js looks for a graph. */
const GRAPH_FOLDER = 'onnx';
const GRAPH_FILE = 'model.onnx';
const QUANTIZED_FILE = 'model_quantized.onnx';
const TOKENIZER_FILE = 'tokenizer.json';
const TOKENIZER_CONFIG = 'tokenizer_config.json';

/**
 * How transformers.js runs a graph is decided by its model type. It has no classifiers of decoders, and none of models that
 * transformers does not know; with that of BERT it gives a graph what the graph asks for.
 */
const CLASSIFIER_TYPE = 'bert';

/**
 * Writes a model as the folder that transformers.js opens: onnx/model.onnx, config.json, tokenizer.json, tokenizer_config.json. With
 * graphs of both dtypes it takes the one in float32 in Node, and the one in 8 bits in a page, unless it is told which.
 * A save that is cut short leaves a folder that says so when it is opened, never files of two saves; nor is a graph written beside one
 * of an earlier save, which would stay.
 *
 * @param graph what `exportOnnx` of @peftjs/engine gives, in float32; or the files of `exportOnnxFiles`, of one dtype or of several
 * @throws ConfigError for labels that are not as many as the outputs, and for a folder with a graph that is not among these.
 * @throws UnsupportedError for embeddings that transformers.js cannot make: see `Pooling`.
 * @throws CheckpointError when the files that the model came from are gone, or nothing can be written.
 * @example
 * const { maxTokens } = model;
 * await saveOnnx(merged, await exportOnnx(merged), 'for-the-web', { maxTokens, labels: ['bad', 'good'] });
 */
export async function saveOnnx(
  model: Model,
  graph: Uint8Array | ReadonlyMap<string, Uint8Array>,
  folder: string,
  options: OnnxFolderOptions,
): Promise<void> {
  const { storage = diskStorage(), maxTokens } = options;
  refuseUnpooled(model);
  const graphs = graph instanceof Uint8Array ? new Map([[GRAPH_FILE, graph]]) : graph;
  await refuseOlderGraphs(storage, folder, graphs);
  const source = await readSource(model, options);
  const written = settings(source, described(model, options.labels), [...graphs.keys()]);
  const config = encodeJson(written, source.transformers?.config.floats);
  const own = [...withEndings(source.tokenizer, model, source.transformers?.config), ...sentenceFiles(model)];
  const files = new Map([...own, [CARD_FILE, encoded(cardOf(model, 'transformers.js'))] as const]).set(
    TOKENIZER_CONFIG,
    encodeJson(tokenizerSettings(source, model, Math.min(maxTokens, model.withPast?.maxTokens ?? Infinity))),
  );
  await writeFolder(storage, {
    config: { path: joined(folder, CONFIG_FILE), bytes: config },
    others: [...[...graphs].map(([file, bytes]) => [`${GRAPH_FOLDER}/${file}`, bytes] as const), ...files].map(
      ([file, bytes]) => ({ path: joined(folder, file), bytes }),
    ),
  });
}

/** @throws ConfigError where a graph of another dtype would be left as an earlier save wrote it. */
async function refuseOlderGraphs(
  storage: Storage,
  folder: string,
  graphs: ReadonlyMap<string, Uint8Array>,
): Promise<void> {
  for (const file of [GRAPH_FILE, QUANTIZED_FILE].filter((name) => !graphs.has(name))) {
    const path = joined(folder, `${GRAPH_FOLDER}/${file}`);
    if (!(await storage.exists(path))) continue;
    throw new ConfigError(
      `${path} is of an earlier save and would stay beside the new ${[...graphs.keys()].join(', ')}; ` +
        'delete it, save both together, or name another folder',
      'folder',
    );
  }
}

/** How transformers.js can pool the tokens that a graph gives. */
const POOLED_THERE: readonly unknown[] = ['mean', 'cls'] satisfies PoolingMode[];

/** @throws UnsupportedError for a model whose embeddings transformers.js cannot make of those of its tokens. */
function refuseUnpooled({ name, pooling: own }: Model & Partial<Pick<PretrainedModel, 'pooling'>>): void {
  const { pooling, modules = [] } = own ?? { pooling: 'mean' };
  const odd = modules[0]?.kind ?? (POOLED_THERE.includes(pooling) ? undefined : modesOf(pooling).join(' and '));
  if (odd === undefined) return;
  throw new UnsupportedError(
    `'${name}' embeds with ${odd}, which transformers.js does not compute after its graph; export the merged folder`,
    'pooling',
  );
}

/** @param graphs the names of the graphs and of the files with their weights */
function settings({ transformers }: SourceFiles, head: Described, graphs: readonly string[]): Record<string, unknown> {
  const own = transformers
    ? mergedSettings(transformers, head)
    : { model_type: CLASSIFIER_TYPE, ...headSettings(head) };
  const isUnknown = transformers !== undefined && isDecoder(transformers.type) && head.task !== 'causal-lm';
  return {
    ...own,
    ...(isUnknown && { model_type: CLASSIFIER_TYPE }),
    ...graphSettings(graphs),
  };
}

/** What transformers.js must know of the files of graphs: which there are, and those of the weights that are not in them. */
function graphSettings(files: readonly string[]): Record<string, unknown> {
  const graphs = files.filter((file) => file.endsWith('.onnx'));
  const counts = graphs.map(
    (graph) => [graph, files.filter((file) => file.startsWith(`${graph}_data`)).length] as const,
  );
  const external = counts.filter(([, count]) => count > 0);
  const dtype = graphs.includes(GRAPH_FILE) ? 'fp32' : 'q8';
  const own = {
    // Where there are both, it takes float32 in Node, and 8 bits in a page.
    ...(graphs.length === 1 && { dtype }),
    ...(external.length > 0 && { use_external_data_format: Object.fromEntries(external) }),
  };
  return Object.keys(own).length > 0 ? { 'transformers.js_config': own } : {};
}

/** The settings beside tokenizer.json, made up where the source has none: token types are given to a graph that asks for them. */
function tokenizerSettings(
  { tokenizer, transformers }: SourceFiles,
  { task }: Pick<Model, 'task'>,
  maxTokens: number,
): Record<string, unknown> {
  const bytes = tokenizer.get(TOKENIZER_CONFIG);
  const own = bytes
    ? parseJson(bytes, TOKENIZER_CONFIG)
    : {
        tokenizer_class: 'BertTokenizer',
        ...paddingToken(tokenizer, field(transformers?.config.settings, 'pad_token_id')),
      };
  if (typeof own !== 'object' || own === null) {
    throw new CheckpointError(`${TOKENIZER_CONFIG}: expected settings of a tokenizer`, TOKENIZER_CONFIG);
  }
  const longest = field(own, 'model_max_length');
  const pad = field(own, 'pad_token') ?? (task === 'causal-lm' ? field(own, 'eos_token') : undefined); // prompts of a batch are padded
  return {
    ...own,
    ...(pad !== undefined && { pad_token: pad }),
    model_max_length: typeof longest === 'number' ? Math.min(longest, maxTokens) : maxTokens,
  };
}

function paddingToken(tokenizer: SourceFiles['tokenizer'], id: unknown): { pad_token?: unknown } {
  const added = field(parseJson(tokenizer.get(TOKENIZER_FILE) ?? new Uint8Array(), TOKENIZER_FILE), 'added_tokens');
  const token = Array.isArray(added) ? (added as unknown[]).find((one) => field(one, 'id') === id) : undefined;
  return token === undefined ? {} : { pad_token: field(token, 'content') };
}

/** Where a model is written, and what of it comes from where it was loaded. */
export interface ExportOptions extends SourceOptions {
  /** What the model was loaded from: settings and tokenizer are taken from there. Default: its name. */
  readonly source?: string;
  /** Where that folder is read. Default: the disk. */
  readonly sourceStorage?: Storage;
  /** Where the new folder is written. Default: the disk. */
  readonly storage?: Storage;
  /** Names of the classes, in the order of the outputs. Default: those of the model, else LABEL_0, .. */
  readonly labels?: readonly string[];
}

/**
 * Reads what an exported model takes from where it came from.
 * @throws CheckpointError when the folder is gone, broken or unknown.
 * @throws HubError when the model is of the hub, which cannot be reached.
 */
async function readSource(
  model: Pick<Model, 'name' | 'sites' | 'task' | 'tied'>,
  { source = model.name, sourceStorage, storage: _, ...options }: ExportOptions,
): Promise<SourceFiles> {
  const from = sourceStorage ? { ...options, storage: sourceStorage } : options;
  const { path, format, storage } = await locate(source, from);
  const folder = modelFolder(path, storage);
  if (format.files) return ofTask(untied(await format.files(folder, model), model), model.task);
  throw new CheckpointError(`${path}: models of ${format.name} cannot be exported`, path);
}

/** The files with settings of a head of its own, where merging has given the model one in the place of the table of words. */
function untied(files: SourceFiles, { tied }: Pick<Model, 'tied'>): SourceFiles {
  const { transformers } = files;
  if (!transformers || tied?.length !== 0) return files;
  const settings = { ...settingsOf(transformers.config), tie_word_embeddings: false };
  return { ...files, transformers: { ...transformers, config: { ...transformers.config, settings } } };
}

/** Without the prompts, where a model embeds nothing. */
function ofTask(files: SourceFiles, task: Model['task']): SourceFiles {
  if (task === 'feature-extraction') return files;
  return { ...files, tokenizer: new Map([...files.tokenizer].filter(([file]) => file !== PROMPTS_FILE)) };
}

/** The settings of a config.json. @throws CheckpointError when it holds something else. */
function settingsOf({ file, settings }: ConfigFile): Record<string, unknown> {
  if (field(settings, 'model_type') !== undefined) return { ...(settings as Record<string, unknown>) };
  throw new CheckpointError(`${file}: expected settings with a 'model_type'`, file);
}

/** The model that a config.json is written for. */
interface Described {
  readonly task: Task;
  /** Outputs of its head. */
  readonly outputs: number;
  readonly labels?: readonly string[] | undefined;
  readonly problemType: ProblemType;
}

/** The task of a model and the outputs of its head, and what they mean. */
function described(
  { task = 'sequence-classification', sites, labels: own, problemType }: Model,
  labels = task === 'causal-lm' ? undefined : own,
): Described {
  const outputs = sites.findLast(({ role }) => role === 'head')?.outFeatures ?? 0;
  return { task, labels, outputs, problemType: problemTypeOf({ outputs, sites, ...(problemType && { problemType }) }) };
}

/**
 * What config.json says of the head: the names of the classes both ways, and what is told apart.
 * @throws ConfigError when there are not as many names as outputs.
 */
function headSettings({ task, outputs, labels, problemType }: Described): Record<string, unknown> {
  if (task === 'causal-lm' || task === 'feature-extraction') {
    if (labels === undefined) return {};
    const what = task === 'causal-lm' ? 'a causal language model has words' : 'a model for embeddings has numbers';
    throw new ConfigError(`${what} and no labels; leave them out`, 'labels');
  }
  const names = labels ?? Array.from({ length: outputs }, (_, index) => `LABEL_${index}`);
  assertLabelNames(names, outputs);
  return {
    ...labelFields(names),
    num_labels: outputs,
    ...(task === 'sequence-classification' && { problem_type: problemType }),
  };
}

/** The class of transformers that has a head for a task; undefined where the network has none for it. */
function className({ savedBy }: ModelType, task: Task): string | undefined {
  const classes = savedBy.match(/\w+/g) ?? [];
  const stem = (classes[0] ?? '').replace(/Model$/, '');
  if (task === 'sequence-classification') return `${stem}ForSequenceClassification`;
  if (task === 'token-classification') return `${stem}ForTokenClassification`;
  if (task === 'feature-extraction') return `${stem}Model`;
  return classes.find((name) => /(LMHeadModel|ForCausalLM)$/.test(name));
}

/** Whether a network predicts the next word, so that its texts may lack a token for padding. */
function isDecoder(type: ModelType): boolean {
  return className(type, 'causal-lm') !== undefined;
}
