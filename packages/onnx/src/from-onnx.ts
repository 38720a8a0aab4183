import { CheckpointError, integerFrom, parseOptions } from '@peftjs/core/method';
import { aFunction, assertArgument, assertKnownOptions, aText, aTextList } from '@peftjs/core/model';
import { fromPretrained, pretrainedOptionNames, type PretrainedModel, type PretrainedOptions } from '@peftjs/models';
import { aPooling } from '@peftjs/models/architectures';
import * as v from 'valibot';
import type { GraphOptions, GraphSource } from './checkpoint.js';
import { graphFormats } from './graph-formats.js';
import type { OperatorTable } from './operators/operator.js';

/** A model of an ONNX graph. */
export interface OnnxModel extends PretrainedModel {
  /** Where the graph is, and how it is used. */
  readonly graph: GraphSource;
}

/** Options of `fromOnnx`: those of `fromPretrained` for folders, and what is asked of the graph. */
export interface OnnxOptions extends Omit<PretrainedOptions, 'formats' | 'modelTypes' | 'subfolder'> {
  /**
   * The output of the graph that is used. Default: 'logits', else 'last_hidden_state', else 'token_embeddings', else
   * the first one.
   */
  readonly output?: string;
  /** Whether the output holds features, on which a classifier gets a new head. Default: unless it is 'logits'. */
  readonly newHead?: boolean;
  /**
   * The modules of the graph's own head, which every method trains, as in PEFT's `modules_to_save`. Default:
   * 'classifier', 'pre_classifier' and 'score', where there are such modules.
   */
  readonly head?: readonly string[];
  /**
   * The longest text in tokens, at most what the tables of positions allow. Default: what the settings of
   * sentence-transformers or of the tokenizer allow, else 512.
   */
  readonly maxTokens?: number;
  /**
   * Operators that this package does not know, or that replace its own, by name, as `domain:name` outside of ONNX's own
   * domain. Default: none.
   */
  readonly operators?: OperatorTable;
  /** The folder of the graph within the model's, as in transformers.js. Default: 'onnx', else ''. */
  readonly subfolder?: string;
  /** The name of the graph's file without its ending, as in transformers.js. Default: 'model', else 'model_fp16'. */
  readonly modelFileName?: string;
}

const graphEntries = {
  output: v.optional(aText),
  newHead: v.optional(v.boolean()),
  head: v.optional(aTextList),
  maxTokens: v.optional(integerFrom(1)),
  operators: v.optional(v.record(v.string(), aFunction), {}),
  pooling: v.optional(aPooling, 'mean'),
  subfolder: v.optional(v.string()),
  modelFileName: v.optional(aText),
};

/** The options of `fromPretrained` that choose another format. */
const OTHERS: readonly string[] = ['formats', 'modelTypes'] satisfies (keyof PretrainedOptions)[];

/**
 * Reads an ONNX graph as a model whose linear modules, embeddings and norms methods adapt: exports of transformers by
 * `torch.onnx`, optimum and transformers.js, of text models without caches, with float32 or float16 weights.
 *
 * @param source The path of a file, e.g. `model/onnx/model.onnx`, or a folder as transformers.js lays it out, with the
 * graph in `onnx`, or beside the other files. Either may be on the hub, e.g. `organisation/name`. The tokenizer and
 * config.json are read from the folder of the file, or from the one around a folder `onnx`.
 * @throws ConfigError for an invalid option, and for an output that the graph does not have.
 * @throws CheckpointError for a broken file, naming the node or tensor.
 * @throws UnsupportedError for an operator or an input that is not known, naming it, and for an output whose number of
 * features is not fixed.
 * @example
 * const model = await fromOnnx('all-MiniLM-L6-v2/onnx/model.onnx', { labels: ['bad', 'good'] });
 * const peft = attach(model, lora({ r: 8, targetModules: ['query', 'value'] }));
 */
export async function fromOnnx(source: string, options: OnnxOptions = {}): Promise<OnnxModel> {
  assertArgument('source', source, aText);
  const known = [...new Set([...pretrainedOptionNames, ...Object.keys(graphEntries)])];
  const own = known.filter((name) => !OTHERS.includes(name));
  assertKnownOptions('fromOnnx', options, own);
  const { output, newHead, head, maxTokens, operators, subfolder, modelFileName, ...loading } = options;
  const { pooling, ...others } = loading;
  const given = { output, newHead, head, maxTokens, operators, pooling, subfolder, modelFileName };
  const asked = parseOptions('fromOnnx', graphEntries, given);
  const formats = graphFormats({ ...asked, options: asked as GraphOptions });
  const loaded = options.task === 'feature-extraction' ? loading : others;
  const model = await fromPretrained(source, { ...loaded, formats });
  if (model.graph) return model as OnnxModel;
  const file = `${modelFileName ?? 'model'}.onnx`;
  const places = subfolder === undefined ? `onnx/${file} or ${file}` : `${subfolder && `${subfolder}/`}${file}`;
  throw new CheckpointError(`there is no ${places} in ${source}; fromPretrained reads it`, source);
}
