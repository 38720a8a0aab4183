import { assertArgument } from '../config.js';
import type { AdapterLayer, AdapterLayers } from '../contracts/layer.js';
import type { AdapterContents } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import { sizeOf, sumOf, type HostTensors } from '../tensors.js';
import { isInHead } from '../head.js';
import { aRecord, namedTensors } from '../kinds.js';
import { activeAdapter, valuesOf, type PeftModel } from './peft-model.js';
import { rankCost } from '../ranks/budget.js';

/** The number of parameters of a model with an adapter, by kind. */
export interface ParameterCount {
  /** Parameters that the adapter trains, head excluded. */
  readonly trainable: number;
  /** Parameters trained besides the adapter's own: the head, `modulesToSave` and the rows of trained tokens. */
  readonly saved: number;
  /** Numbers that the adapter stores on disk, head excluded. Budgets count these. */
  readonly stored: number;
  /** Parameters of the frozen network, head excluded. */
  readonly base: number;
}

/**
 * Returns the current parameter counts of a model and its active adapter. @throws ConfigError when no adapter is
 * active.
 */
export function countParameters(peft: PeftModel): ParameterCount {
  const adapter = activeAdapter(peft);
  return {
    trainable: trainableOf(adapter.layers),
    saved: trainableOf(adapter.saved),
    stored: storedParameters(adapter.layers, adapter.values),
    base: baseParameters(peft.model),
  };
}

/** Returns the number of parameters of a model, head excluded. */
export function baseParameters(model: Model): number {
  const outsideHead = Object.entries(model.weights).filter(([name]) => !isInHead(model, name));
  return sumOf(outsideHead, ([, { shape }]) => sizeOf(shape));
}

/**
 * Returns PEFT's summary line: trainable parameters (head included), all parameters, and the percentage with four
 * decimals.
 */
export function describeParameters(peft: PeftModel): string {
  const { trainable, saved, base } = countParameters(peft);
  const trained = trainable + saved;
  const all = base + trained;
  return `trainable params: ${thousands(trained)} || all params: ${thousands(all)} || trainable%: ${((100 * trained) / all).toFixed(4)}`;
}

/**
 * Returns how many numbers these layers store on disk, given their values (`<path>.<name>`). PEFT has no adapter
 * without modules, so one that has lost every rank stores one rank of its first module, all zeros.
 */
export function storedParameters(layers: AdapterLayers, values: HostTensors): number {
  const all = Object.values(layers);
  const own = sumOf(all, (layer) => layer.storedParameters(valuesOf(layer, values)));
  const [first] = all;
  return own === 0 && first ? rankCost(first.site) : own + sharedParameters(all);
}

/** Returns how many numbers the layers' files hold once for all modules. */
function sharedParameters(layers: readonly AdapterLayer[]): number {
  const states = layers.flatMap(({ state = {} }) => Object.values(state)).filter(({ inFile }) => inFile);
  return sumOf([...new Map(states.map((spec) => [spec.shared, spec])).values()], ({ initial }) =>
    sizeOf(initial.shape),
  );
}

/** Returns the number of ranks alive by module path, for layers that have ranks. */
export function activeRanks(layers: AdapterLayers, values: HostTensors): Record<string, number> {
  assertArgument('layers', layers, aRecord);
  assertArgument('values', values, namedTensors);
  const ranks: Record<string, number> = {};
  for (const [path, layer] of Object.entries(layers)) {
    const rank = layer.rank?.(valuesOf(layer, values));
    if (rank !== undefined) ranks[path] = rank;
  }
  return ranks;
}

/** Returns the bytes of AdamW's state for an adapter, head excluded: two float32 moments per trained parameter. */
export function optimizerStateBytes({ layers }: Pick<AdapterContents, 'layers'>): number {
  return 2 * 4 * trainableOf(layers);
}

function trainableOf(layers: AdapterLayers): number {
  const specs = Object.values(layers).flatMap(({ params }) => Object.values(params));
  return sumOf(specs, ({ trainable, initial }) => (trainable ? sizeOf(initial.shape) : 0));
}

/** A count with separators: `49,920`. */
export function thousands(count: number): string {
  return count.toLocaleString('en-US');
}
