import type { Model, PeftModel } from '@peftjs/core';
import {
  assertFullPrecision,
  EngineError,
  specOf,
  type DType,
  type HostTensors,
  type Tensors,
} from '@peftjs/core/method';
import {
  actingParts,
  forward,
  frozenWeights,
  stepContext,
  type InputSpec,
  type PureFunction,
} from '@peftjs/core/runtime';
import type { GraphNode } from '../compiled/graph.js';
import { standardTable } from '../compiled/kernels/table.js';
import { ELEMENT_NUMBERS } from '../compiled/graph.js';
import { NotOpen } from '../compiled/open-graph.js';
import { writeModel } from '../compiled/onnx.js';
import { prepare } from '../compiled/prepare.js';
import type { RunGraph } from '../compiled/merge.js';

/** What a text model may read, [batch, tokens], and what transformers calls it. */
export const TEXT_INPUTS = {
  inputIds: { name: 'input_ids', dtype: 'int32' },
  attentionMask: { name: 'attention_mask', dtype: 'float32' },
  tokenTypeIds: { name: 'token_type_ids', dtype: 'int32' },
} as const;

/** An input of a text model. */
export type TextInput = keyof typeof TEXT_INPUTS;

/** How a model is exported. */
export interface OnnxOptions {
  /** What the graph takes, as far as the model reads it. Default: ids, mask and token types. */
  readonly inputs?: readonly TextInput[];
}

/**
 * A text model with its adapters as an ONNX file: inputs `input_ids`, `attention_mask` and `token_type_ids` int64 [batch, tokens] of
 * any size, as far as the model reads them, output `logits` float32; of a model for embeddings `last_hidden_state` [batch, tokens, width],
 * which transformers.js pools. It has operators of the ONNX standard alone (opset 20) and all weights in float32. What is merged is in
 * the weights; other adapters come as nodes of their own.
 *
 * @param source a model with adapters, of which the active ones act, or a plain one, e.g. a merged one.
 * @throws UnsupportedError when weights are held in 8 bits: see `fullPrecision`.
 * @throws EngineError when a step of the model cannot be written for any size, naming it, or the file would exceed 2 GB.
 * @example
 * const bytes = await exportOnnx(mergeAndUnload(peft));
 */
export async function exportOnnx(
  source: PeftModel | Model,
  { inputs = Object.keys(TEXT_INPUTS) as TextInput[] }: OnnxOptions = {},
): Promise<Uint8Array> {
  assertFullPrecision('adapters' in source ? source.model : source);
  const taken = Object.fromEntries(inputs.map((input) => [input, TEXT_INPUTS[input]]));
  return exportFunction({ ...inference(source), inputs: taken });
}

/** The model's outputs as a pure function of its inputs and all that it holds. */
function inference(source: PeftModel | Model): { fn: PureFunction; weights: HostTensors } {
  const { model, layers, values } = actingParts(source);
  const { tokenEmbeddings, forward: own } = model;
  const whole = { ...model, forward: tokenEmbeddings ?? own, lookups: [] }; // the tables are part of the graph
  const frozen = frozenWeights(whole, layers);
  const adapter = Object.fromEntries(Object.entries(values).map(([name, value]) => [`${ADAPTER}${name}`, value]));
  const context = stepContext({}, Object.keys(layers).length, false);
  const fn: PureFunction = (all) => ({
    [tokenEmbeddings ? TOKEN_EMBEDDINGS : LOGITS]: forward(
      whole,
      layers,
      { inputs: all, frozen: all, adapter: ofAdapter(all) },
      context,
    ),
  });
  return { fn, weights: { ...frozen, ...adapter } };
}

/** What the output is called, as exporters of transformers name it: that of a head, or of a network without one. */
const LOGITS = 'logits';
const TOKEN_EMBEDDINGS = 'last_hidden_state';

/** Before the names of an adapter's tensors: a module trained whole has one of the same name as the weight that it replaces. */
const ADAPTER = 'adapter:';

