import type { Model, PeftModel } from '@peftjs/core';
import { EngineError, integerFrom, parseOptions, type HostTensors, type Tensors } from '@peftjs/core/method';
import {
  anyModel,
  assertArgument,
  assertFullPrecision,
  canQuantize,
  isInHead,
  specOf,
  type DType,
  type PastDecoding,
  type Scope,
} from '@peftjs/core/model';
import {
  activeParts,
  frozenWeights,
  peftScope,
  stepContext,
  type Axis,
  type InputSpec,
  type PureFunction,
} from '@peftjs/core/runtime';
import * as v from 'valibot';
import type { GraphNode } from '../compiled/parts.js';
import { standardTable } from '../compiled/kernels/table.js';
import { ELEMENT_NUMBERS, renamedNode, standardNode } from '../compiled/parts.js';
import { NotDynamic } from '../compiled/dynamic-graph.js';
import { writeExternally, writeModel, type ModelGraph } from '../compiled/onnx.js';
import { prepare } from '../compiled/prepare.js';
import type { RunGraph } from '../compiled/merge.js';
import { quantizedGraph } from './quantize.js';

/** Names of the open axes, as in the exporters of transformers: transformers.js creates an empty past by the first. */
const AXES = ['batch_size', 'sequence_length'];
const PAST = 'past_sequence_length';

/** The input with the positions of tokens that follow others. */
export const POSITIONS = 'position_ids';

/** The inputs that a text model may read, [batch, tokens], and their names in transformers. */
export const TEXT_INPUTS = {
  inputIds: { name: 'input_ids', dtype: 'int32' },
  attentionMask: { name: 'attention_mask', dtype: 'float32' },
  tokenTypeIds: { name: 'token_type_ids', dtype: 'int32' },
} as const;

/** An input of a text model. */
export type TextInput = keyof typeof TEXT_INPUTS;

/** The weights of a file: all in float32, or frozen linear modules and embeddings in 8 bits. */
export type OnnxDtype = 'fp32' | 'q8';

/** Options of {@link exportOnnx}. */
export interface OnnxOptions {
  /** The inputs of the graph; those that the model does not read are left out. Default: ids, mask and token types. */
  readonly inputs?: readonly TextInput[];
  /**
   * Default 'fp32'. With 'q8' the file is a quarter of the size, only runs in ONNX Runtime, and its outputs have
   * rounding errors.
   */
  readonly dtype?: OnnxDtype;
}

/** Options of {@link exportOnnxFiles}. */
export interface OnnxFilesOptions extends OnnxOptions {
  /**
   * The most bytes of a file; the weights of a larger model go into separate files. Default: what an ONNX file can
   * hold, 2 GB.
   */
  readonly maxFileBytes?: number;
}

const entries = {
  inputs: v.optional(
    v.array(v.picklist(Object.keys(TEXT_INPUTS) as TextInput[])),
    Object.keys(TEXT_INPUTS) as TextInput[],
  ),
  dtype: v.optional(v.picklist(['fp32', 'q8']), 'fp32'),
} satisfies Record<keyof OnnxOptions, unknown>;

/** ONNX files by name: the graph, and the files with its weights, if these are separate. */
export type OnnxFiles = ReadonlyMap<string, Uint8Array>;

/** The file names by which transformers.js finds a graph. */
const FILES: Readonly<Record<OnnxDtype, string>> = { fp32: 'model.onnx', q8: 'model_quantized.onnx' };

/**
 * Exports a text model with its adapters as an ONNX file.
 *
 * Inputs: `input_ids`, `attention_mask` and `token_type_ids`, int64 [batch, tokens] of any size, those that the model
 * reads. Output: `logits` float32, or, for an embedding model, `last_hidden_state` [batch, tokens, width], which
 * transformers.js pools.
 *
 * A causal language model also takes `position_ids`, and the keys and values of earlier tokens,
 * `past_key_values.<layer>.key` and `.value` [batch, heads, past, size], which may be empty; its mask includes these
 * tokens. It returns `present.<layer>.key` and `.value` for the next call. With `longrope` (Phi-3), texts are limited
 * to the pretraining length, beyond which transformers would recompute them; the runtime rejects later positions.
 *
 * In float32, the file only uses operators of the ONNX standard (opset 20). Merged adapters are in the weights; other
 * active adapters are nodes of their own.
 *
 * @param source a model with its active adapters, or a plain model, e.g. a merged one.
 * @throws UnsupportedError when weights are held in 8 or 4 bits: see `fullPrecision`.
 * @throws EngineError when a step of the model cannot be written for any size (the error names it), or the file would
 * exceed 2 GB.
 * @example
 * const bytes = await exportOnnx(mergeAndUnload(peft));
 */
