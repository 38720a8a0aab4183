import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { activeAdapter, attach, memoryStorage, type Model, type PeftModel, type Storage } from '@peftjs/core';
import { floats, mapValues, type HostTensor } from '@peftjs/core/method';
import { replaceAdapter } from '@peftjs/core/model';
import { lora } from '@peftjs/lora';
import { fromOnnx, type OnnxModel, type OnnxOptions } from '@peftjs/onnx';

/** The networks that tools/golden/onnx.py exported, each with both exporters of torch.onnx. */
export const exported = ['bert', 'distilbert', 'roberta', 'mpnet', 'modernbert', 'llama', 'gpt2'] as const;
export const exporters = ['traced', 'dynamo'] as const;

export type Exported = (typeof exported)[number];
export type Exporter = (typeof exporters)[number];

/** A file of the fixtures. */
export function fixture(name: string): Uint8Array {
  return new Uint8Array(gunzipSync(readFileSync(new URL(`fixtures/onnx/${name}.gz`, import.meta.url))));
}

/** A storage in memory with an exported network at `graph/model.onnx`. */
export function graphInMemory(network: Exported, exporter: Exporter): Storage & { files: Map<string, Uint8Array> } {
  return memoryStorage(new Map([['graph/model.onnx', fixture(`${network}-${exporter}.onnx`)]]));
}

/** The hidden states of DistilBERT: as exported, in half precision, or with the weights in another file. */
export type Features = 'features' | 'half' | 'external';

/** A storage in memory with the graph of hidden states. */
export function featuresInMemory(kind: Features): Storage & { files: Map<string, Uint8Array> } {
  const beside =
    kind === 'external' ? [['graph/model.onnx_data', fixture('distilbert-external.onnx_data')] as const] : [];
  return memoryStorage(new Map([['graph/model.onnx', fixture(`distilbert-${kind}.onnx`)], ...beside]));
}

/** Loads an exported network. */
export function loadGraph(network: Exported, exporter: Exporter, options: OnnxOptions = {}): Promise<OnnxModel> {
  const task = network === 'llama' || network === 'gpt2' ? 'causal-lm' : 'sequence-classification';
  return fromOnnx('graph/model.onnx', { storage: graphInMemory(network, exporter), task, ...options });
}

/** A LoRA that changes the outputs, with a head that is not that of the file. */
export function adapted(model: Model): PeftModel {
  const peft = attach(model, lora({ r: 2, targetModules: 'all-linear' }), { seed: 1 });
  const moved = ({ data, ...spec }: HostTensor, name: string): HostTensor => ({
    ...spec,
    data: floats({ data, ...spec }, name).map((x, at) => x + 0.1 * Math.sin(at + name.length)),
  });
  replaceAdapter(peft, { values: mapValues(activeAdapter(peft).values, moved) });
  return peft;
}
