/** Writes a model in the form that transformers.js reads. */
import { diskStorage, type Model, type Storage } from '@peftjs/core';
import { ConfigError, integerFrom, UnsupportedError } from '@peftjs/core/method';
import { assertArgument, objectLike, readsImages } from '@peftjs/core/model';
import type { SourceFiles } from '../checkpoint.js';
import { joined } from '../folder.js';
import { encodeJson, field, fileError, parseJson } from '../json.js';
import { modesOf, type PoolingMode } from '../pooling.js';
import type { PretrainedModel } from '../pretrained.js';
import { TOKENIZER_FILE, TOKENIZER_SETTINGS } from '../transformers/tokenizer.js';
import { className, described, headSettings, isDecoder, mergedSettings, type Described } from './settings.js';
import { assertExport, readSource, writeExport, type ExportOptions } from './files.js';

/** Options of an export for transformers.js. */
export interface OnnxFolderOptions extends ExportOptions {
  /** The longest text that the graph accepts, in tokens: longer texts are truncated. */
  readonly maxTokens: number;
}

const aGraph = objectLike<object>(
  'the bytes of exportOnnx or the files of exportOnnxFiles: await them',
  {},
  (value) => value instanceof Uint8Array || value instanceof Map,
);

/** The folder in which transformers.js looks for graphs. */
const GRAPH_FOLDER = 'onnx';
const GRAPH_FILE = 'model.onnx';

/** The names of graphs in transformers.js, by its dtypes. */
const GRAPHS = { fp32: GRAPH_FILE, fp16: 'model_fp16.onnx', q8: 'model_quantized.onnx' } as const;

/**
 * The model type decides how transformers.js runs a graph. It has no classifiers for decoders or for models unknown to
 * transformers. With BERT's type, it passes a graph the inputs that the graph declares.
 */
const CLASSIFIER_TYPE = 'bert';
const CLASSIFIER = { savedBy: 'BertModel' };

/**
 * Writes a model as a folder that transformers.js opens: onnx/model.onnx, config.json, tokenizer.json and
 * tokenizer_config.json, or for a network of images preprocessor_config.json. With graphs in float32 and in 8 bits,
 * transformers.js uses the former in Node and the latter in a web page, unless the caller chooses. A save that fails or
 * is killed leaves the old files or the new ones, as `savePretrained` does. A folder with a graph in another dtype from
 * an earlier save is rejected, because that graph would remain.
 *
 * @param graph The float32 graph of `exportOnnx` of @peftjs/engine, or the files of `exportOnnxFiles`, in one or
 * several dtypes.
 * @throws ConfigError when the number of labels is not the number of outputs, or when the folder has another graph.
 * @throws UnsupportedError for embeddings that transformers.js cannot compute: see `Pooling`.
 * @throws CheckpointError when the source's files are missing, or writing fails.
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
  assertExport(model, folder, options, { maxTokens: integerFrom(1) });
  assertArgument('graph', graph, aGraph);
  const { storage = diskStorage(), maxTokens } = options;
  refuseUnpooled(model);
  const graphs = graph instanceof Uint8Array ? new Map([[GRAPH_FILE, graph]]) : graph;
  refuseOddFiles([...graphs.keys()]);
  await refuseOlderGraphs(storage, folder, graphs);
  const source = await readSource(model, options);
  const own = (): [string, Uint8Array] => {
    const longest = Math.min(maxTokens, model.withPast?.maxTokens ?? Infinity);
    return [TOKENIZER_SETTINGS, encodeJson(tokenizerSettings(source, model, longest))];
  };
  await writeExport(model, folder, options, {
    library: 'transformers.js',
    source: { ...source, tokenizer: new Map([...source.tokenizer, ...(readsImages(model) ? [] : [own()])]) },
    config: settings(source, described(model, options.labels), [...graphs.keys()]),
    own: new Map(Array.from(graphs, ([file, bytes]) => [`${GRAPH_FOLDER}/${file}`, bytes])),
  });
}

/** @throws UnsupportedError for weights beside a graph whose name transformers.js does not look for. */
function refuseOddFiles(files: readonly string[]): void {
  const graphs = files.filter((file) => file.endsWith('.onnx'));
  const odd = files.find((file) => !graphs.some((graph) => file === graph || file.startsWith(`${graph}_data`)));
  if (odd === undefined) return;
  throw new UnsupportedError(
    `weights are in '${odd}'; transformers.js looks for '${graphs[0] ?? GRAPH_FILE}_data': save the graph with that name for them`,
    'graph',
  );
}

