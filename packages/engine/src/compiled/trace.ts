import * as tf from '@tensorflow/tfjs-core';
import type { Tensors } from '@peftjs/core/method';
import type { ByteType, TensorSpec } from '@peftjs/core/model';
import type { PureFunction } from '@peftjs/core/runtime';
import { checkFunction, checkOutputs, checkSpecs } from '../checks.js';
import { withBackend } from '../tf-backends.js';
import type { GraphBuilder } from './graph.js';
import type { GraphPort } from './parts.js';
import { writeModel, type ModelGraph } from './onnx.js';
import { passes } from './passes.js';
import { kernelTable } from './kernels/table.js';
import type { KernelTable } from './kernels/kernel.js';
import { missingKernel, traceBackend, traceBackendName } from './trace-backend.js';
import type { TraceBackend } from './trace-backend.js';

/** The element types of inputs. */
export const INPUT_TYPES: readonly string[] = ['float32', 'int32', 'int8', 'uint8'];

/** A pure function as an ONNX graph: only what an output depends on, also of the inputs. */
export interface TracedGraph extends ModelGraph<GraphPort> {
  /** The graph as an ONNX model file. */
  bytes(): Uint8Array;
}

/**
 * Runs a pure function once on symbolic tensors and returns the graph of its operations, including its gradients. Bools
 * come out as int32.
 *
 * @throws EngineError when the function does something that a graph cannot express: reads a tensor, draws random
 * numbers, needs a kernel without an ONNX equivalent, or traces another function.
 * @throws ShapeError when a spec is impossible.
 */
export async function trace(fn: PureFunction, inputs: Readonly<Record<string, TensorSpec>>): Promise<TracedGraph> {
  return traceWith({ table: kernelTable, bytes: 'int8' }, fn, inputs);
}

/** Settings that a trace depends on. */
export interface Tracing {
  /** The kernels that can be compiled. */
  readonly table: KernelTable;
  /** The byte type that the graph uses for int8 inputs and in integer products. */
  readonly bytes: ByteType;
}

/** {@link trace} with a choice of kernels. */
export async function traceWith(
  { table, bytes }: Tracing,
  fn: PureFunction,
  inputs: Readonly<Record<string, TensorSpec>>,
): Promise<TracedGraph> {
  checkFunction(fn);
  checkSpecs(inputs, INPUT_TYPES);
  // withBackend restores the current backend, so one must have been chosen and have started.
  await tf.ready();
  const name = traceBackendName(table);
  const backend = traceBackend(name);
  return withBackend(name, () =>
    backend.trace((graph) => {
      graph.bytes = bytes;
      tf.tidy(() => {
        const outputs = call(fn, inputTensors(backend, graph, inputs, bytes));
        for (const [key, tensor] of Object.entries(outputs)) graph.output(key, backend.valueFor(tensor));
      });
      const changed = passes.reduce<ModelGraph<GraphPort>>((before, pass) => pass(before), graph);
      return { ...changed, bytes: () => writeModel(changed) };
    }),
  );
}

function inputTensors(
  backend: TraceBackend,
  graph: GraphBuilder,
  specs: Readonly<Record<string, TensorSpec>>,
  bytes: ByteType,
): Tensors {
  const tensors = Object.entries(specs).map(([key, { dtype, shape }]) => {
    const info = backend.tensorOf(graph.input(key, dtype === 'int8' ? bytes : dtype, shape));
    return [key, tf.engine().makeTensorFromTensorInfo(info)] as const;
  });
  return Object.fromEntries(tensors);
}

function call(fn: PureFunction, inputs: Tensors): Tensors {
  const outputs = orMissingKernel(() => fn(inputs));
  checkOutputs(outputs);
  return outputs;
}

/** Rewords TensorFlow.js's error about a kernel that is not registered. */
function orMissingKernel<T>(body: () => T): T {
  try {
    return body();
  } catch (error) {
    const [, kernel] = (error instanceof Error && /^Kernel '(.+)' not registered/.exec(error.message)) || [];
    if (kernel !== undefined) throw missingKernel(kernel);
    throw error;
  }
}
