/**
 * Exported folders are opened by the real @huggingface/transformers, which is too large to be a dependency of every
 * clone:
 *
 *   npm install --ignore-scripts --prefix /tmp/transformers-js @huggingface/transformers@4.3.2
 *   PEFTJS_TRANSFORMERS_JS=/tmp/transformers-js npx vitest run --config vitest.e2e.config.ts
 * tests/export/transformers-js
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Batch } from '@peftjs/core';
import type { PretrainedModel } from '@peftjs/models';

/** The part of @huggingface/transformers that is used. */
export interface TransformersJs {
  readonly env: { allowRemoteModels: boolean; localModelPath: string };
  readonly RawImage: new (data: Uint8ClampedArray, width: number, height: number, channels: number) => unknown;
  readonly Tensor: new (type: 'int64', data: BigInt64Array, dims: number[]) => unknown;
  readonly AutoTokenizer: Auto<(texts: string[], options: object) => Record<string, unknown>>;
  readonly AutoModelForSequenceClassification: Auto<Runs>;
  readonly AutoModelForTokenClassification: Auto<Runs>;
  readonly AutoModelForCausalLM: Auto<Runs>;
  pipeline(
    task: 'text-classification',
    model: string,
    options?: Loading,
  ): Promise<(texts: string[], options?: object) => Promise<LabelScore[]>>;
  pipeline(
    task: 'image-classification',
    model: string,
    options?: Loading,
  ): Promise<(image: unknown, options: object) => Promise<LabelScore[]>>;
  pipeline(
    task: 'feature-extraction',
    model: string,
    options?: Loading,
  ): Promise<(texts: string[], options: object) => Promise<{ tolist(): Nested }>>;
  pipeline(
    task: 'text-generation',
    model: string,
    options?: Loading,
  ): Promise<(texts: string[], options: object) => Promise<{ generated_text: string }[][]>>;
  pipeline(
    task: 'token-classification',
    model: string,
    options: Loading,
  ): Promise<(text: string, options: object) => Promise<readonly LabelScore[]>>;
}

/** Selects the graph of a folder. */
export interface Loading {
  readonly dtype: 'fp32' | 'q8';
}

export interface LabelScore {
  /** The output for a text. */
  readonly label?: string;
  /** The output for a token. */
  readonly entity?: string;
  readonly score: number;
}

export type Runs = (inputs: Readonly<Record<string, unknown>>) => Promise<{ logits: { tolist(): Nested } }>;
export type Nested = (number | Nested)[];

export interface Auto<T> {
  from_pretrained(folder: string): Promise<T>;
}

/** The folder in which the library is installed. */
export const installed = process.env.PEFTJS_TRANSFORMERS_JS ?? '';

/** Whether the library is missing. */
export const isMissing = installed === '';

/** Where the library is, or why it is missing. */
export const place = isMissing
  ? 'PEFTJS_TRANSFORMERS_JS names no folder where it is installed'
  : `installed in ${installed}`;

/** The library, which only reads the folders in `folder`. */
export function transformersJs(folder: string): TransformersJs {
  const library = createRequire(join(installed, 'package.json'))('@huggingface/transformers') as TransformersJs;
  Object.assign(library.env, { allowRemoteModels: false, localModelPath: folder });
  return library;
}

export const TEXTS = ['The film is wonderful.', 'The soup was cold, the waiter was rude and the bill was wrong.', 'a'];

/** A text as a batch of one. */
export function ofText({ tokenizer }: PretrainedModel, text: string): Batch {
  const { ids, typeIds } = tokenizer.encode(text);
  const shape = [1, ids.length];
  const integers = (values: readonly number[]) => ({ dtype: 'int32', shape, data: Int32Array.from(values) }) as const;
  return {
    inputs: {
      inputIds: integers(ids),
      attentionMask: { dtype: 'float32', shape, data: new Float32Array(ids.length).fill(1) },
      ...(typeIds && { tokenTypeIds: integers(typeIds) }),
    },
    labels: { dtype: 'int32', shape: [1], data: new Int32Array(1) },
    rowWeights: { dtype: 'float32', shape: [1], data: Float32Array.of(1) },
    rows: [0],
  };
}

/** The probabilities of classes. */
export function softmax(logits: readonly number[]): number[] {
  const exponentials = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  const sum = exponentials.reduce((total, each) => total + each, 0);
  return exponentials.map((each) => each / sum);
}
