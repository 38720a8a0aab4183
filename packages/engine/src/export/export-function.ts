import { EngineError, specOf } from '@peftjs/core';
import type { DType, HostTensors, PureFunction, TensorSpec } from '@peftjs/core';
import { writeModel } from '../compiled/onnx.js';
import { STANDARD_TRACE_BACKEND } from '../compiled/trace-backend.js';
import { traceOn } from '../compiled/trace.js';
import type { TracedGraph } from '../compiled/trace.js';
import { OpenGraph } from './open-graph.js';
import { tracedSizes, type Sizes } from './sizes.js';
import { BATCH_AXIS, TOKEN_AXIS, unify } from './unify.js';

/** An input of the function, [batch, tokens]. */
interface OpenInput {
  /** What the graph calls it. It takes int64 there. */
  readonly name: string;
  /** What the function reads. */
  readonly dtype: DType;
}

/** A pure function of batches of any size, and what else it reads. */
export interface OpenFunction {
  readonly fn: PureFunction;
  /** The inputs that may be read, by the names that the function has for them. */
  readonly inputs: Readonly<Record<string, OpenInput>>;
  /** The tensors that are the same in every run: they are stored in the file. */
  readonly weights: HostTensors;
  /** Most tokens that the graph is to take. */
  readonly maxTokens: number;
}

/** What protobuf, and with it an ONNX file, can hold. */
const LARGEST_FILE = 2 ** 31 - 1;

/**
 * The function as an ONNX file with inputs [batch, tokens] of any size.
 * @throws EngineError when a step of it cannot be written for any size, naming it, or the file would exceed 2 GB.
 */
export async function exportFunction({ fn, inputs, weights, maxTokens }: OpenFunction): Promise<Uint8Array> {
  checkSize(weights);
  const sizes = tracedSizes(maxTokens, new Set(Object.values(weights).flatMap(({ shape }) => shape)));
  const graphs: TracedGraph[] = [];
  for (const at of sizes) graphs.push(await traceOn(STANDARD_TRACE_BACKEND, fn, specs(inputs, weights, at)));
  const [{ inputs: reads }] = graphs as [TracedGraph];
  const taken = reads.flatMap(({ key, name }) => (inputs[key] ? [{ ...inputs[key], value: name }] : []));
  const [sized] = taken;
  if (sized === undefined) throw new EngineError('the function reads none of its inputs', 'inputs');
  const graph = new OpenGraph(sized.name);
  const stored = reads.flatMap(({ key, name }) => (weights[key] ? [{ key, value: name, tensor: weights[key] }] : []));
  const names = new Map([
    ...stored.map(({ key, value }) => [value, key] as const),
    ...taken.map(({ name, dtype, value }) => [value, graph.cast(name, dtype)] as const),
  ]);
  const outputs = unify({ graphs, sizes }, graph, names);
  return writeModel({
    nodes: graph.nodes,
    constants: [...stored.map(({ key, tensor }) => ({ ...tensor, name: key })), ...graph.constants],
    inputs: taken.map(({ name }) => ({ name, dtype: 'int64', shape: [BATCH_AXIS, TOKEN_AXIS] })),
    outputs,
  });
}

function specs(
  inputs: OpenFunction['inputs'],
  weights: HostTensors,
  { batch, tokens }: Sizes,
): Record<string, TensorSpec> {
  const open = Object.entries(inputs).map(([key, { dtype }]) => [key, { dtype, shape: [batch, tokens] }] as const);
  const held = Object.entries(weights).map(([key, tensor]) => [key, specOf(tensor)] as const);
  return Object.fromEntries([...open, ...held]);
}

function checkSize(weights: HostTensors): void {
  const bytes = Object.values(weights).reduce((sum, { data }) => sum + data.byteLength, 0);
  if (bytes <= LARGEST_FILE) return;
  throw new EngineError(
    `an ONNX file holds at most 2 GB, and these weights have ${(bytes / 2 ** 30).toFixed(1)} GB; export the merged folder instead`,
    'weights',
  );
}