export async function exportOnnx(source: PeftModel | Model, options: OnnxOptions = {}): Promise<Uint8Array> {
  return oneFile(await modelGraph(source, parseOptions('exportOnnx', entries, options)));
}

/** @throws EngineError when the graph exceeds the size limit of an ONNX file. */
export function oneFile(graph: ModelGraph): Uint8Array {
  const bytes = storedBytes(graph);
  if (bytes <= LARGEST_FILE) return writeModel(graph);
  throw new EngineError(
    `an ONNX file holds at most 2 GB, and these weights have ${(bytes / 2 ** 30).toFixed(1)} GB; use exportOnnxFiles, which writes several files`,
    'weights',
  );
}

/**
 * Exports the same graph as files with the names that transformers.js expects, `model.onnx` or `model_quantized.onnx`:
 * for `saveOnnx`, and for models of more than 2 GB, whose weights go into `model.onnx_data`, `model.onnx_data_1`, ..
 *
 * @throws UnsupportedError and EngineError as `exportOnnx`, except for the size.
 * @example
 * const files = [await exportOnnxFiles(merged), await exportOnnxFiles(merged, { dtype: 'q8' })];
 * await saveOnnx(merged, new Map(files.flatMap((each) => [...each])), 'for-the-web', { maxTokens });
 */
export async function exportOnnxFiles(source: PeftModel | Model, options: OnnxFilesOptions = {}): Promise<OnnxFiles> {
  const ownEntries = { ...entries, maxFileBytes: v.optional(integerFrom(1), LARGEST_FILE) };
  const { maxFileBytes, ...parsed } = parseOptions('exportOnnxFiles', ownEntries, options);
  const file = FILES[parsed.dtype];
  const graph = await modelGraph(source, parsed);
  if (storedBytes(graph) <= maxFileBytes) return new Map([[file, writeModel(graph)]]);
  const { model, data } = writeExternally(graph, file, maxFileBytes);
  return new Map([[file, model], ...data]);
}

async function modelGraph(source: PeftModel | Model, { inputs, dtype }: Required<OnnxOptions>): Promise<ModelGraph> {
  assertArgument('source', source, anyModel);
  assertFullPrecision('adapters' in source ? source.model : source);
  const { model } = activeParts(source);
  const readInputs = Object.fromEntries(inputs.map((input) => [input, TEXT_INPUTS[input]]));
  const { weights, fn } = inference(source);
  const graph = await functionGraph({
    fn,
    weights,
    inputs: { ...readInputs, ...(model.withPast && pastInputs(model.withPast)) },
  });
  return dtype === 'fp32' ? graph : quantizedGraph(graph, roundable(model, weights));
}

/** The weights that lose little in 8 bits: those of frozen linear modules and embeddings, but not of a trained head. */
function roundable(model: Model, weights: HostTensors): HostTensors {
  const own = model.sites.filter(
    (site) => site.kind === 'embedding' || (canQuantize(site) && !isInHead(model, site.path)),
  );
  const names = new Set(own.map(({ path }) => `${path}.weight`));
  return Object.fromEntries(Object.entries(weights).filter(([name]) => names.has(name)));
}

function storedBytes({ constants }: ModelGraph): number {
  return constants.reduce((sum, { data }) => sum + data.byteLength, 0);
}

/** The inputs that a text-generating graph has besides ids. */
function pastInputs({ layers, keyHeads, headDim }: PastDecoding): Record<string, DynamicInput> {
  const shape = ['batch_size', keyHeads, PAST, headDim];
  const names = Array.from({ length: layers }, (_, layer) =>
    ['key', 'value'].map((kind) => `past_key_values.${layer}.${kind}`),
  );
  return {
    attentionMask: { ...TEXT_INPUTS.attentionMask, shape: ['batch_size', `${PAST} + sequence_length`] },
    positions: { name: POSITIONS, dtype: 'int32' },
    ...Object.fromEntries(names.flat().map((name) => [name, { name, dtype: 'float32', shape, isFloat: true }])),
  };
}

/** The model's outputs as a pure function of its inputs, its weights and its adapters. */
function inference(source: PeftModel | Model): { fn: PureFunction; weights: HostTensors } {
  const { model, layers, values } = activeParts(source);
  const frozen = frozenWeights({ ...model, lookups: [] }, layers); // lookup tables are part of the graph
  const adapter = Object.fromEntries(Object.entries(values).map(([name, value]) => [`${ADAPTER}${name}`, value]));
  const context = stepContext({}, Object.keys(layers).length, false);
  const outputs = outputsOf(model);
  const fn: PureFunction = (all) =>
    outputs(peftScope(model, layers, { inputs: all, frozen: all, adapter: ofAdapter(all) }, context), all);
  return { fn, weights: { ...frozen, ...adapter } };
}

