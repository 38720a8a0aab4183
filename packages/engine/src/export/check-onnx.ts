import { hostTensor, predict, type InputBatch, type Model, type PeftModel } from '@peftjs/core';
import { relativeDistance } from '@peftjs/core/linalg';
import {
  createRng,
  EngineError,
  floats,
  hostFilled,
  hostIntegers,
  integerFrom,
  sizeOf,
  type HostTensor,
  type HostTensors,
} from '@peftjs/core/method';
import { anyModel, assertArgument } from '@peftjs/core/model';
import { releaseRuntimes } from '@peftjs/core/runtime';
import * as v from 'valibot';
import { compiled } from '../compiled/compiled.js';
import { aRuntime, loadRuntime, type OrtRuntime, type OrtTensor } from '../compiled/runtime.js';
import { POSITIONS, TEXT_INPUTS, type OnnxDtype, type OnnxFiles, type TextInput } from './export-onnx.js';

/** Options of {@link checkOnnx}. */
export interface OnnxCheckOptions {
  /** The most tokens that the model reads. */
  readonly maxTokens: number;
  /** The size of the images that an image model reads, in pixels. Default: the model reads text. */
  readonly imageSize?: readonly [height: number, width: number];
  /** The dtype that the graph was exported with. Default 'fp32'. */
  readonly dtype?: OnnxDtype;
  /** The ONNX Runtime to use, e.g. onnxruntime-web/wasm in a page. Default: onnxruntime-node. */
  readonly runtime?: OrtRuntime;
}

/**
 * The largest acceptable relative error, ||a - b|| / ||b||: rounding errors of float32 and of 8-bit weights stay below
 * it.
 */
const TOLERANCE: Readonly<Record<OnnxDtype, number>> = { fp32: 1e-4, q8: 0.5 };

/** Batch shapes [rows, tokens]: one row and several, one token and several. */
const SHAPES: readonly (readonly [number, number])[] = [
  [1, 1],
  [2, 6],
  [4, 21],
];

const entries = {
  maxTokens: integerFrom(1),
  imageSize: v.optional(v.tuple([integerFrom(1), integerFrom(1)])),
  dtype: v.optional(v.picklist(['fp32', 'q8'])),
  runtime: v.optional(aRuntime),
} satisfies Record<keyof OnnxCheckOptions, unknown>;

const aGraph = v.union(
  [v.instance(Uint8Array), v.map(v.string(), v.instance(Uint8Array))],
  'what exportOnnx or exportOnnxFiles returned',
);

/**
 * Runs an exported graph and its model on the same random batches, some of them padded. A graph with past keys and
 * values reads each text both as a whole and in two halves.
 * @param graph what `exportOnnx` or `exportOnnxFiles` returned
 * @param source the model that was exported
 * @returns the largest relative error of the outputs, ||a - b|| / ||b||
 * @throws EngineError above 1e-4 (0.5 for 8-bit weights), and ONNX Runtime's own error when it rejects the graph.
 */
export async function checkOnnx(
  graph: Uint8Array | OnnxFiles,
  source: PeftModel | Model,
  options: OnnxCheckOptions,
): Promise<number> {
  assertArgument('graph', graph, aGraph);
  assertArgument('source', source, anyModel);
  assertArgument('options', options, v.object(entries));
  const { maxTokens, imageSize, dtype = 'fp32', runtime } = options;
  const ort = runtime ?? (await loadRuntime());
  const session = await openFiles(ort, graph);
  const executor = compiled(runtime && { runtime });
  const longest = Math.min(maxTokens, baseOf(source).withPast?.maxTokens ?? Infinity);
  try {
    let worst = 0;
    for (const [rows, tokens] of SHAPES.filter(([, tokens]) => tokens <= longest)) {
      const inputs = imageSize ? randomImages(rows, imageSize) : randomTexts(source, rows, tokens);
      const batch = { inputs, rowWeights: hostFilled([rows], 1), rows: [...Array(rows).keys()] };
      const expected = (await predict(unpooled(source), [batch], { executor })).flatMap((row) => [...row]);
      const halves = takesPast(session) && tokens > 1 ? [[tokens], [Math.ceil(tokens / 2), tokens]] : [[tokens]];
      for (const ends of halves)
        worst = Math.max(worst, relativeDistance(await outputsOf(ort, session, batch, ends), expected));
    }
    if (worst <= TOLERANCE[dtype]) return worst;
    throw new EngineError(
      `the exported graph's outputs are ${worst.toPrecision(2)} away from the model's, more than ${TOLERANCE[dtype]}`,
    );
  } finally {
    await Promise.all([session.release(), releaseRuntimes(executor)]);
  }
}

type Session = Awaited<ReturnType<OrtRuntime['InferenceSession']['create']>>;

function openFiles({ InferenceSession }: OrtRuntime, graph: Uint8Array | OnnxFiles): Promise<Session> {
  const files: OnnxFiles = graph instanceof Uint8Array ? new Map([['.onnx', graph]]) : graph;
  const own = [...files].find(([name]) => name.endsWith('.onnx'))?.[1] ?? new Uint8Array();
  const data = [...files].filter(([name]) => !name.endsWith('.onnx'));
  return InferenceSession.create(own, {
    logSeverityLevel: 4,
    ...(data.length > 0 && { externalData: data.map(([path, bytes]) => ({ path, data: bytes })) }),
  });
}

