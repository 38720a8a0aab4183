import { readFileSync } from 'node:fs';
import { memoryStorage } from '@peftjs/core';
import { fromFloat32, openGguf, toFloat32, writeGguf, type GgufTensor, type MetadataValue } from '@peftjs/gguf';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { bytesSource } from '@peftjs/safetensors';

/** The content of a GGUF file. */
export interface Content {
  readonly metadata: Map<string, MetadataValue>;
  readonly tensors: Map<string, GgufTensor>;
}

/** Returns a small random model of tests/models/fixtures/gguf. */
export function fileOf(network: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`../models/fixtures/gguf/${network}.gguf`, import.meta.url)));
}

/** Reads a whole file. */
export async function contentOf(bytes: Uint8Array): Promise<Content> {
  const file = await openGguf(bytesSource(bytes));
  const tensors = new Map<string, GgufTensor>();
  for (const name of file.names) tensors.set(name, await file.read(name));
  return { metadata: new Map(file.metadata), tensors };
}

/** Opens a language model. */
export function opened(bytes: Uint8Array): Promise<PretrainedModel> {
  const storage = memoryStorage(new Map([['model.gguf', bytes]]));
  return fromPretrained('model.gguf', { task: 'causal-lm', storage });
}

/** Adds the change of an adapter's file to a model's file, as llama.cpp computes it: W + alpha / r * B A. */
export async function folded(model: Uint8Array, adapter: Uint8Array): Promise<Uint8Array> {
  const [base, lora] = [await contentOf(model), await contentOf(adapter)];
  const alpha = lora.metadata.get('adapter.lora.alpha')?.value as number;
  for (const [name, { shape, data }] of lora.tensors) {
    if (!name.endsWith('.lora_a')) continue;
    const weight = name.slice(0, -'.lora_a'.length);
    const [rank = 1, width = 1] = shape;
    const a = toFloat32({ type: 'F32', shape, data });
    const b = toFloat32(lora.tensors.get(`${weight}.lora_b`) as GgufTensor);
    const stored = base.tensors.get(weight) as GgufTensor;
    const values = toFloat32(stored).map((value, at) => {
      const [row, column] = [Math.floor(at / width), at % width];
      let sum = 0;
      for (let r = 0; r < rank; r++) sum += (b[row * rank + r] as number) * (a[r * width + column] as number);
      return value + (alpha / rank) * sum;
    });
    base.tensors.set(weight, fromFloat32('F32', stored.shape, values));
  }
  return writeGguf(base.tensors, base.metadata);
}
