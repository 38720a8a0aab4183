import type { Tensor } from '@tensorflow/tfjs';
import { CheckpointError, ShapeError } from '@peftjs/core';
import type { HostTensor, HostTensors, Lookup, Scope, Site, Tensors, Axis, InputSpec } from '@peftjs/core';
import type { Head } from './head.js';

/**
 * A network without its weights: the list of its modules and pure functions over them. The list is the one source of shapes:
 * what a checkpoint must hold follows from it.
 */
export interface Network {
  readonly name: string;
  /** Longest sequence it reads. */
  readonly maxTokens: number;
  /** Kinds of token that `tokenTypeIds` tell apart (a text and its pair); left out where it does not read them. */
  readonly tokenTypes?: number;
  /** What it computes with and no shape shows, e.g. its number of heads: part of the model's identity. */
  readonly settings?: Readonly<Record<string, number>>;
  /** The modules that the head's features come through, in the order of the forward pass: methods act on these. */
  readonly sites: readonly Site[];
  /** The modules that only `encode` reaches, so that no method trains what a classifier never reads. */
  readonly encodeOnly: readonly Site[];
  readonly defaultTargetModules: readonly string[];
  readonly lookups: readonly Lookup[];
  /** Modules whose weight the head reads too. */
  readonly tied?: readonly string[];
  /** The sentence embedding that the network was published for: [batch, width]. */
  encode(scope: Scope, inputs: Tensors): Tensor;
}

/** A network with its head for a task. */
export interface Architecture extends Network {
  readonly head: Head;
  /** How it goes on with a text, where it is one for the next token. */
  readonly decoding?: Decoding;
}

/** How a language model goes on with texts token by token, the keys and values of each layer kept from pass to pass. */
export interface Decoding {
  /** Size of the vocabulary: all ids are below it. */
  readonly words: number;
  /** Tokens of a text that it reads, at most. */
  readonly maxTokens: number;
  /** What is kept of a batch of texts of at most `capacity` tokens, by name. */
  kept(batch: Axis, capacity: number): Readonly<Record<string, InputSpec>>;
  /**
   * Reads prompts: `inputIds` int32 and `attentionMask` float32, [batch, tokens], padded at the end. Gives `logits` [batch, words]
   * of what follows each prompt, and what is kept.
   */
  readPrompt(scope: Scope, inputs: Tensors, capacity: number): Tensors;
  /** Reads one token more of each text: `inputIds` and `positions`, int32 [batch, 1], and what was kept. Gives the same. */
  readToken(scope: Scope, inputs: Tensors, capacity: number): Tensors;
}

/** An input of the batch. @throws ShapeError when the batch has none of that name. */
export function batchInput(inputs: Tensors, name: string): Tensor {
  const input = inputs[name];
  if (!input)
    throw new ShapeError(`the model reads '${name}', got ${Object.keys(inputs).join(', ') || 'nothing'}`, name);
  return input;
}

/** A weight as a checkpoint declares it; a dtype that is no float32 is called as the file calls it. */
export interface DeclaredWeight {
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** The shape of every weight of an architecture, its head left out, by name. */
export function weightShapes({
  sites,
  encodeOnly,
}: Pick<Network, 'sites' | 'encodeOnly'>): Record<string, readonly number[]> {
  const shapes: Record<string, readonly number[]> = {};
  for (const { path, kind, inFeatures, outFeatures, hasBias } of [...sites, ...encodeOnly]) {
    shapes[`${path}.weight`] = kind === 'layerNorm' ? [outFeatures] : [inFeatures, outFeatures];
    if (hasBias) shapes[`${path}.bias`] = [outFeatures];
  }
  return shapes;
}

/**
 * Holds what a checkpoint says it has against what the architecture needs, before any weight is read.
 * @throws CheckpointError naming the first missing or mis-shaped weight.
 */
export function checkShapes(
  architecture: Network,
  specs: Readonly<Record<string, DeclaredWeight>>,
  file: string,
): void {
  for (const [name, shape] of Object.entries(weightShapes(architecture))) {
    const spec = specs[name];
    if (!spec) throw new CheckpointError(`${file}: weight '${name}' of ${architecture.name} is missing`, name);
    if (spec.dtype !== 'float32' || spec.shape.join() !== shape.join()) {
      throw new CheckpointError(
        `${file}: weight '${name}' must be float32 [${shape.join(', ')}], got ${spec.dtype} [${spec.shape.join(', ')}]`,
        name,
      );
    }
  }
}

/** @throws CheckpointError naming the first weight that holds a NaN or an infinite value. */
export function checkFinite(weights: HostTensors, file: string): void {
  for (const [name, tensor] of Object.entries(weights)) {
    const position = firstNotFinite(tensor);
    if (position >= 0) {
      throw new CheckpointError(
        `${file}: weight '${name}' holds ${tensor.data[position]} at position ${position}`,
        name,
      );
    }
  }
}

function firstNotFinite({ data }: HostTensor): number {
  for (let position = 0; position < data.length; position++) {
    if (!Number.isFinite(data[position])) return position;
  }
  return -1;
}