const PAST = 'past_key_values.';

function takesPast({ inputNames }: Session): boolean {
  return inputNames.some((name) => name.startsWith(PAST));
}

/**
 * The graph's outputs for a batch, row after row.
 * @param ends the end of each call, in tokens; a call gets the keys and values of the calls before it
 */
async function outputsOf(
  ort: OrtRuntime,
  session: Session,
  batch: InputBatch,
  ends: readonly number[],
): Promise<number[]> {
  const rows = batch.rows.length;
  const parts: Float32Array[] = [];
  let past: Record<string, OrtTensor> = takesPast(session) ? emptyPast(ort, session, rows) : {};
  let from = 0;
  for (const to of ends) {
    const outputs = await session.run({ ...feeds(ort, session.inputNames, batch, { from, to }), ...past });
    const present = Object.entries(outputs).filter(([name]) => name.startsWith('present.'));
    past = Object.fromEntries(present.map(([name, value]) => [name.replace('present.', PAST), value]));
    const own = Object.entries(outputs).find(([name]) => !name.startsWith('present.'))?.[1];
    parts.push((await own?.getData()) as Float32Array);
    from = to;
  }
  const ofRow = (part: Float32Array, row: number): Float32Array =>
    part.subarray((row * part.length) / rows, ((row + 1) * part.length) / rows);
  return batch.rows.flatMap((_, row) => parts.flatMap((part) => [...ofRow(part, row)]));
}

/** Keys and values of zero tokens. */
function emptyPast({ Tensor }: OrtRuntime, { inputMetadata = [] }: Session, rows: number): Record<string, OrtTensor> {
  const own = inputMetadata.filter(({ name }) => name.startsWith(PAST));
  return Object.fromEntries(
    own.map(({ name, shape = [] }) => {
      const [heads, size] = [Number(shape[1]), Number(shape[3])];
      return [name, new Tensor('float32', new Float32Array(0), [rows, heads, 0, size])];
    }),
  );
}

function baseOf(source: PeftModel | Model): Model {
  return 'adapters' in source ? source.model : source;
}

/** Makes a model return what its graph returns: an embedder returns token embeddings. */
function unpooled(source: PeftModel | Model): PeftModel | Model {
  if ('adapters' in source) return { ...source, model: unpooled(source.model) as Model };
  return source.tokenEmbeddings ? { ...source, forward: source.tokenEmbeddings } : source;
}

/** Rows of random ids, each shorter than the one before. */
function randomTexts(source: PeftModel | Model, rows: number, tokens: number): HostTensors {
  const { sites } = baseOf(source);
  const words = sites.find(({ kind }) => kind === 'embedding')?.inFeatures ?? 1;
  const rng = createRng(0);
  const shape = [rows, tokens];
  const isToken = (place: number): boolean => place % tokens < tokens - Math.floor(place / tokens);
  const numbers = (draw: (place: number) => number): number[] =>
    Array.from({ length: rows * tokens }, (_, place) => (isToken(place) ? draw(place) : 0));
  return {
    inputIds: hostIntegers(Int32Array.from(numbers(() => rng.integer(words))), shape),
    attentionMask: hostTensor(Float32Array.from(numbers(() => 1)), shape),
    tokenTypeIds: hostIntegers(new Int32Array(rows * tokens), shape),
  };
}

function randomImages(rows: number, [height, width]: readonly [height: number, width: number]): HostTensors {
  const shape = [rows, 3, height, width];
  const rng = createRng(0);
  const pixels = Float32Array.from({ length: sizeOf(shape) }, () => rng.normal());
  return { pixelValues: hostTensor(pixels, shape) };
}

/** The tokens of a batch in a range of positions; the mask also covers all tokens before them. */
function feeds(
  { Tensor }: OrtRuntime,
  names: readonly string[],
  { inputs }: InputBatch,
  { from, to }: { readonly from: number; readonly to: number },
): Record<string, OrtTensor> {
  const { pixelValues } = inputs;
  if (pixelValues) return { pixel_values: new Tensor('float32', floats(pixelValues), [...pixelValues.shape]) };
  const [rows = 1, tokens = 1] = inputs.inputIds?.shape ?? [];
  const places = Array.from({ length: rows * tokens }, (_, place) => place);
  const valuesAt = (start: number, number: (place: number) => number): OrtTensor => {
    const kept = places.filter((place) => place % tokens >= start && place % tokens < to);
    return new Tensor(
      'int64',
      BigInt64Array.from(kept, (place) => BigInt(number(place))),
      [rows, to - start],
    );
  };
  const read = (Object.keys(TEXT_INPUTS) as TextInput[]).filter((input) => names.includes(TEXT_INPUTS[input].name));
  const own = read.map((input) => {
    const { data } = inputs[input] as HostTensor;
    return [
      TEXT_INPUTS[input].name,
      valuesAt(input === 'attentionMask' ? 0 : from, (place) => data[place] as number),
    ] as const;
  });
  const positions = names.includes(POSITIONS) ? { [POSITIONS]: valuesAt(from, (place) => place % tokens) } : {};
  return { ...Object.fromEntries(own), ...positions };
}
