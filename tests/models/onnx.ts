import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { memoryStorage, type Storage } from '@peftjs/core';
import { fromOnnx, type OnnxModel, type OnnxOptions } from '@peftjs/onnx';

/** The networks that tools/golden/onnx.py exported, each with both exporters of torch.onnx. */
export const exported = ['bert', 'distilbert', 'roberta', 'mpnet', 'modernbert', 'llama', 'gpt2'] as const;
export const exporters = ['traced', 'dynamo'] as const;

export type Exported = (typeof exported)[number];
export type Exporter = (typeof exporters)[number];

/** The bytes of an exported network. */
export function graphOf(network: Exported, exporter: Exporter): Uint8Array {
  const file = new URL(`fixtures/onnx/${network}-${exporter}.onnx.gz`, import.meta.url);
  return new Uint8Array(gunzipSync(readFileSync(file)));
}

/** A storage in memory with an exported network at `graph/model.onnx`. */
export function graphInMemory(network: Exported, exporter: Exporter): Storage & { files: Map<string, Uint8Array> } {
  return memoryStorage(new Map([['graph/model.onnx', graphOf(network, exporter)]]));
}

/** Loads an exported network. */
export function loadGraph(network: Exported, exporter: Exporter, options: OnnxOptions = {}): Promise<OnnxModel> {
  const task = network === 'llama' || network === 'gpt2' ? 'causal-lm' : 'sequence-classification';
  return fromOnnx('graph/model.onnx', { storage: graphInMemory(network, exporter), task, ...options });
}
