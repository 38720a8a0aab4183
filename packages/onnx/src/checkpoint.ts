import { CheckpointError, ConfigError, mapValues, sizeOf, UnsupportedError } from '@peftjs/core/method';
import type { Site } from '@peftjs/core/method';
import { firstNames, readsImages, type Task, type WeightDtype } from '@peftjs/core/model';
import type { Tokenizer } from '@peftjs/models';
import {
  checkFinite,
  limitIn,
  optionalJson,
  ownMeaning,
  precisionOf,
  readConfig,
  readEmbeddingSettings,
  readTokenizer,
  readTokenizerSettings,
  sha256,
  transformersFiles,
  type Architecture,
  type Checkpoint,
  type ConfigFile,
  type ModelFolder,
  type ModelType,
  type SourceFiles,
} from '@peftjs/models/architectures';
import { inFile, openModel } from './format/files.js';
import type { ModelFile, Port } from './format/model.js';
import { TYPES, type Constant } from './format/tensor.js';
import { headModules, headOn, pooledOutput, LOGITS, type HeadOptions } from './heads.js';
import { networkOf, weightsOf } from './network.js';
import type { OperatorTable } from './operators/operator.js';
import { defaultTargets } from './patterns/names.js';

/** What is asked of a graph. */
export interface GraphOptions extends Pick<HeadOptions, 'pooling'>, Partial<Pick<HeadOptions, 'head'>> {
  /** The name of the output. */
  readonly output?: string | undefined;
  readonly newHead?: boolean | undefined;
  readonly maxTokens?: number | undefined;
  readonly operators: OperatorTable;
}

/** A graph in a file, and how a model uses it. */
export interface GraphSource extends Pick<HeadOptions, 'task' | 'pooling' | 'newHead'> {
  /** The folder of the model. */
  readonly folder: ModelFolder;
  /** The file of the graph within it. */
  readonly file: string;
  /** The name of the output. */
  readonly output: string;
}

interface Reading {
  readonly task: Task;
  readonly dtype: WeightDtype;
  readonly options: GraphOptions;
}

/** Reads a graph, with the tokenizer and the settings of transformers in its folder. */
export async function readGraph(
  folder: ModelFolder,
  file: string,
  { task, dtype, options }: Reading,
): Promise<Checkpoint> {
  const path = folder.pathOf(file);
  const { model, byteLength } = await openModel(folder, file);
  const output = outputOf(model, options.output);
  const network = inFile(path, () => networkOf(model, output, options.operators, () => architecture.maxTokens));
  const classifies = task === 'sequence-classification' || task === 'token-classification';
  const newHead = classifies && (options.newHead ?? output.name !== LOGITS);
  const head = headOn(output, network, { ...options, task, newHead });
  const ofHead = headModules(network.modules, head.trained);
  const body = network.modules.filter((module) => !ofHead.includes(module));
  const settings = await readTokenizerSettings(folder);
  const config = await configIn(folder);
  const embedding = head.tokens && (await readEmbeddingSettings(folder));
  const { model_max_length: most } = (settings[0] ?? {}) as { readonly model_max_length?: unknown };
  const longest = options.maxTokens ?? embedding?.maxTokens ?? limitIn(most) ?? MOST_TOKENS;
  const architecture: Architecture = {
    name: 'onnx',
    maxTokens: Math.min(network.maxTokens, longest),
    ...(network.tokenTypes !== undefined && { tokenTypes: network.tokenTypes }),
    ...(network.axes && { axes: network.axes }),
    settings: { [`output ${output.name} of ${await sha256(contentOf(model))}`]: 1 },
    sites: sitesOf(
      body.map(({ site }) => site),
      network.words,
      task,
    ),
    encodeOnly: [],
    defaultTargetModules: defaultTargets(body.map(({ site }) => site)),
    lookups: network.words === undefined ? [] : [{ site: network.words, ids: 'inputIds' }],
    encode: output.shape?.length === 2 ? network.compute : pooledOutput(network.compute, 'mean'),
    head,
  };
  const [own, headWeights] = [weightsOf(body), weightsOf(ofHead)];
  checkFinite({ ...own, ...headWeights }, path);
  const precision = precisionOf(dtype, architecture);
  folder.progress({ file: path, loadedBytes: byteLength, totalBytes: byteLength });
  const graph: GraphSource = {
    ...{ folder, file, task, newHead, pooling: options.pooling, output: output.name },
  };
  return {
    architecture,
    weights: {
      ...mapValues({ ...own, ...network.others }, (weight, name) => precision.hold(name, weight)),
      ...embedding?.weights,
    },
    head: headWeights,
    tokenizer: await tokenizerOf(folder, architecture, config, settings),
    ...(embedding && { embedding }),
    ...(readsImages(network) && { preprocessor: await optionalJson(folder, PREPROCESSOR, 100_000) }),
    ...(classifies && !newHead && ownMeaning(config)),
    graph,
  };
}

