import { compactPattern } from '../adapter/budget.js';
import { allocatedRanks, rankedPaths } from '../adapter/ranks.js';
import type { AdapterContents, AdapterFile, TargetConfig } from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { CheckpointError } from '../errors.js';
import { hostTensor, tensorAt, transposed, type HostTensor, type HostTensors } from '../tensors.js';
import { loraFile, readLoraFile, type LoraFileContents } from './lora-file.js';

/** What a configuration of a low-rank method with gates has. */
interface GatedConfig extends TargetConfig {
  readonly r: number;
  readonly loraAlpha: number;
}

/** How a method that has a gate [r] on the ranks of A and B is written while it trains. */
export interface GatedFormat<C extends GatedConfig> {
  readonly peftType: string;
  /** What follows the path of a module in the name of its gate, e.g. `.gate`. */
  readonly suffix: string;
  /** Options that only further training needs, by their fields on disk. */
  readonly fields: Readonly<Record<string, keyof C & string>>;
  /** Tensors [r] beside the gate that no file holds: they are read as ones. */
  readonly ones: readonly string[];
  /** What a module's change is scaled by, whatever ranks it holds. */
  scaling(site: Site, config: C): number;
}

/** What reads and writes the files of such a method. */
export interface GatedFiles<C extends GatedConfig> {
  /**
   * Pruned: PEFT's LORA, without the zero gates' ranks. Otherwise A, B and gates as they are, but for an adapter whose ranks have
   * all been removed, which holds nothing to train further.
   */
  toFile(adapter: AdapterContents<C>, options: { readonly pruned: boolean }): AdapterFile;
  /** Reads both; LORA with gates of one. @throws CheckpointError naming the tensor or field at fault. */
  fromFile(file: AdapterFile): { config: Partial<C>; values: HostTensors };
}

/** The files of a low-rank method with gates. Layers call their gate `gate`. */
export function gatedLoraFiles<C extends GatedConfig>(format: GatedFormat<C>): GatedFiles<C> {
  const { peftType, suffix, fields, ones } = format;
  return {
    toFile: (adapter, { pruned }) =>
      pruned || rankedPaths(adapter.layers).length === 0 ? loraFile(adapter) : unprunedFile(adapter, format),
    fromFile({ config, tensors, ...file }) {
      const isOurs = config.peft_type === peftType;
      const entries = Object.entries(tensors);
      const factors = Object.fromEntries(entries.filter(([key]) => !(isOurs && key.endsWith(suffix))));
      const { values, ...lora } = readLoraFile({ ...file, config, tensors: factors });
      for (const path of lora.targetModules) {
        const r = tensorAt(values, `${path}.loraA`).shape[1] as number;
        values[`${path}.gate`] = isOurs ? readGate(tensors, path, suffix, r) : onesOf(r);
        for (const name of ones) values[`${path}.${name}`] = onesOf(r);
      }
      const present = Object.entries(fields).filter(([field]) => config[field] !== undefined);
      const options = Object.fromEntries(present.map(([field, option]) => [option, config[field]]));
      return { config: { ...lora, ...options } as Partial<C> & Omit<LoraFileContents, 'values'>, values };
    },
  };
}

function unprunedFile<C extends GatedConfig>(
  { config, layers, values }: AdapterContents<C>,
  { peftType, suffix, fields, scaling }: GatedFormat<C>,
): AdapterFile {
  const paths = rankedPaths(layers);
  const tensors: HostTensors = {};
  for (const path of paths) {
    tensors[`${path}.lora_A.weight`] = transposed(tensorAt(values, `${path}.loraA`)); // [in, r] -> [r, in]
    tensors[`${path}.lora_B.weight`] = transposed(tensorAt(values, `${path}.loraB`)); // [r, out] -> [out, r]
    tensors[path + suffix] = tensorAt(values, `${path}.gate`); // [r]
  }
  const ranked = paths.map((path) => tensorAt(layers, path));
  const ranks = Object.fromEntries(ranked.map((layer) => [layer.site.path, allocatedRanks(layer)]));
  // A file's scaling is alpha / rank: where ranks have been removed, alpha goes with them. Rounding's last digits are left out.
  const alphas = Object.fromEntries(
    ranked.map((layer) => [
      layer.site.path,
      Number((scaling(layer.site, config) * allocatedRanks(layer)).toPrecision(12)),
    ]),
  );
  const removed = Object.keys(layers).filter((path) => !paths.includes(path));
  return {
    config: {
      peft_type: peftType,
      r: config.r,
      lora_alpha: config.loraAlpha,
      rank_pattern: compactPattern(ranks, config.r),
      alpha_pattern: compactPattern(alphas, config.loraAlpha),
      target_modules: paths,
      exclude_modules: removed.length === 0 ? null : removed,
      ...Object.fromEntries(Object.entries(fields).map(([field, option]) => [field, config[option]])),
    },
    tensors,
  };
}

function readGate(tensors: HostTensors, path: string, suffix: string, r: number): HostTensor {
  const key = path + suffix;
  const gate = tensors[key];
  if (!gate) throw new CheckpointError(`the tensor '${key}' is missing`, key);
  if (gate.shape.join() === String(r)) return gate;
  throw new CheckpointError(
    `'${key}' has shape [${gate.shape.join(', ')}]; '${path}.lora_A.weight' asks for [${r}]`,
    key,
  );
}

function onesOf(r: number): HostTensor {
  return hostTensor(new Float32Array(r).fill(1), [r]);
}
