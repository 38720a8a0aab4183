import { CheckpointError, ConfigError, mapValues, UnsupportedError } from '@peftjs/core/method';
import type { Site } from '@peftjs/core/method';
import type { Task, WeightDtype } from '@peftjs/core/model';
import type { Tokenizer } from '@peftjs/models';
import {
  checkFinite,
  precisionOf,
  readTokenizer,
  readTokenizerSettings,
  sha256,
  type Architecture,
  type Checkpoint,
  type CheckpointFormat,
  type ModelFolder,
} from '@peftjs/models/architectures';
import { openModel } from './format/files.js';
import type { ModelFile, Port } from './format/model.js';
import { headModules, headOn, pooledOutput, LOGITS, type HeadOptions } from './heads.js';
import { networkOf, weightsOf } from './network.js';
import type { OperatorTable } from './operators/operator.js';
import { defaultTargets } from './patterns/names.js';

/** What is asked of a graph. */
export interface GraphOptions extends Pick<HeadOptions, 'pooling' | 'head'> {
  /** The name of the output. */
  readonly output: string | undefined;
  readonly newHead: boolean | undefined;
  readonly maxTokens: number | undefined;
  readonly operators: OperatorTable;
}

/** How a graph is used. */
export interface GraphUse {
  /** The path of the file. */
  readonly file: string;
  /** The name of the output. */
  readonly output: string;
  /** The number of its axes, where the file says it. */
  readonly axes: number | undefined;
  /** Whether it has a new head. */
  readonly newHead: boolean;
}

/**
 * The format of an ONNX file, with the tokenizer of transformers in the folder.
 * @param noted called with what the options leave open
 */
export function onnxFormat(file: string, options: GraphOptions, noted: (use: GraphUse) => void): CheckpointFormat {
  return {
    name: 'an ONNX graph',
    marker: file,
    read: (folder, task, dtype) => readGraph(folder, file, { task, dtype, options, noted }),
  };
}

interface Reading {
  readonly task: Task;
  readonly dtype: WeightDtype;
  readonly options: GraphOptions;
  noted(use: GraphUse): void;
}

async function readGraph(
  folder: ModelFolder,
  file: string,
  { task, dtype, options, noted }: Reading,
): Promise<Checkpoint> {
  const path = folder.pathOf(file);
  const { model, bytes } = await openModel(folder, file);
  const output = outputOf(model, options.output);
  const network = inFile(path, () => networkOf(model, output, options.operators));
  const newHead = options.newHead ?? output.name !== LOGITS;
  noted({ file: path, output: output.name, axes: output.shape?.length, newHead });
  const head = headOn(output, network, { ...options, task, newHead });
  const ofHead = headModules(network.modules, head.trained);
  const body = network.modules.filter((module) => !ofHead.includes(module));
  const settings = await readTokenizerSettings(folder);
  const architecture: Architecture = {
    name: 'onnx',
    maxTokens: Math.min(network.maxTokens, options.maxTokens ?? longestIn(settings[0])),
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
  folder.progress({ file: path, loadedBytes: bytes.byteLength, totalBytes: bytes.byteLength });
  return {
    architecture,
    weights: mapValues({ ...own, ...network.others }, (weight, name) => precision.hold(name, weight)),
    head: headWeights,
    tokenizer: await tokenizerOf(folder, architecture, settings),
  };
}

/** The outputs that are used where none is named, the first of them that the graph has. */
const OUTPUTS: readonly string[] = [LOGITS, 'last_hidden_state', 'token_embeddings'];

/** @throws ConfigError when the graph does not have the output. */
function outputOf({ outputs }: ModelFile, wanted: string | undefined): Port {
  const names = wanted === undefined ? OUTPUTS : [wanted];
  const named = names.flatMap((name) => outputs.find((port) => port.name === name) ?? [])[0];
  const output = named ?? (wanted === undefined ? outputs[0] : undefined);
  if (output) return output;
  const known = outputs.map(({ name }) => name).join(', ');
  throw new ConfigError(
    `fromOnnx: option 'output' is '${wanted ?? ''}'; the graph has ${known || 'no output'}`,
    'output',
  );
}

/** Puts the table of words first, as its rows bound the IDs of the tokenizer. The head of a language model is no target. */
function sitesOf(sites: readonly Site[], words: string | undefined, task: Task): Site[] {
  const last = task === 'causal-lm' ? sites.findLast(({ kind }) => kind === 'linear') : undefined;
  const all = sites.map((site) => (site === last ? { ...site, role: 'head' as const } : site));
  return [...all.filter(({ path }) => path === words), ...all.filter(({ path }) => path !== words)];
}

/** The longest text of a model whose graph and tokenizer do not limit it. */
const MOST_TOKENS = 512;

/** Returns `model_max_length` of tokenizer_config.json, which may be absurdly large where it is not known. */
function longestIn(settings: unknown): number {
  const { model_max_length: most } = (settings ?? {}) as { readonly model_max_length?: unknown };
  return Number.isInteger(most) && (most as number) > 0 && (most as number) < 1e6 ? (most as number) : MOST_TOKENS;
}

/** Returns what a graph computes, as bytes: part of the model's identity. */
function contentOf({ nodes, outputs, opset }: ModelFile): Uint8Array {
  const computed = nodes.map(({ op, domain, inputs, outputs, attributes }) => [
    op,
    domain,
    inputs,
    outputs,
    attributes,
  ]);
  return new TextEncoder().encode(JSON.stringify([computed, outputs, opset]));
}

async function tokenizerOf(
  folder: ModelFolder,
  architecture: Architecture,
  settings: readonly unknown[],
): Promise<Tokenizer> {
  const config = { file: folder.pathOf('config.json'), settings: {}, read: new Set<string>() };
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

function inFile<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const Known = [CheckpointError, UnsupportedError].find((type) => error instanceof type);
    if (!Known) throw error;
    throw new Known(`${path}: ${(error as CheckpointError).message}`, (error as CheckpointError).path ?? path, error);
  }
}
