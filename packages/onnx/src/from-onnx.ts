import { integerFrom, parseOptions } from '@peftjs/core/method';
import type { Storage } from '@peftjs/core';
import { aRecord, assertArgument, assertKnownOptions, aText, aTextList, type Task } from '@peftjs/core/model';
import { fromPretrained, pretrainedOptionNames, type PretrainedModel, type PretrainedOptions } from '@peftjs/models';
import * as v from 'valibot';
import { onnxFormat, type GraphOptions, type GraphUse } from './checkpoint.js';
import type { OperatorTable } from './operators/operator.js';

/** A model of an ONNX graph. */
export interface OnnxModel extends PretrainedModel {
  /** Where the graph is, and how it is used. */
  readonly graph: GraphSource;
}

/** A graph in a file, and how a model uses it. */
export interface GraphSource extends GraphUse {
  /** The storage of the file. Default: the disk. */
  readonly storage?: Storage | undefined;
  /** How token embeddings become the features of a text. */
  readonly pooling: NonNullable<PretrainedOptions['pooling']>;
  /** The task of the model. */
  readonly task: Task;
}

/** Options of `fromOnnx`: those of `fromPretrained` for folders, and what is asked of the graph. */
export interface OnnxOptions extends Omit<PretrainedOptions, 'formats' | 'modelTypes' | 'subfolder'> {
  /** The output of the graph that is used. Default: 'logits', else 'last_hidden_state', else the first one. */
  readonly output?: string;
  /**
   * Whether the output, which are features, gets a new head for the task. Default: unless it is 'logits'.
   */
  readonly newHead?: boolean;
  /**
   * The modules of the graph's own head, which every method trains, as in PEFT's `modules_to_save`. Default:
   * 'classifier', 'pre_classifier' and 'score', where there are such modules.
   */
  readonly head?: readonly string[];
  /** The longest text in tokens. Default: what the tables of positions and the tokenizer's settings allow. */
  readonly maxTokens?: number;
  /**
   * Operators that this package does not know, or that replace its own, by name, as `domain:name` outside of ONNX's own
   * domain. Default: none.
   */
  readonly operators?: OperatorTable;
}

const graphEntries = {
  output: v.optional(aText),
  newHead: v.optional(v.boolean()),
  head: v.optional(aTextList),
  maxTokens: v.optional(integerFrom(1)),
  operators: v.optional(aRecord, {}),
};

/** The options of `fromPretrained` that choose another format. */
const OTHERS: readonly string[] = ['formats', 'modelTypes', 'subfolder'] satisfies (keyof PretrainedOptions)[];

/**
 * Reads an ONNX graph as a model whose linear modules, embeddings and norms methods adapt: exports of transformers by
 * `torch.onnx`, optimum and transformers.js, of text models without caches, with float32 or float16 weights.
 *
 * @param source The path of a file, e.g. `model/onnx/model.onnx`, or of a folder that has model.onnx, there or in
 * `onnx`. The tokenizer is read from the folder of the file, or from the one around a folder `onnx`.
 * @throws ConfigError for an invalid option, and for an output that the graph does not have.
 * @throws CheckpointError for a broken file, naming the node or tensor.
 * @throws UnsupportedError for an operator that is not known, naming its node, and for an output that is not for the
 * task.
 * @example
 * const model = await fromOnnx('all-MiniLM-L6-v2/onnx/model.onnx', { labels: ['bad', 'good'] });
 * const peft = attach(model, lora({ r: 8, targetModules: ['query', 'value'] }));
 */
export async function fromOnnx(source: string, options: OnnxOptions = {}): Promise<OnnxModel> {
  assertArgument('source', source, aText);
  const known = [...pretrainedOptionNames.filter((name) => !OTHERS.includes(name)), ...Object.keys(graphEntries)];
  assertKnownOptions('fromOnnx', options, known);
  const { output, newHead, head, maxTokens, operators, ...loading } = options;
  const asked = parseOptions('fromOnnx', graphEntries, { output, newHead, head, maxTokens, operators });
  const { pooling = 'mean', ...others } = loading;
  const graph: GraphOptions = { ...asked, operators: asked.operators as OperatorTable, pooling } as GraphOptions;
  const { folder, files } = placeOf(source);
  let use: GraphUse | undefined;
  const noted = (own: GraphUse): void => void (use = own);
  const model = await fromPretrained(folder, {
    ...(options.task === 'feature-extraction' ? loading : others),
    formats: files.map((file) => onnxFormat(file, graph, noted)),
  });
  const own: GraphSource = { ...(use as unknown as GraphUse), storage: options.storage, pooling, task: model.task };
  return named(model, source, own);
}

/** The folder of a model, and the file within it, or the files that it may be. */
function placeOf(source: string): { readonly folder: string; readonly files: readonly string[] } {
  const [, path = '', within = '', file] = /^(.*?\/)?(onnx\/)?([^/]+\.onnx)$/.exec(source) ?? [];
  if (file === undefined) return { folder: source, files: ['onnx/model.onnx', 'model.onnx'] };
  return { folder: path === '' ? '.' : path.slice(0, -1) || '/', files: [`${within}${file}`] };
}

/** Returns the model under the name of its file, also with other labels and with its original weights. */
function named(model: PretrainedModel, name: string, graph: GraphSource): OnnxModel {
  const { fullPrecision } = model;
  return {
    ...model,
    name,
    graph,
    withLabels: (...given) => named(model.withLabels(...given), name, graph),
    ...(fullPrecision && { fullPrecision: async () => named((await fullPrecision()) as PretrainedModel, name, graph) }),
  };
}