function ofAdapter(all: Tensors): Tensors {
  const own = Object.entries(all).filter(([name]) => name.startsWith(ADAPTER));
  return Object.fromEntries(own.map(([name, tensor]) => [name.slice(ADAPTER.length), tensor]));
}

/** A pure function of batches of any size, and what else it reads. */
export interface OpenFunction {
  readonly fn: PureFunction;
  /** The inputs [batch, tokens] that may be read, by the names that the function has for them. */
  readonly inputs: Readonly<Record<string, OpenInput>>;
  /** The tensors that are the same in every run: they are stored in the file. */
  readonly weights: HostTensors;
}

interface OpenInput {
  /** What the graph calls it. It takes int64 there. */
  readonly name: string;
  /** What the function reads. */
  readonly dtype: DType;
}

/** Names of the open axes, as exporters of transformers have them. */
const AXES = ['batch_size', 'sequence_length'];

/** What protobuf, and with it an ONNX file, can hold. */
const LARGEST_FILE = 2 ** 31 - 1;

/**
 * The function as an ONNX file with inputs [batch, tokens] of any size.
 * @throws EngineError when a step of it cannot be written for any size, naming it, or the file would exceed 2 GB.
 */
export async function exportFunction({ fn, inputs, weights }: OpenFunction): Promise<Uint8Array> {
  checkSize(weights);
  const specs: Record<string, InputSpec> = {};
  for (const [key, { dtype }] of Object.entries(inputs)) specs[key] = { dtype, shape: AXES };
  for (const [key, tensor] of Object.entries(weights)) specs[key] = specOf(tensor);
  const graph = await openGraph(fn, specs);
  const taken = graph.inputs.flatMap(({ key, name }) => (inputs[key] ? [{ ...inputs[key], value: name }] : []));
  if (taken.length === 0) throw new EngineError('the function reads none of its inputs', 'inputs');
  const stored = graph.inputs.flatMap(({ key, name }) =>
    weights[key] ? [{ key, value: name, tensor: weights[key] }] : [],
  );
  const renamed = new Map([
    ...stored.map(({ key, value }) => [value, key] as const),
    ...graph.outputs.map(({ key, name }) => [name, key] as const),
  ]);
  const nameOf = (name: string): string => renamed.get(name) ?? name;
  return writeModel({
    nodes: [
      ...taken.map(({ name, dtype, value }) => cast(name, value, ELEMENT_NUMBERS[dtype])),
      ...graph.nodes.map((node) => ({
        ...node,
        inputs: node.inputs.map(nameOf),
        outputs: node.outputs.map(nameOf),
      })),
    ],
    constants: [...stored.map(({ key, tensor }) => ({ ...tensor, name: key })), ...graph.constants],
    inputs: taken.map(({ name }) => ({ name, dtype: 'int64', shape: AXES })),
    outputs: graph.outputs.map((port) => ({ ...port, name: port.key })),
  });
}

async function openGraph(fn: PureFunction, specs: Record<string, InputSpec>): Promise<RunGraph> {
  const prepared = await prepare({ table: standardTable, bytes: 'int8' }, fn, specs);
  try {
    return await prepared.graph();
  } catch (error) {
    if (!(error instanceof NotOpen)) throw error;
    const message = `the graph cannot be written for any batch and any number of tokens: ${error.message}`;
    throw new EngineError(message, error.node?.op, error);
  }
}

function cast(from: string, to: string, type: number): GraphNode {
  return { op: 'Cast', domain: '', inputs: [from], outputs: [to], attributes: { to: type } };
}

function checkSize(weights: HostTensors): void {
  const bytes = Object.values(weights).reduce((sum, { data }) => sum + data.byteLength, 0);
  if (bytes <= LARGEST_FILE) return;
  throw new EngineError(
    `an ONNX file holds at most 2 GB, and these weights have ${(bytes / 2 ** 30).toFixed(1)} GB; export the merged folder instead`,
    'weights',
  );
}