/** Returns config.json, which a graph does not need. */
async function configIn(folder: ModelFolder): Promise<ConfigFile> {
  if (await folder.exists('config.json')) return readConfig(folder);
  return { file: folder.pathOf('config.json'), settings: {}, read: new Set() };
}

/** How images are prepared. */
const PREPROCESSOR = 'preprocessor_config.json';

/** Returns the files beside a graph that an export copies. */
export async function besideGraph(folder: ModelFolder): Promise<SourceFiles> {
  const input = (await folder.exists(PREPROCESSOR)) ? PREPROCESSOR : 'tokenizer.json';
  const isDescribed = input === PREPROCESSOR || (await folder.exists('config.json'));
  const files = isDescribed
    ? await transformersFiles(folder, undefined, typeIn)
    : { tokenizer: new Map<string, never>() };
  return { ...files, tokenizer: new Map([...files.tokenizer, [input, await folder.bytes(input)]]) };
}

/** Returns a type that models do not know, for its name and that of its classes. */
function typeIn({ file, settings }: ConfigFile): ModelType {
  const { model_type: name, architectures = [] } = settings as { model_type?: string; architectures?: string[] };
  const [own = ''] = architectures;
  const savedBy = `${own.replace(/(?:For\w{1,100}|LMHeadModel|Model)$/, '')}Model, ${own}`;
  const architecture = (): never => {
    throw new UnsupportedError(`${file}: networks of type '${name ?? ''}' are only written as ONNX`, file);
  };
  return { name: name ?? '', savedBy, prefix: '', architecture };
}

/** The outputs that are used where none is named, the first of them that the graph has. */
const OUTPUTS: readonly string[] = [LOGITS, 'last_hidden_state', 'token_embeddings'];

/** @throws ConfigError when the graph does not have the output. */
function outputOf({ outputs }: ModelFile, wanted: string | undefined): Port {
  const names = wanted === undefined ? OUTPUTS : [wanted];
  const named = names.flatMap((name) => outputs.find((port) => port.name === name) ?? [])[0];
  const output = named ?? (wanted === undefined ? outputs[0] : undefined);
  if (output) return output;
  const known = firstNames(
    outputs.map(({ name }) => name),
    'no output',
  );
  throw new ConfigError(`fromOnnx: option 'output' is '${wanted ?? ''}'; the graph has ${known}`, 'output');
}

/** Puts the table of words first, as its rows bound the tokenizer's IDs. The head of a language model is no target. */
function sitesOf(sites: readonly Site[], words: string | undefined, task: Task): Site[] {
  const last = task === 'causal-lm' ? sites.findLast(({ kind }) => kind === 'linear') : undefined;
  const all = sites.map((site) => (site === last ? { ...site, role: 'head' as const } : site));
  return [...all.filter(({ path }) => path === words), ...all.filter(({ path }) => path !== words)];
}

/** The longest text of a model whose tokenizer does not limit it, unless the graph's limit is lower. */
const MOST_TOKENS = 512;

/** Returns what a graph computes besides its weights, as bytes: part of the model's identity. */
function contentOf({ nodes, constants, outputs, opset }: ModelFile): Uint8Array {
  const computed = nodes.map((node) => [node.op, node.domain, node.inputs, node.outputs, node.attributes]);
  const fixed = [...constants.values()].filter(({ type, shape }) => TYPES[type].kind !== 'float' || sizeOf(shape) <= 1);
  const shown = (_: string, value: unknown): unknown => {
    if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
    if (typeof value !== 'object' || value === null || !('numbers' in value)) return value;
    const constant = value as Constant;
    return [constant.name, constant.type, constant.shape, [...constant.numbers()]];
  };
  return new TextEncoder().encode(JSON.stringify([computed, fixed, outputs, opset], shown));
}

async function tokenizerOf(
  folder: ModelFolder,
  architecture: Architecture,
  config: ConfigFile,
  settings: readonly unknown[],
): Promise<Tokenizer> {
  if (await folder.exists('tokenizer.json')) return readTokenizer(folder, architecture, config, settings);
  const file = folder.pathOf('tokenizer.json');
  const missing = (): never => {
    throw new CheckpointError(`there is no ${file}: put the tokenizer of the model there, to use it with texts`, file);
  };
  const rows = architecture.sites.find(({ kind }) => kind === 'embedding')?.inFeatures ?? 0;
  const readers = { encode: missing, encodeWords: missing, tokenIds: missing, decode: missing, join: missing };
  return {
    ...readers,
    truncations: [],
    fingerprint: 'none',
    vocabularySize: rows,
    addBosToken: false,
    specialTokens: new Map(),
  };
}
