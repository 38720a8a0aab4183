/** Writes a model as transformers.js reads it. */
import { CheckpointError, diskStorage, writeFolder } from '@peftjs/core';
import type { Model } from '@peftjs/core';
import { joined } from '../folder.js';
import { field, parseJson } from '../json.js';
import { CONFIG_FILE } from '../transformers/config.js';
import { described, headSettings, isDecoder, type Described } from './config.js';
import { mergedSettings } from './save-merged.js';
import { encodeJson, readSource, type ExportOptions, type SourceFiles } from './source-files.js';

/** How a folder for transformers.js is written. */
export interface OnnxFolderOptions extends ExportOptions {
  /** Most tokens that the graph takes: texts are cut there. */
  readonly maxTokens: number;
}

const GRAPH_FILE = 'onnx/model.onnx';
const TOKENIZER_FILE = 'tokenizer.json';
const TOKENIZER_CONFIG = 'tokenizer_config.json';

/**
 * How transformers.js runs a graph is decided by its model type. It has no classifiers of decoders, and none of models that
 * transformers does not know; with that of BERT it gives a graph what the graph asks for.
 */
const CLASSIFIER_TYPE = 'bert';

/**
 * Writes a model as the folder that transformers.js opens: onnx/model.onnx, config.json, tokenizer.json, tokenizer_config.json.
 * A save that is cut short leaves a folder that says so when it is opened, never files of two saves.
 *
 * @param graph what `exportOnnx` of @peftjs/engine gives
 * @throws ConfigError for labels that are not as many as the outputs.
 * @throws CheckpointError when the files that the model came from are gone, or nothing can be written.
 * @example
 * const { maxTokens } = model;
 * await saveOnnx(merged, await exportOnnx(merged), 'for-the-web', { maxTokens, labels: ['bad', 'good'] });
 */
export async function saveOnnx(
  model: Model,
  graph: Uint8Array,
  folder: string,
  options: OnnxFolderOptions,
): Promise<void> {
  const { storage = diskStorage(), maxTokens } = options;
  const source = await readSource(model, options);
  const config = encodeJson(settings(source, described(model, options.labels)));
  const files = new Map(source.tokenizer).set(TOKENIZER_CONFIG, encodeJson(tokenizerSettings(source, maxTokens)));
  await writeFolder(storage, {
    config: { path: joined(folder, CONFIG_FILE), bytes: config },
    others: [[GRAPH_FILE, graph] as const, ...files].map(([file, bytes]) => ({ path: joined(folder, file), bytes })),
  });
}

function settings({ transformers }: SourceFiles, head: Described): Record<string, unknown> {
  const own = transformers
    ? mergedSettings(transformers, head)
    : { model_type: CLASSIFIER_TYPE, ...headSettings(head) };
  const isUnknown = transformers !== undefined && isDecoder(transformers.type) && head.task !== 'causal-lm';
  return {
    ...own,
    ...(isUnknown && { model_type: CLASSIFIER_TYPE }),
    'transformers.js_config': { dtype: 'fp32' }, // in a page it would look for a quantised graph
  };
}

/** The settings beside tokenizer.json, made up where the source has none: token types are given to a graph that asks for them. */
function tokenizerSettings({ tokenizer, transformers }: SourceFiles, maxTokens: number): Record<string, unknown> {
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
  return { ...own, model_max_length: typeof longest === 'number' ? Math.min(longest, maxTokens) : maxTokens };
}

function paddingToken(tokenizer: SourceFiles['tokenizer'], id: unknown): { pad_token?: unknown } {
  const added = field(parseJson(tokenizer.get(TOKENIZER_FILE) ?? new Uint8Array(), TOKENIZER_FILE), 'added_tokens');
  const token = Array.isArray(added) ? (added as unknown[]).find((one) => field(one, 'id') === id) : undefined;
  return token === undefined ? {} : { pad_token: field(token, 'content') };
}
