import type { AdapterContents, AdapterLayer, AdapterLayers } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import { sizeOf, type HostTensors } from '../tensors.js';
import { isOfHead } from './head.js';
import { activeAdapter, valuesOf, type PeftModel } from './peft-model.js';

/** How many parameters a model with an adapter has, by what happens to them. */
export interface ParameterCount {
  /** Trained by the adapter, head left out. */
  readonly trainable: number;
  /** Trained beside it: the head and `modulesToSave`. */
  readonly saved: number;
  /** Scalars that the adapter needs on disk, head left out: what budgets are counted in. */
  readonly stored: number;
  /** The frozen network, head left out. */
  readonly base: number;
}

/** Returns how many parameters a model and its active adapter have now. @throws ConfigError when no adapter is active. */
export function countParameters(peft: PeftModel): ParameterCount {
  const { model } = peft;
  const adapter = activeAdapter(peft);
  return {
    trainable: trainableOf(adapter.layers),
    saved: trainableOf(adapter.saved),
    stored: storedParameters(adapter.layers, adapter.values),
    base: baseParameters(model),
  };
}

/** Returns the parameters of a model, its head left out. */
export function baseParameters(model: Model): number {
  const outsideHead = Object.entries(model.weights).filter(([name]) => !isOfHead(model, name));
  return sum(outsideHead, ([, { shape }]) => sizeOf(shape));
}

/** Returns PEFT's line: trainable (head included), all, and the share in percent with four decimals. */
export function describeParameters(peft: PeftModel): string {
  const { trainable, saved, base } = countParameters(peft);
  const trained = trainable + saved;
  const all = base + trained;
  return `trainable params: ${thousands(trained)} || all params: ${thousands(all)} || trainable%: ${((100 * trained) / all).toFixed(4)}`;
}

/** Returns the scalars on disk of these layers with these values (`<path>.<name>`). */
export function storedParameters(layers: AdapterLayers, values: HostTensors): number {
  return sum(Object.values(layers), (layer) => layer.storedParameters(valuesOf(layer, values)));
}

/** Returns the ranks that are alive, by module path, for the layers that have one. */
export function activeRanks(layers: AdapterLayers, values: HostTensors): Record<string, number> {
  const ranks: Record<string, number> = {};
  for (const [path, layer] of Object.entries(layers)) {
    const rank = layer.rank?.(valuesOf(layer, values));
    if (rank !== undefined) ranks[path] = rank;
  }
  return ranks;
}

/** Returns the bytes of AdamW's state for what an adapter trains: two float32 moments of every scalar, head left out. */
export function optimizerStateBytes({ layers }: Pick<AdapterContents, 'layers'>): number {
  return 2 * 4 * trainableOf(layers);
}

function trainableOf(layers: AdapterLayers): number {
  return sum(Object.values(layers), (layer: AdapterLayer) =>
    sum(
      Object.values(layer.params).filter((spec) => spec.trainable),
      (spec) => sizeOf(spec.initial.shape),
    ),
  );
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}

function thousands(count: number): string {
  return count.toLocaleString('en-US');
}