/**
 * The graph's outputs, named as in the exporters of transformers: the logits of a head, or the embeddings of a model
 * without one.
 */
function outputsOf({ withPast, tokenEmbeddings, forward }: Model): (scope: Scope, inputs: Tensors) => Tensors {
  if (withPast) return (...pass) => withPast.forward(...pass);
  if (tokenEmbeddings) return (...pass) => ({ last_hidden_state: tokenEmbeddings(...pass) });
  return (...pass) => ({ logits: forward(...pass) });
}

/**
 * Prefix of an adapter's tensors: a fully trained module has a tensor with the same name as the frozen weight that it
 * replaces.
 */
const ADAPTER = 'adapter:';

function ofAdapter(all: Tensors): Tensors {
  const own = Object.entries(all).filter(([name]) => name.startsWith(ADAPTER));
  return Object.fromEntries(own.map(([name, tensor]) => [name.slice(ADAPTER.length), tensor]));
}

/** A pure function of batches of any size, with its inputs and weights. */
export interface DynamicFunction {
  /** The function. */
  readonly fn: PureFunction;
  /** The inputs that it may read, by its own names for them. */
  readonly inputs: Readonly<Record<string, DynamicInput>>;
  /** The tensors that are the same in every run; they are stored in the file. */
  readonly weights: HostTensors;
}

interface DynamicInput {
  /** The graph's name for it. */
  readonly name: string;
  /** The type that the function reads. */
  readonly dtype: DType;
  /** Default [batch, tokens]. */
  readonly shape?: readonly Axis[];
  /** Whether the graph takes `dtype` itself. Default: it takes int64 and casts. */
  readonly isFloat?: boolean;
}

/** The most bytes that protobuf, and hence an ONNX file, can hold. */
const LARGEST_FILE = 2 ** 31 - 1;

/**
 * Traces a function whose inputs have any size.
 * @throws EngineError when a step of it cannot be written for any size; the error names it.
 */
export async function functionGraph({ fn, inputs, weights }: DynamicFunction): Promise<ModelGraph> {
  const specs: Record<string, InputSpec> = {};
  for (const [key, { dtype, shape = AXES }] of Object.entries(inputs)) specs[key] = { dtype, shape };
  for (const [key, tensor] of Object.entries(weights)) specs[key] = specOf(tensor);
  const graph = await dynamicGraph(fn, specs);
  const readInputs = graph.inputs.flatMap(({ key, name }) => (inputs[key] ? [{ ...inputs[key], value: name }] : []));
  if (readInputs.length === 0) throw new EngineError('the function reads none of its inputs', 'inputs');
  const stored = graph.inputs.flatMap(({ key, name }) =>
    weights[key] ? [{ key, value: name, tensor: weights[key] }] : [],
  );
  const renamed = new Map([
    ...readInputs.flatMap(({ name, value, isFloat }) => (isFloat ? [[value, name] as const] : [])),
    ...stored.map(({ key, value }) => [value, key] as const),
    ...graph.outputs.map(({ key, name }) => [name, key] as const),
  ]);
  const nameOf = (name: string): string => renamed.get(name) ?? name;
  return {
    nodes: [
      ...readInputs.flatMap(({ name, dtype, value, isFloat }) =>
        isFloat ? [] : [cast(name, value, ELEMENT_NUMBERS[dtype])],
      ),
      ...graph.nodes.map((node) => renamedNode(node, nameOf)),
    ],
    constants: [...stored.map(({ key, tensor }) => ({ ...tensor, name: key })), ...graph.constants],
    inputs: readInputs.map(({ name, dtype, shape = AXES, isFloat }) => ({
      name,
      dtype: isFloat ? dtype : 'int64',
      shape,
    })),
    outputs: graph.outputs.map((port) => ({ ...port, name: port.key })),
  };
}

async function dynamicGraph(fn: PureFunction, specs: Record<string, InputSpec>): Promise<RunGraph> {
  const prepared = await prepare({ table: standardTable, bytes: 'int8' }, fn, specs);
  try {
    return await prepared.graph();
  } catch (error) {
    if (!(error instanceof NotDynamic)) throw error;
    const message = `the graph cannot be written for any batch and any number of tokens: ${error.message}`;
    throw new EngineError(message, error.node?.op, error);
  }
}

function cast(from: string, to: string, type: number): GraphNode {
  return standardNode('Cast', [from], to, { to: type });
}
