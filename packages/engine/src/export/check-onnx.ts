import { hostTensor, predict, type InputBatch, type Model, type PeftModel } from '@peftjs/core';
import { createRng, EngineError, hostIntegers, type HostTensor } from '@peftjs/core/method';
import { releaseRuntimes } from '@peftjs/core/runtime';
import { compiled } from '../compiled/compiled.js';
import { loadRuntime, type OrtRuntime, type OrtTensor } from '../compiled/runtime.js';
import { TEXT_INPUTS, type TextInput } from './export-onnx.js';

/** How an exported graph is held against its model. */
export interface OnnxCheckOptions {
  /** Most tokens that the model reads. */
  readonly maxTokens: number;
  /** ONNX Runtime to use, e.g. onnxruntime-web in a page. Default: onnxruntime-node. */
  readonly runtime?: OrtRuntime;
}

/** Between two float32 computations of one tensor, ||a - b|| / ||b||. */
const TOLERANCE = 1e-4;

/** Batches of one row and of several, of one token and of several: [rows, tokens]. */
const SHAPES: readonly (readonly [number, number])[] = [
  [1, 1],
  [2, 6],
  [4, 21],
];

/**
 * Runs an exported graph and its model on the same drawn batches, padded ones among them.
 * @returns how far the outputs are from each other at most, ||a - b|| / ||b||
 * @throws EngineError beyond 1e-4, or when ONNX Runtime does not take the graph.
 */
export async function checkOnnx(
  graph: Uint8Array,
  source: PeftModel | Model,
  { maxTokens, runtime }: OnnxCheckOptions,
): Promise<number> {
  const ort = runtime ?? (await loadRuntime());
  const session = await ort.InferenceSession.create(graph, { logSeverityLevel: 4 });
  const executor = compiled(runtime && { runtime });
  try {
    let worst = 0;
    for (const [rows, tokens] of SHAPES.filter(([, tokens]) => tokens <= maxTokens)) {
      const batch = drawnBatch(source, rows, tokens);
      const expected = await predict(unpooled(source), [batch], { executor });
      const [output] = Object.values(await session.run(feeds(ort, session.inputNames, batch)));
      worst = Math.max(worst, distance((await output?.getData()) as Float32Array, expected));
    }
    if (worst <= TOLERANCE) return worst;
    throw new EngineError(
      `the exported graph's outputs are ${worst.toPrecision(2)} away from the model's, more than ${TOLERANCE}`,
    );
  } finally {
    await Promise.all([session.release(), releaseRuntimes(executor)]);
  }
}

/** A model that gives what its graph does: of an embedder the embeddings of tokens. */
function unpooled(source: PeftModel | Model): PeftModel | Model {
  if ('adapters' in source) return { ...source, model: unpooled(source.model) as Model };
  return source.tokenEmbeddings ? { ...source, forward: source.tokenEmbeddings } : source;
}

/** Rows of drawn ids, each shorter than the one before. */
function drawnBatch(source: PeftModel | Model, rows: number, tokens: number): InputBatch {
  const { sites } = 'adapters' in source ? source.model : source;
  const words = sites.find(({ kind }) => kind === 'embedding')?.inFeatures ?? 1;
  const rng = createRng(0);
  const shape = [rows, tokens];
  const isToken = (place: number): boolean => place % tokens < tokens - Math.floor(place / tokens);
  const numbers = (draw: (place: number) => number): number[] =>
    Array.from({ length: rows * tokens }, (_, place) => (isToken(place) ? draw(place) : 0));
  return {
    inputs: {
      inputIds: hostIntegers(Int32Array.from(numbers(() => rng.integer(words))), shape),
      attentionMask: hostTensor(Float32Array.from(numbers(() => 1)), shape),
      tokenTypeIds: hostIntegers(new Int32Array(rows * tokens), shape),
    },
    rowWeights: hostTensor(new Float32Array(rows).fill(1), [rows]),
    rows: Array.from({ length: rows }, (_, row) => row),
  };
}

function feeds({ Tensor }: OrtRuntime, names: readonly string[], { inputs }: InputBatch): Record<string, OrtTensor> {
  const read = (Object.keys(TEXT_INPUTS) as TextInput[]).filter((input) => names.includes(TEXT_INPUTS[input].name));
  return Object.fromEntries(
    read.map((input) => {
      const { data, shape } = inputs[input] as HostTensor;
      return [TEXT_INPUTS[input].name, new Tensor('int64', BigInt64Array.from(data, BigInt), shape)];
    }),
  );
}

/** Infinite for outputs of other sizes. */
function distance(given: Float32Array, rows: readonly Float32Array[]): number {
  let [error, norm, place] = [0, 0, 0];
  for (const row of rows) {
    for (const value of row) {
      error += (value - (given[place++] as number)) ** 2;
      norm += value ** 2;
    }
  }
  return place === given.length ? Math.sqrt(error / (norm || 1)) : Infinity;
}
