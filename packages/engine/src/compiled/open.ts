import type { InferenceSession } from 'onnxruntime-common';
import { ConfigError, EngineError } from '@peftjs/core';
import { writeModel } from './onnx.js';
import type { ElementType } from './graph.js';
import type { ExecutionProvider, OrtRuntime } from './runtime.js';

/** A graph to open; `TracedGraph` is one. */
export interface Openable {
  readonly nodes: readonly unknown[];
  bytes(): Uint8Array;
}

/**
 * Opens a session.
 *
 * @throws EngineError that names the provider where it does not start here, the graph's size where it does.
 */
export async function openGraph(
  runtime: OrtRuntime,
  graph: Openable,
  options: InferenceSession.SessionOptions,
): Promise<InferenceSession> {
  try {
    return await runtime.InferenceSession.create(graph.bytes(), options);
  } catch (cause) {
    await assertProviderStarts(runtime, options);
    const message = `ONNX Runtime refused a graph of ${graph.nodes.length} nodes: ${reasonOf(cause)}`;
    throw new EngineError(message, undefined, cause);
  }
}

/** A graph that gives back its input `x`, of any sizes, as `y`. */
export function copyModel(dtype: ElementType, rank: number): Uint8Array {
  const shape = Array.from({ length: rank }, (_, axis) => `size${axis}`);
  const node = { op: 'Identity', domain: '', inputs: ['x'], outputs: ['y'], attributes: {} };
  return writeModel({
    nodes: [node],
    constants: [],
    inputs: [{ name: 'x', dtype, shape }],
    outputs: [{ name: 'y', dtype, shape }],
  });
}

/** What ONNX Runtime says went wrong, in one line and without its source files. */
export function reasonOf(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  const said = message.split(' was false. ').at(-1) ?? message;
  return said.replaceAll(/\s+/g, ' ').replace(/[.\s]+$/, '');
}

/** @throws ConfigError for what is no list of providers, best first. */
export function checkProviders(providers: readonly ExecutionProvider[]): void {
  const list: readonly ExecutionProvider[] = Array.isArray(providers) ? providers : [];
  const names: unknown[] = list.map(providerName);
  if (names.length > 0 && names.every((name) => typeof name === 'string' && name !== '')) return;
  throw new ConfigError(
    `executionProviders must be a list of names, e.g. ['webgpu'], got ${JSON.stringify(providers)}`,
    'executionProviders',
  );
}

/** A provider's name, with or without options. */
export function providerName(provider: ExecutionProvider): string {
  return typeof provider === 'string' ? provider : provider.name;
}

/** What has to be there besides ONNX Runtime. */
const NEEDS: Readonly<Record<string, string>> = {
  webgpu: 'it needs a GPU and its driver for Vulkan, Metal or Direct3D 12',
  cuda: 'it needs CUDA, and its libraries: npm rebuild onnxruntime-node --ignore-scripts=false',
};

/** @throws EngineError where even the smallest graph cannot be opened: it is not the graph, then. */
async function assertProviderStarts(
  runtime: OrtRuntime,
  { executionProviders = [], logSeverityLevel = 4 }: InferenceSession.SessionOptions,
): Promise<void> {
  try {
    const options = { executionProviders, logSeverityLevel };
    const session = await runtime.InferenceSession.create(copyModel('float32', 1), options);
    await session.release();
  } catch (cause) {
    const names = executionProviders.map(providerName);
    const [name = ''] = names;
    const advice = NEEDS[name] ?? 'listBackends() tells what this machine has';
    throw new EngineError(
      `ONNX Runtime does not start on '${names.join("', '")}' here: ${reasonOf(cause)}; ${advice}`,
      name,
      cause,
    );
  }
}
