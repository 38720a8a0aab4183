import { compactPattern } from '../adapter/budget.js';
import { allocatedRanks, rankedPaths } from '../adapter/ranks.js';
import type { AdapterContents, AdapterFile, TargetConfig } from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { CheckpointError } from '../errors.js';
import { hostTensor, tensorAt, transposed, type HostTensor, type HostTensors } from '../tensors.js';
import { loraFile, readLoraFile, type LoraFileContents } from './lora-file.js';

/** The fields that a gated low-rank method's configuration has. */
interface GatedConfig extends TargetConfig {
  /** The starting rank. */
  readonly r: number;
  /** The numerator of the scaling. */
  readonly loraAlpha: number;
}

/** The unpruned file format of a method with a gate [r] on the ranks of A and B. */
export interface GatedFormat<C extends GatedConfig> {
  /** The `peft_type` of the unpruned format. */
  readonly peftType: string;
  /** The suffix of a module's gate, after its path, e.g. `.gate`. */
  readonly suffix: string;
  /** Options that only further training needs, by their field on disk. */
  readonly fields: Readonly<Record<string, keyof C & string>>;
  /** Returns the scaling of a module's change. It does not depend on the number of ranks left. */
  scaling(site: Site, config: C): number;
}

/** Writes and reads the files of such a method. */
export interface GatedFiles<C extends GatedConfig> {
  /**
   * Converts the adapter to a file. Pruned: PEFT's LORA format without the ranks of zero gates. Otherwise A, B and
   * gates unchanged, unless all ranks have been removed, so that nothing can be trained further.
   */
  toFile(adapter: AdapterContents<C>, options: { readonly pruned: boolean }): AdapterFile;
  /**
   * Reads both formats; gates of the LORA format are ones. @throws CheckpointError naming the tensor or field at fault.
   */
  fromFile(file: AdapterFile): { config: Partial<C>; values: HostTensors };
}

/** Makes the file functions of a gated low-rank method. Its layers must name their gate `gate`. */
export function gatedLoraFiles<C extends GatedConfig>(format: GatedFormat<C>): GatedFiles<C> {
  const { peftType, suffix, fields } = format;
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
  // A file's scaling is alpha / rank, so alpha shrinks with removed ranks. Rounded to 12 digits to remove rounding
  // errors.
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
  throw new CheckpointError(`'${key}' has shape [${gate.shape.join(', ')}]; '${path}.lora_A.weight' needs [${r}]`, key);
}

function onesOf(r: number): HostTensor {
  return hostTensor(new Float32Array(r).fill(1), [r]);
}
