/** Writes adapters as llama.cpp, Ollama and LM Studio apply them. */
import { activeAdapter, diskStorage, fullPrecision, type Model, type PeftModel } from '@peftjs/core';
import {
  ConfigError,
  floats,
  integerFrom,
  UnsupportedError,
  type AdapterLayer,
  type HostTensor,
  type LoraFactors,
} from '@peftjs/core/method';
import { loraDelta, nearestFactors, scaled, transposed } from '@peftjs/core/linalg';
import { assertConvertible, deltaOf, valuesOf, type Adapter } from '@peftjs/core/model';
import { fromFloat32, writeGguf, type GgufTensor } from '@peftjs/gguf';
import * as v from 'valibot';
import { changedBack } from '../gguf/tensors.js';
import { readSource, type ExportOptions } from './files.js';
import { assertGguf, targetOf, tensorOf, type GgufTarget } from './gguf-target.js';

/** Options of an adapter in a GGUF file. */
export interface GgufAdapterOptions extends Omit<ExportOptions, 'labels'> {
  /** The ranks that are kept of a change that is not of low rank, e.g. of OFT or LoKr. Default 64. */
  readonly rank?: number;
}

const DEFAULT_RANK = 64;

/**
 * Writes the active adapter as a LoRA that llama.cpp and Ollama apply to the GGUF file of its base model. The change of
 * a method that is not of low rank is approximated, as `convertToLora` does.
 *
 * @param file The path of the file, which ends in `.gguf`.
 * @returns how far the written changes of such weights are from the adapter's, ||a - b|| / ||b||; 0 if all are of low
 * rank.
 * @throws ConfigError for an invalid option, for a path with another ending, and when several adapters are active.
 * @throws UnsupportedError for an architecture that is not written, and for what such a file cannot hold: modules
 * trained in full, biases, norms, embeddings, and methods that do more than change weights.
 * @throws CheckpointError when the source's files are missing, or writing fails.
 * @example
 * await saveGgufAdapter(peft, 'adapter.gguf');
 */
export async function saveGgufAdapter(
  peft: PeftModel,
  file: string,
  options: GgufAdapterOptions = {},
): Promise<number> {
  const trained = activeAdapter(peft);
  assertGguf(peft.model, file, options, { rank: v.optional(integerFrom(1)) });
  refuseOthers(peft, trained);
  const whole = await fullPrecision(peft); // a change of rounded weights is another one
  const [adapter, { model }] = [activeAdapter(whole), whole];
  const target = targetOf(model, await readSource(model, options));
  const layers = Object.values(adapter.layers).map(
    (layer) => [tensorOf(`${layer.site.path}.weight`, target), layer] as const,
  );
  const { rank = DEFAULT_RANK, storage = diskStorage() } = options;
  const changes = layers.map(([name, layer]) => ({ name, ...changeOf(layer, adapter, { model, rank }) }));
  const kept = changes.filter(({ factors }) => factors.loraA.shape[1] !== 0);
  const [first] = kept;
  if (first === undefined) throw new UnsupportedError(`the adapter '${adapter.name}' changes no weight`, adapter.name);
  const alpha = alphaOf(first.factors) || 1; // to llama.cpp, 0 means 'not scaled'
  const tensors = kept.flatMap(({ name, factors }) => loraTensors(name, factors, alpha, target));
  const bytes = writeGguf(new Map(tensors), {
    'general.architecture': { type: 'string', value: target.architecture },
    'general.type': { type: 'string', value: 'adapter' },
    'adapter.type': { type: 'string', value: 'lora' },
    'adapter.lora.alpha': { type: 'float32', value: alpha },
  });
  await storage.write(file, bytes);
  const total = (of: 'error' | 'size'): number => kept.reduce((sum, each) => sum + each[of], 0);
  return total('size') === 0 ? 0 : Math.sqrt(total('error') / total('size'));
}

/**
 * @throws ConfigError when several adapters are active.
 * @throws UnsupportedError naming the first part of an adapter that a LoRA of llama.cpp cannot hold.
 */
function refuseOthers({ model, active }: PeftModel, adapter: Adapter): void {
  if (active.length > 1) {
    throw new ConfigError(`${active.join(', ')} are active, and one adapter is written: call setAdapter`, 'active');
  }
  assertConvertible(adapter);
  const refuse = (path: string, what: string): never => {
    throw new UnsupportedError(
      `the adapter ${what}, which an adapter of llama.cpp cannot hold: write the merged model instead`,
      path,
    );
  };
  const [whole] = Object.keys(adapter.saved);
  if (whole !== undefined) refuse(whole, `trains '${whole}' itself`);
  for (const { site, mergedBias, toLora, deltaWeight } of Object.values(adapter.layers)) {
    const { path, kind } = site;
    if (kind !== 'linear') refuse(path, `changes '${path}', ${kind === 'embedding' ? 'an embedding table' : 'a norm'}`);
    if (mergedBias ?? (!toLora && !deltaWeight)) refuse(path, `changes the bias of '${path}'`);
    if (model.tied?.some((head) => head.site.path === path)) refuse(path, `changes '${path}', an embedding table`);
  }
}

/** The change of a weight. */
interface Change {
  readonly factors: LoraFactors;
  /** The squared norm of what the factors leave out; 0 for a method of low rank. */
  readonly error: number;
  /** The squared norm of the change; 0 for a method of low rank. */
  readonly size: number;
}

function changeOf(
  layer: AdapterLayer,
  { values }: Adapter,
  { model, rank }: { readonly model: Model; readonly rank: number },
): Change {
  const own = valuesOf(layer, values);
  if (layer.toLora) return { factors: layer.toLora(own), error: 0, size: 0 };
  const whole = deltaOf(model, layer, own) as HostTensor; // layers without one were refused
  const factors = nearestFactors(whole, { rank });
  const [delta, near] = [floats(whole), loraDelta(factors)];
  const sizeOf = (values: Float32Array): number => values.reduce((sum, value) => sum + value * value, 0);
  return { factors, error: sizeOf(delta.map((value, at) => value - (near[at] as number))), size: sizeOf(delta) };
}

/** Returns the alpha of alpha / rank. */
function alphaOf({ loraA, scaling }: LoraFactors): number {
  return Number((scaling * (loraA.shape[1] as number)).toPrecision(12));
}

/**
 * Returns A [r, in] and B [out, r] of a weight: llama.cpp adds alpha / r * B A x, with one alpha for all of a file. What
 * a module's own alpha is beyond that becomes part of B.
 */
function loraTensors(
  name: string,
  factors: LoraFactors,
  alpha: number,
  { changes }: GgufTarget,
): [name: string, tensor: GgufTensor][] {
  const a = transposed(factors.loraA);
  const b = transposed(scaled(factors.loraB, alphaOf(factors) / alpha));
  const change = changes(name);
  // Factors are of x W, in llama.cpp as here, however a checkpoint holds W. Only the rows may have another order.
  const rows = changedBack({ shape: b.shape, data: floats(b) }, change === 'transposed' ? undefined : change);
  return [
    [`${name}.lora_a`, fromFloat32('F32', a.shape, floats(a))],
    [`${name}.lora_b`, fromFloat32('F32', rows.shape, rows.data)],
  ];
}
