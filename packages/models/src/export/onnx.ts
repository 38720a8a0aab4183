/** Writes a model as transformers.js reads it. */
import { diskStorage, type Model, type Storage } from '@peftjs/core';
import { CheckpointError, ConfigError, UnsupportedError, writeFolder } from '@peftjs/core/method';
import type { SourceFiles } from '../checkpoint.js';
import { joined } from '../folder.js';
import { encodeJson, field, parseJson } from '../json.js';
import { modesOf, type PoolingMode } from '../pooling.js';
import type { PretrainedModel } from '../pretrained.js';
import { CONFIG_FILE } from '../transformers/config.js';
import { described, headSettings, isDecoder, mergedSettings, type Described } from './settings.js';
import { CARD_FILE, cardOf, readSource, sentenceFiles, withEndings, type ExportOptions } from './files.js';

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
  const files = new Map([...own, [CARD_FILE, cardOf(model, 'transformers.js')] as const]).set(
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