/** @throws ConfigError when a graph of another dtype from an earlier save would remain. */
async function refuseOlderGraphs(
  storage: Storage,
  folder: string,
  graphs: ReadonlyMap<string, Uint8Array>,
): Promise<void> {
  for (const file of Object.values(GRAPHS).filter((name) => !graphs.has(name))) {
    const path = joined(folder, `${GRAPH_FOLDER}/${file}`);
    if (!(await storage.exists(path))) continue;
    throw new ConfigError(
      `${path} is from an earlier save and would remain next to the new ${[...graphs.keys()].join(', ')}; ` +
        'delete it, save both together, or use another folder',
      'folder',
    );
  }
}

/** The poolings that transformers.js can apply to token embeddings. */
const POOLED_THERE: readonly unknown[] = ['mean', 'cls'] satisfies PoolingMode[];

/** @throws UnsupportedError when transformers.js cannot compute the model's embeddings from its token embeddings. */
function refuseUnpooled({ name, pooling: own }: Model & Partial<Pick<PretrainedModel, 'pooling'>>): void {
  const { pooling, modules = [] } = own ?? { pooling: 'mean' };
  const odd = modules[0]?.kind ?? (POOLED_THERE.includes(pooling) ? undefined : modesOf(pooling).join(' and '));
  if (odd === undefined) return;
  throw new UnsupportedError(
    `'${name}' embeds with ${odd}, which transformers.js does not support; export the merged folder`,
    'pooling',
  );
}

/** @param graphs The file names of the graphs and of their external weights. */
function settings({ transformers }: SourceFiles, head: Described, graphs: readonly string[]): Record<string, unknown> {
  const own = transformers
    ? mergedSettings(transformers, head)
    : {
        model_type: CLASSIFIER_TYPE,
        architectures: [className(CLASSIFIER, head.task, head.ofImages)],
        ...headSettings(head),
      };
  const isUnknown = transformers !== undefined && isDecoder(transformers.type) && head.task !== 'causal-lm';
  return {
    ...own,
    ...(isUnknown && { model_type: CLASSIFIER_TYPE }),
    ...graphSettings(graphs),
  };
}

/** Returns the settings that tell transformers.js which graphs exist and which have external weights. */
function graphSettings(files: readonly string[]): Record<string, unknown> {
  const graphs = files.filter((file) => file.endsWith('.onnx'));
  const counts = graphs.map(
    (graph) => [graph, files.filter((file) => file.startsWith(`${graph}_data`)).length] as const,
  );
  const external = counts.filter(([, count]) => count > 0);
  const [dtype] = Object.entries(GRAPHS).find(([, file]) => graphs.includes(file)) ?? [];
  const own = {
    // With several graphs, transformers.js chooses: float32 in Node, 8 bits in a web page.
    ...(graphs.length === 1 && dtype !== undefined && { dtype }),
    ...(external.length > 0 && { use_external_data_format: Object.fromEntries(external) }),
  };
  return Object.keys(own).length > 0 ? { 'transformers.js_config': own } : {};
}

/** What transformers.js takes for a tokenizer without token types. */
const WITHOUT_TYPES: readonly unknown[] = [
  undefined,
  'PreTrainedTokenizer',
  'PreTrainedTokenizerFast',
  'TokenizersBackend',
];

/**
 * Returns tokenizer_config.json with what transformers.js reads there only: the padding token, and BERT's class where
 * the second text of a pair has another type.
 */
function tokenizerSettings(
  { tokenizer, transformers }: SourceFiles,
  { tokenizer: used }: Model & Partial<Pick<PretrainedModel, 'tokenizer'>>,
  maxTokens: number,
): Record<string, unknown> {
  const bytes = tokenizer.get(TOKENIZER_SETTINGS);
  const own = bytes ? parseJson(bytes, TOKENIZER_SETTINGS) : { tokenizer_class: 'BertTokenizer' };
  if (typeof own !== 'object' || own === null) {
    throw fileError(TOKENIZER_SETTINGS, 'expected settings of a tokenizer');
  }
  const longest = field(own, 'model_max_length');
  const padId = used?.padTokenId ?? field(transformers?.config.settings, 'pad_token_id');
  const pad = field(own, 'pad_token') ?? tokenOf(tokenizer, padId);
  const needsTypes = used?.encode('a').typeIds !== undefined && WITHOUT_TYPES.includes(field(own, 'tokenizer_class'));
  return {
    ...own,
    ...(needsTypes && { tokenizer_class: 'BertTokenizer' }),
    ...(pad !== undefined && { pad_token: pad }),
    model_max_length: typeof longest === 'number' ? Math.min(longest, maxTokens) : maxTokens,
  };
}

/** The text of an added token; undefined if there is none with that id. */
function tokenOf(tokenizer: SourceFiles['tokenizer'], id: unknown): unknown {
  const added = field(parseJson(tokenizer.get(TOKENIZER_FILE) ?? new Uint8Array(), TOKENIZER_FILE), 'added_tokens');
  const token = Array.isArray(added) ? (added as unknown[]).find((one) => field(one, 'id') === id) : undefined;
  return field(token, 'content');
}
